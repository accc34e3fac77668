"""A store of SleepFM embeddings, with search across modalities and SQL over the metadata.

>>> import sleepfm_index
>>> report = sleepfm_index.build("sleepfm-store", ["nights/"])  # doctest: +SKIP
>>> with sleepfm_index.open("sleepfm-store") as store:  # doctest: +SKIP
...     store.query("ecg", to="bas", clip=17).to_pandas()
...     store.sql("SELECT stage, count(*) FROM clips GROUP BY stage").to_pandas()
...     store.evaluate().to_pandas()

Opening and searching a store does not import torch. Building with OpenVINO does so only in the
first build with a set of weights.
"""

import lazy_loader

from sleepfm import __version__ as __version__

# __init__.pyi lists the names and their modules. A module is imported when a name of it is used:
# building needs torch and the readers, which take seconds to import; searching does not.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
