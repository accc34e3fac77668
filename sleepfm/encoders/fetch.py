"""Bring weights into the user's cache: from the authors' repository, or from a file at hand."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sleepfm.atomic_write import write_bytes
from sleepfm.encoders import cache
from sleepfm.encoders.load import load_weights
from sleepfm.encoders.weights import Weights
from sleepfm.errors import WeightsError


@dataclass(frozen=True)
class Published:
    """Weights that somebody published.

    Parameters
    ----------
    url : str
        Of the file.
    blob : str
        Its git blob id: SHA-1 over ``blob <size>``, a zero byte, and the content.
    licence : str
        Under which it was published.
    page : str
        Where a person finds it.
    """

    url: str
    blob: str
    licence: str
    page: str


PUBLISHED: Final = {
    "sleepfm-icml2024": Published(
        url="https://raw.githubusercontent.com/rthapa84/sleepfm-codebase/main/sleepfm/checkpoint/best.pt",
        blob="2a6962f0512f9c8cd6f6b12fe698fe96597eeac0",
        licence="MIT",
        page="https://github.com/rthapa84/sleepfm-codebase",
    )
}
"""What ``fetch`` knows, by name."""


def git_blob_id(content: bytes) -> str:
    """Name of a content in git, e.g. ``git hash-object FILE``."""
    # git's own name of the content; the file is also checked tensor by tensor before it is used
    digest = hashlib.sha1(b"blob %d\0" % len(content), usedforsecurity=False)
    digest.update(content)
    return digest.hexdigest()


def fetch(name: str, *, url: str | None = None, blob: str | None = None) -> Path:
    """Download published weights into the cache, and check that they are what was published.

    Parameters
    ----------
    name : str
        A key of :data:`PUBLISHED`.
    url, blob : str, optional
        From elsewhere (a mirror), or of another content.

    Returns
    -------
    Path
        The file in the cache; one that is there already and right is not fetched again.

    Raises
    ------
    WeightsError
        If the name is unknown, the download fails, or the content is not what was published.
    """
    import pooch

    if name not in PUBLISHED:
        raise WeightsError(
            f"There is nothing to fetch by the name {name}; known: {', '.join(PUBLISHED)}."
        )
    known = PUBLISHED[name]
    url, blob = url or known.url, blob or known.blob
    path = cache.cache_folder() / f"{name}.pt"
    if path.is_file() and git_blob_id(path.read_bytes()) == blob:
        return path
    logging.getLogger("pooch").setLevel(logging.WARNING)
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pooch.HTTPDownloader(timeout=60)(url, part, None)
        content = part.read_bytes()
    except OSError as error:  # requests' errors are OSErrors too
        raise WeightsError(
            f"{name} cannot be downloaded from {url}; without a network, take "
            f"sleepfm/checkpoint/best.pt from {known.page} and put it at {path}."
        ) from error
    finally:
        part.unlink(missing_ok=True)
    if git_blob_id(content) != blob:
        raise WeightsError(
            f"What came from {url} is not {name}: its git blob id is {git_blob_id(content)}, not "
            f"{blob}; it was truncated or replaced, and is not kept. Try again."
        )
    return write_bytes(path, content)


def import_weights(source: str | os.PathLike[str], name: str | None = None) -> Weights:
    """Copy weights into the cache, so that their name finds them.

    Parameters
    ----------
    source : path
        A safetensors file of this project or a checkpoint of the authors.
    name : str, optional
        How to call them; by default the name they bear.

    Raises
    ------
    WeightsError
        If they do not load, or the name is taken by other weights.
    """
    weights = load_weights(source)
    called = name or weights.name
    if called.startswith("untrained") or not re.fullmatch(r"\w[\w.-]*", called):
        raise WeightsError(f"Weights cannot be called {called}; use letters, digits, - and _.")
    taken = cache.known().get(called)
    if taken is not None and load_weights(taken).sha256 != weights.sha256:
        raise WeightsError(f"Other weights are called {called} already; choose another --name.")
    weights.save(cache.cache_folder() / f"{called}.safetensors")
    return weights
