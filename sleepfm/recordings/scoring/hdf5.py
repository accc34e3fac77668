"""Hypnograms in HDF5: the Dreem Open Datasets, and the annotation files of BDSP (CAISR).

DOD: ``hypnogram``, one code (as in YASA) per 30 s. BDSP: ``annotations/stage``,
``annotations/resp``, ``annotations/arousal`` and ``annotations/limb``, one code per sample
(https://bdsp.io, CAISR).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.errors import AnnotationError
from sleepfm.recordings.named_files import ForeignContentError, check_hdf5
from sleepfm.recordings.scoring.stage_words import CODINGS
from sleepfm.recordings.scoring.vocabulary import EPOCH_S, Annotation, Notes, Reason, Scored

_SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
_MAX_CHANGES: Final = 1 << 17
_MAX_SAMPLES: Final = 100 * 3600 * 512
_EVENTS: Final = {
    "resp": {1: "obstructive apnea", 2: "central apnea", 3: "mixed apnea", 4: "hypopnea",
             5: "RERA"},
    "arousal": {1: "arousal"},
    "limb": {1: "limb movement", 2: "periodic limb movement"},
}  # fmt: skip


class Hdf5:
    """HDF5 with ``hypnogram`` or ``annotations``, in the signal file or in a separate file."""

    endings: tuple[str, ...] = (".h5", ".hdf5")

    def sniff(self, head: bytes) -> bool:
        """Return whether the file is HDF5.

        Parameters
        ----------
        head : bytes
            First 4 KiB of the file.

        Returns
        -------
        bool
        """
        return head.startswith(_SIGNATURE)

    def read(self, path: Path, scored: Scored) -> Notes:
        """Read a file; see :class:`~.reader.ScoringReader`.

        Parameters
        ----------
        path : Path
            Scoring file.
        scored : Scored
            The signals that it scores.

        Returns
        -------
        notes : Notes
            Annotations as written, and what was dropped.
        """
        try:
            import h5py
        except ImportError as error:
            raise AnnotationError("needs h5py: pip install 'sleepfm-index[wfdb]'") from error
        try:
            with h5py.File(path, "r") as file:
                check_hdf5(file)
                if "hypnogram" in file:
                    return Notes(tuple(_hypnogram(_codes(file["hypnogram"]), scored)))
                if "annotations" in file:
                    dropped: Counter[Reason] = Counter()
                    return Notes(tuple(_tracks(file, dropped)), dropped=dropped)
        except ForeignContentError as error:
            raise AnnotationError(str(error)) from error
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise AnnotationError("is not an HDF5 file with a known layout") from error
        raise AnnotationError("holds neither 'hypnogram' nor 'annotations'")


def _codes(dataset: Any) -> NDArray[np.int64]:
    if dataset.size > _MAX_SAMPLES:
        raise AnnotationError("is longer than any night")
    values = np.nan_to_num(np.asarray(dataset, dtype=np.float64).ravel(), nan=-1.0)
    codes: NDArray[np.int64] = np.rint(values).astype(np.int64)
    return codes


def _hypnogram(codes: NDArray[np.int64], scored: Scored) -> list[Annotation]:
    """Return one stage per epoch; in DOD, -1 means unscored."""
    epoch_s = scored.epoch_s or EPOCH_S
    coding = CODINGS[scored.coding] if scored.coding else CODINGS["yasa"] | {"-1": "UNS"}
    return [
        Annotation(i * epoch_s, epoch_s, f"{coding.get(str(code), f'code {code}')}|{code}", "stage")
        for i, code in enumerate(codes.tolist())
    ]


def _tracks(file: Any, dropped: Counter[Reason]) -> list[Annotation]:
    """Convert runs of one code in each track to annotations; count runs of unknown codes."""
    rate = float(np.ravel(file.attrs.get("sampling_rate", file.attrs.get("fs", np.nan)))[0])
    if not np.isfinite(rate) or rate <= 0:
        raise AnnotationError("has no sampling rate of its annotations ('sampling_rate')")
    notes = []
    group = file["annotations"]
    for name in group:
        codes = _codes(group[name])
        edges = np.flatnonzero(np.diff(codes)) + 1
        if len(edges) > _MAX_CHANGES:
            raise AnnotationError("changes more often than any night")
        starts, ends = np.r_[0, edges], np.r_[edges, len(codes)]
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            code = int(codes[start])
            onset, length = start / rate, (end - start) / rate
            if name == "stage":
                stage = CODINGS["bdsp"].get(str(code), f"code {code}")
                notes.append(Annotation(onset, length, f"{stage}|{code}", "stage"))
            elif code in _EVENTS.get(name, {}):
                notes.append(Annotation(onset, length, _EVENTS[name][code]))
            else:
                dropped["unknown word"] += code > 0
    return notes
