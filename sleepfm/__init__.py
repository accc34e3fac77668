"""From a polysomnographic recording to SleepFM vectors.

A recording (:mod:`sleepfm.recordings`) is cut into 30 s clips (:mod:`sleepfm.clips`) as required by
a contract (:mod:`sleepfm.contract`), and encoded into 512-d unit vectors (:mod:`sleepfm.encoders`).
Importing this package imports neither torch nor a reader; each module imports what it needs.
"""

__version__ = "0.2.0"
