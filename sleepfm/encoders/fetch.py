"""Add weights to the user's cache: from the authors' repository, or from a local file."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
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
    """Weights that can be downloaded.

    Parameters
    ----------
    url : str
        Address of the file.
    blob : str
        Its git blob id: SHA-1 over ``blob <size>``, a zero byte, and the content.
    licence : str
        Licence of the file.
    page : str
        Web page that describes it.
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
"""Downloadable weights by name."""

_MAX_BYTES: Final = 1 << 30
_TIMEOUT_S: Final = 60
_MAX_DURATION_S: Final = 3600


class _Body:
    """Body of a response in memory, limited in size and duration.

    Parameters
    ----------
    name : str
        Name of the weights, for the message.
    """

    def __init__(self, name: str) -> None:
        self.content = bytearray()
        self._name = name
        self._end = time.monotonic() + _MAX_DURATION_S

    def write(self, piece: bytes) -> None:
        """Take the next piece.

        Parameters
        ----------
        piece : bytes
            The piece.

        Raises
        ------
        WeightsError
            If the body is too large, or takes too long.
        """
        if len(self.content) + len(piece) > _MAX_BYTES:
            raise WeightsError(
                f"the answer for {self._name} is larger than {_MAX_BYTES >> 30} GB; nothing was "
                "kept"
            )
        if time.monotonic() > self._end:
            raise WeightsError(
                f"{self._name} was not downloaded within {_MAX_DURATION_S // 60} min; try again, "
                "or copy the file into the cache"
            )
        self.content += piece

    def flush(self) -> None:
        """Do nothing: all is in memory."""


def git_blob_id(content: bytes) -> str:
    """Compute the git blob id of a file, as ``git hash-object FILE`` does.

    Parameters
    ----------
    content : bytes
        The whole file.

    Returns
    -------
    str
        40 hexadecimal digits.
    """
    # SHA-1 identifies the file in git; every tensor is also checked before the weights are used
    digest = hashlib.sha1(b"blob %d\0" % len(content), usedforsecurity=False)
    digest.update(content)
    return digest.hexdigest()


def fetch(name: str, *, url: str | None = None, blob: str | None = None) -> Path:
    """Download published weights into the cache and verify their published hash.

    Parameters
    ----------
    name : str
        A key of :data:`PUBLISHED`.
    url : str, optional
        Another address of the same file, such as a mirror.
    blob : str, optional
        Another expected git blob id.

    Returns
    -------
    Path
        The file in the cache; a file with the right hash is not downloaded again.

    Raises
    ------
    WeightsError
        If the name is unknown, the download fails, or the hash differs.
    OutputError
        If the cache cannot be written.
    """
    import pooch

    if name not in PUBLISHED:
        raise WeightsError(
            f"there are no downloadable weights named {name}; choose from {', '.join(PUBLISHED)}"
        )
    known = PUBLISHED[name]
    url, blob = url or known.url, blob or known.blob
    path = cache.cache_folder() / f"{name}.pt"
    if path.is_file() and git_blob_id(path.read_bytes()) == blob:
        return path
    logging.getLogger("pooch").setLevel(logging.WARNING)
    body = _Body(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pooch.HTTPDownloader(timeout=_TIMEOUT_S)(url, body, None)
    except OSError as error:  # requests' errors are OSErrors too
        raise WeightsError(
            f"{name} cannot be downloaded from {url}; without a network, copy "
            f"sleepfm/checkpoint/best.pt from {known.page} to {path}"
        ) from error
    content = bytes(body.content)
    if git_blob_id(content) != blob:
        raise WeightsError(
            f"the file from {url} is not {name}: its git blob id is {git_blob_id(content)}, not "
            f"{blob}; it was truncated or replaced and has been discarded; try again"
        )
    return write_bytes(path, content)


def import_weights(source: str | os.PathLike[str], name: str | None = None) -> Weights:
    """Copy weights into the cache, so that they can be used by name.

    Parameters
    ----------
    source : path
        A safetensors file of this project or a checkpoint of the authors.
    name : str, optional
        Name in the cache; by default the name in the file.

    Returns
    -------
    Weights
        The weights that were copied.

    Raises
    ------
    WeightsError
        If they cannot be loaded, or other weights have this name.
    OutputError
        If the cache cannot be written.
    """
    weights = load_weights(source)
    chosen = name or weights.name
    if chosen.startswith("untrained") or not re.fullmatch(r"\w[\w.-]*", chosen):
        raise WeightsError(f"invalid name {chosen!r} for weights; use letters, digits, - and _")
    existing = cache.available().get(chosen)
    if existing is not None and load_weights(existing).sha256 != weights.sha256:
        raise WeightsError(f"the cache has other weights named {chosen}; choose another --name")
    weights.save(cache.cache_folder() / f"{chosen}.safetensors")
    return weights
