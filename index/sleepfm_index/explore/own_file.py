"""A recording that is handed to the server: kept for the session, prepared and encoded there."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.clips import Clips
from sleepfm.recordings.channels import ChannelMap
from sleepfm.recordings.recording import Recording
from sleepfm_index.errors import QueryError
from sleepfm_index.query.encode_clip import OwnRecording
from sleepfm_index.query.origin import mean_vector
from sleepfm_index.reader import Reader

LARGEST: Final = 4 << 30
"""Maximum size of a file in bytes."""
_MOST: Final = 8


@dataclass(frozen=True)
class _Given:
    path: Path
    clips: OwnRecording


class OwnFiles:
    """Files that were handed in; they lie in a private folder that goes with the server."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._given: dict[str, _Given] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Remove the files."""
        with self._lock:
            self._given.clear()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None

    def place(self, name: str) -> Path:
        """Return a new place for a file, which keeps no more of its name than its ending.

        Parameters
        ----------
        name : str
            Name of the file as it was handed in.
        """
        endings = "".join(Path(name).suffixes[-2:]).lower()
        if not endings or not all(c.isalnum() or c == "." for c in endings):
            raise QueryError("the file name has no known extension such as .edf")
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="sleepfm-explore-"))
            folder = self._folder / secrets.token_hex(6)
            folder.mkdir(mode=0o700)
        return folder / f"recording{endings}"

    def take(self, store: Reader, path: Path) -> dict[str, Any]:
        """Prepare a file, and say what is in it.

        Parameters
        ----------
        store : Reader
            The open store.
        path : Path
            The file.

        Raises
        ------
        RecordingError, ChannelError
            If it is no recording, or none of its channels can be used.
        QueryError
            If the store's weights cannot be loaded.
        """
        try:
            manifest = store.manifest
            own = OwnRecording.open(manifest.weights, manifest.contract, manifest.choices, path)
        except BaseException:
            shutil.rmtree(path.parent, ignore_errors=True)
            raise
        key = path.parent.name
        with self._lock:
            self._given[key] = _Given(path, own)
            while len(self._given) > _MOST:
                oldest = next(iter(self._given))
                shutil.rmtree(self._given.pop(oldest).path.parent, ignore_errors=True)
        clips = own.clips
        return {
            "file": key,
            "clips": len(clips),
            "start_s": clips.start_s.tolist(),
            "stage": list(clips.stage),
            "duration_s": own.recording.duration_s,
            "slots": sorted(own.channels.slots),
            "warnings": [
                *own.recording.warnings,
                *own.channels.warnings,
                *own.unlike(tuple(clips.signals)),
            ],
        }

    def vector(
        self, store: Reader, key: str, at_s: float, modalities: Sequence[str]
    ) -> tuple[NDArray[np.float32], str]:
        """Encode the clip at a time, in seconds from the start, and say which it is.

        Parameters
        ----------
        store : Reader
            The open store.
        key : str
            Key of the file.
        at_s : float
            Time from the start, in seconds.
        modalities : sequence of str
            Modalities whose vectors are averaged.
        """
        own = self._of(key).clips
        vectors = own.encode(f"+{at_s:.3f}", tuple(modalities))
        return mean_vector(vectors), f"the file at +{at_s:g} s"

    def recording(self, key: str) -> tuple[Recording, ChannelMap, Clips]:
        """Return a file as it was read.

        Parameters
        ----------
        key : str
            Key of the file.
        """
        own = self._of(key).clips
        return own.recording, own.channels, own.clips

    def _of(self, key: str) -> _Given:
        with self._lock:
            if key not in self._given:
                raise QueryError("this file is no longer available; upload it again")
            return self._given[key]
