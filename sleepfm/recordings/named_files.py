"""Files that a recording names inside itself: they lie beside it, or it is not read.

A file of a stranger could otherwise have any file of this machine read as signals, or wait for ever
at a pipe.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from sleepfm.errors import RecordingError

_ANNEX: Final = "/.git/annex/objects/"
"""Where git-annex, and so DataLad, keeps what the links of a dataset lead to."""
_DEEPEST: Final = 16
_MOST_OBJECTS: Final = 20_000


class ForeignContentError(ValueError):
    """Content of a file lies in other files."""


def check_beside(path: Path, named: Path) -> None:
    """Refuse a file that lies elsewhere than the recording that names it, or is no plain file.

    Parameters
    ----------
    path : Path
        The recording.
    named : Path
        The file that it names; one that is not there passes.

    Raises
    ------
    RecordingError
        Saying which file of the recording it is, without its folder.
    """
    try:
        target = named.resolve()
        annexed = _ANNEX in target.as_posix() and named.parent.resolve() == path.parent.resolve()
        inside = target.is_relative_to(path.parent.resolve()) or annexed
        plain = named.is_file() or not named.exists()
    except (OSError, ValueError, RuntimeError):  # a loop of links, a NUL
        inside = plain = False
    if not inside:
        raise RecordingError(
            f"{path.name} names a file outside its own folder; put all files of a recording into "
            "one folder"
        )
    if not plain:
        raise RecordingError(f"{path.name} names {named.name}, which is not a plain file")


def check_hdf5(file: Any) -> None:
    """Refuse an HDF5 file whose content lies in other files.

    Parameters
    ----------
    file : h5py.File
        The open file.

    Raises
    ------
    ForeignContentError
        If it has links to other files, external or virtual datasets, or more objects than a
        recording has; the sentence goes on from the name of the file.
    """
    import h5py

    left = _MOST_OBJECTS

    def visit(group: Any, depth: int) -> None:
        nonlocal left
        for name in group:
            left -= 1
            if left < 0 or depth > _DEEPEST:
                raise ForeignContentError("holds more objects than a recording has")
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise ForeignContentError("links to another file; put its content into one file")
            if isinstance(link, h5py.SoftLink):
                continue  # within the file: what it leads to is visited where it lies
            item = group[name]
            if isinstance(item, h5py.Group):
                visit(item, depth + 1)
            elif isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                raise ForeignContentError("has its values in another file; put them into one file")

    visit(file, 0)
