"""Marks of hypnograms predicted by a probe, so that they are never read as scoring.

The marks are inside the file, so that a renamed copy next to a recording is recognised as well.
"""

from __future__ import annotations

from typing import Final

COLUMN: Final = "predicted_stage"
"""Heading of the stage column in a table."""
EQUIPMENT: Final = "sleepfm-index_prediction"
"""Recording equipment in the header of an EDF+ file."""
ENDINGS: Final = (".predicted.csv", ".predicted.edf")
"""Extensions of predicted hypnograms."""


def is_predicted(head: bytes) -> bool:
    """Return whether a file is a hypnogram predicted by a probe.

    Parameters
    ----------
    head : bytes
        First 4 KiB of the file.

    Returns
    -------
    bool
    """
    first = head.partition(b"\n")[0]
    return COLUMN.encode() in first or EQUIPMENT.encode() in head[88:168]
