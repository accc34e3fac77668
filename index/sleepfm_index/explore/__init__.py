"""A local page to look at a store with, and the HTTP interface that it stands on.

:mod:`.endpoints` lists what can be asked; :mod:`.session` holds the open store; each of
:mod:`.asking`, :mod:`.embedding_map`, :mod:`.nights`, :mod:`.signals`, :mod:`.own_file` and
:mod:`.labelling` answers one kind of question. :mod:`.app` makes an ASGI application of them behind
:mod:`.guard`, and :mod:`.server` runs it. The page's sources are in ``web/``, its built files in
``static/``.
"""
