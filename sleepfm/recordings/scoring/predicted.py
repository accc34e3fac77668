"""The marks of a hypnogram that a probe predicted, by which it never becomes scoring.

They are inside the file, so that one that was copied beside a recording under another name is known
as well.
"""

from __future__ import annotations

from typing import Final

COLUMN: Final = "predicted_stage"
"""Heading of the stages in a table."""
EQUIPMENT: Final = "sleepfm-index_prediction"
"""What made the recording, in the header of an EDF+ file."""
ENDINGS: Final = (".predicted.csv", ".predicted.edf")
"""Endings of the files."""


def is_predicted(head: bytes) -> bool:
    """Whether a file is a hypnogram that a probe predicted.

    Parameters
    ----------
    head : bytes
        Its first 4 KiB.
    """
    first = head.partition(b"\n")[0]
    return COLUMN.encode() in first or EQUIPMENT.encode() in head[88:168]
