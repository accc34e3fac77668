"""Reading of recordings: one reader per format, channels and scoring."""

import lazy_loader

# __init__.pyi lists the names and their modules. A reader is imported when it is used: the words of
# the scoring, which a store names its columns by, need none.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
