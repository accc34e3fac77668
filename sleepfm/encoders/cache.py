"""Weights files: those shipped with the package, and those in the user's cache."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import platformdirs

from sleepfm.encoders.external import external_names
from sleepfm.errors import WeightsError

SHIPPED: Final = Path(__file__).parent / "data"
"""Folder of the weights that come with the package."""

SUFFIXES: Final = (".safetensors", ".pt")


def cache_folder() -> Path:
    """Locate the user's weights: ``$SLEEPFM_CACHE``, else the platform's cache folder.

    Returns
    -------
    Path
        The folder, which need not exist.
    """
    configured = os.environ.get("SLEEPFM_CACHE")
    return (
        Path(configured)
        if configured
        else platformdirs.user_cache_path("sleepfm-index") / "weights"
    )


def available() -> dict[str, Path]:
    """List the weights files on this machine; the user's take precedence over shipped ones.

    Returns
    -------
    dict of str to Path
        The file of each name.
    """
    files: dict[str, Path] = {}
    for folder in (cache_folder(), SHIPPED):
        for suffix in SUFFIXES:
            for file in sorted(folder.glob(f"*{suffix}")):
                files.setdefault(file.stem, file)
    return files


def locate(name_or_path: str) -> Path:
    """Find a weights file by its path or by the name of the weights.

    Parameters
    ----------
    name_or_path : str
        A path, or one of the names of :func:`available`.

    Returns
    -------
    Path
        An existing file.

    Raises
    ------
    WeightsError
        If there is no such file or name.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    if path.suffix in SUFFIXES or len(path.parts) > 1:
        raise WeightsError(f"there is no weights file {name_or_path}")
    files = available()
    if name_or_path not in files:
        names = ", ".join(["untrained", *files, *external_names()])
        raise WeightsError(
            f"there are no weights named {name_or_path} (available: {names}); pass the path of a "
            "safetensors file, or see `sleepfm-index weights list`"
        )
    return files[name_or_path]
