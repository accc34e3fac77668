"""Where weights files are: in the package, and in the user's cache."""

from __future__ import annotations

import os
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
