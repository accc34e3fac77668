"""Where weights lie: in the package, and in the user's cache; and how a file is put there."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Final

import platformdirs

from sleepfm.errors import WeightsError

SHIPPED: Final = Path(__file__).parent / "data"
"""Folder of the weights that come with the package."""

SUFFIXES: Final = (".safetensors", ".pt")


def cache_folder() -> Path:
    """Folder of the user's weights: ``$SLEEPFM_CACHE``, else the platform's own for caches."""
    own = os.environ.get("SLEEPFM_CACHE")
    return Path(own) if own else platformdirs.user_cache_path("sleepfm-index") / "weights"


def known() -> dict[str, Path]:
    """Names of the weights at hand and their files; the user's come before shipped ones."""
    files: dict[str, Path] = {}
    for folder in (cache_folder(), SHIPPED):
        for suffix in SUFFIXES:
            for file in sorted(folder.glob(f"*{suffix}")):
                files.setdefault(file.stem, file)
    return files


def locate(name_or_path: str) -> Path:
    """Give the file of weights named by a path or by their name.

    Raises
    ------
    WeightsError
        If there is none.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    if path.suffix in SUFFIXES or len(path.parts) > 1:
        raise WeightsError(f"There is no weights file {name_or_path}.")
    files = known()
    if name_or_path not in files:
        names = ", ".join(["untrained", *files])
        raise WeightsError(
            f"No weights are named {name_or_path} (at hand: {names}); give the path of a "
            "safetensors file, or see `sleepfm-index weights list`."
        )
    return files[name_or_path]


def write_atomically(path: Path, content: bytes) -> Path:
    """Write a file that is whole or not there; an older one stays until the last moment.

    Raises
    ------
    WeightsError
        If it cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        raise WeightsError(f"{path.name} cannot be written: {error.strerror}.") from error
    return path
