"""The supported scoring formats. A new one is a module in this folder and a line here."""

from __future__ import annotations

from typing import Final

from sleepfm.recordings.scoring.domino import Domino
from sleepfm.recordings.scoring.edf_plus import EdfPlus
from sleepfm.recordings.scoring.epochs import EpochList, StanfordStages
from sleepfm.recordings.scoring.gamma import GammaEvents, GammaStages
from sleepfm.recordings.scoring.hdf5 import Hdf5
from sleepfm.recordings.scoring.luna import Luna
from sleepfm.recordings.scoring.marks import Rows, TimedLines
from sleepfm.recordings.scoring.physionet import CincArousals, CincTracks, SlpdbMarks
from sleepfm.recordings.scoring.reader import ScoringReader
from sleepfm.recordings.scoring.tables import Table
from sleepfm.recordings.scoring.xml import NsrrOrProfusion, PhilipsRml

READERS: Final[tuple[ScoringReader, ...]] = (
    NsrrOrProfusion(),
    PhilipsRml(),
    Luna(),
    Domino(),
    GammaEvents(),
    GammaStages(),
    TimedLines(),
    Table(),
    EpochList(),
    Rows(),
    StanfordStages(),
    SlpdbMarks(),
    CincArousals(),
    CincTracks(),
    Hdf5(),
    EdfPlus(),
)
"""Tried in this order; the first whose extension and content match reads the file."""

ENDINGS: Final = tuple(dict.fromkeys(ending for reader in READERS for ending in reader.endings))
"""Extensions of scoring files, in order of preference."""
