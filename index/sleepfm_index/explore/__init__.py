"""A local web page for browsing a store, and its HTTP interface.

:mod:`.endpoints` lists the endpoints; :mod:`.session` keeps the store open. :mod:`.queries`,
:mod:`.embedding_map`, :mod:`.nights`, :mod:`.signals`, :mod:`.uploads` and :mod:`.labelling`
implement them. :mod:`.app` combines them in an ASGI application behind :mod:`.guard`, and
:mod:`.server` runs it. The page's sources are in ``web/``, its built files in ``static/``.
"""
