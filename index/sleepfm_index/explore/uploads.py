"""Uploaded recordings, which are prepared, encoded and kept for the session."""

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
from sleepfm_index.query.encode_clip import FileRecording
from sleepfm_index.query.origin import mean_vector
from sleepfm_index.reader import Reader

MAX_BYTES: Final = 4 << 30
"""Maximum size of a file in bytes."""
_MAX_FILES: Final = 8
"""Maximum number of files; the oldest are removed first."""


@dataclass(frozen=True)
class _Upload:
    path: Path
    clips: FileRecording


class UploadedFiles:
    """Uploaded files, in a private folder that is removed with the server."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._uploads: dict[str, _Upload] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Remove the files."""
        with self._lock:
            self._uploads.clear()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None

    def new_path(self, name: str) -> Path:
        """Return a path for a new file, which keeps only the extension of its name.

        Parameters
        ----------
        name : str
            Name of the uploaded file.

        Raises
        ------
        QueryError
            If the name has no extension.
        """
        extension = "".join(Path(name).suffixes[-2:]).lower()
        if not extension or not all(c.isalnum() or c == "." for c in extension):
            raise QueryError("the file name has no known extension such as .edf")
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="sleepfm-explore-"))
            folder = self._folder / secrets.token_hex(6)
            folder.mkdir(mode=0o700)
        return folder / f"recording{extension}"

    def take(self, store: Reader, path: Path) -> dict[str, Any]:
        """Prepare an uploaded file and describe its contents.

        Parameters
        ----------
        store : Reader
            The open store.
        path : Path
            Path of the file.

        Raises
        ------
        RecordingError, ChannelError
            If the file is not a recording, or no channel can be used.
        QueryError
            If the store's weights cannot be loaded.
        """
        try:
            manifest = store.manifest
            recording = FileRecording.open(
                manifest.weights, manifest.contract, manifest.choices, path
            )
        except BaseException:
            shutil.rmtree(path.parent, ignore_errors=True)
            raise
        key = path.parent.name
        with self._lock:
            self._uploads[key] = _Upload(path, recording)
            while len(self._uploads) > _MAX_FILES:
                oldest = next(iter(self._uploads))
                shutil.rmtree(self._uploads.pop(oldest).path.parent, ignore_errors=True)
        clips = recording.clips
        return {
            "file": key,
            "clips": len(clips),
            "start_s": clips.start_s.tolist(),
            "stage": list(clips.stage),
            "duration_s": recording.recording.duration_s,
            "slots": sorted(recording.channels.slots),
            "warnings": [
                *recording.recording.warnings,
                *recording.channels.warnings,
                *recording.unlike(tuple(recording.clips.signals)),
            ],
        }

    def vector(
        self, store: Reader, key: str, at_s: float, modalities: Sequence[str]
    ) -> tuple[NDArray[np.float32], str]:
        """Encode the clip of an uploaded file at a given time.

        Parameters
        ----------
        store : Reader
            The open store.
        key : str
            Key of the file.
        at_s : float
            Time from the recording's start, in seconds.
        modalities : sequence of str
            Modalities whose vectors are averaged.

        Returns
        -------
        vector : ndarray of float32, shape [512]
            Vector of the clip.
        text : str
            Description of the query.
        """
        recording = self._of(key).clips
        vectors = recording.encode(f"+{at_s:.3f}", tuple(modalities))
        return mean_vector(vectors), f"the file at +{at_s:g} s"

    def recording(self, key: str) -> tuple[Recording, ChannelMap, Clips]:
        """Return the recording, channels and clips of an uploaded file.

        Parameters
        ----------
        key : str
            Key of the file.
        """
        upload = self._of(key).clips
        return upload.recording, upload.channels, upload.clips

    def _of(self, key: str) -> _Upload:
        with self._lock:
            if key not in self._uploads:
                raise QueryError("this file is no longer available; upload it again")
            return self._uploads[key]
