"""Files to which a recording refers: they must lie in or below its folder, or it is not read.

Otherwise a recording from an untrusted source could have any file of this machine read as signals,
or block on a pipe.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from sleepfm.errors import RecordingError

_ANNEX: Final = "/.git/annex/objects/"
"""Folder in which git-annex, and so DataLad, stores the targets of links in a dataset."""
_MAX_DEPTH: Final = 16
_MAX_OBJECTS: Final = 20_000


class ForeignContentError(ValueError):
    """Content of a file is in other files."""


def check_same_folder(path: Path, named: Path) -> None:
    """Refuse a file outside the folder of its recording, or one that is not a regular file.

    Subfolders are allowed, and links into git-annex.

    Parameters
    ----------
    path : Path
        The recording.
    named : Path
        The file to which it refers; a missing file is accepted.

    Raises
    ------
    RecordingError
        If the file is refused; the message does not contain its folder.
    """
    try:
        target = named.resolve()
        annexed = _ANNEX in target.as_posix() and named.parent.resolve() == path.parent.resolve()
        inside = target.is_relative_to(path.parent.resolve()) or annexed
        regular = named.is_file() or not named.exists()
    except (OSError, ValueError, RuntimeError):  # a loop of links, a NUL
        inside = regular = False
    if not inside:
        raise RecordingError(
            f"{path.name} names a file outside its own folder; put all files of a recording into "
            "one folder"
        )
    if not regular:
        raise RecordingError(f"{path.name} names {named.name}, which is not a plain file")


def check_hdf5(file: Any) -> None:
    """Refuse an HDF5 file with content in other files.

    Parameters
    ----------
    file : h5py.File
        The open file.

    Raises
    ------
    ForeignContentError
        If it has links to other files, external or virtual datasets, or more objects than any
        recording; the message continues a sentence that begins with the file name.
    """
    import h5py

    remaining = _MAX_OBJECTS

    def visit(group: Any, depth: int) -> None:
        nonlocal remaining
        for name in group:
            remaining -= 1
            if remaining < 0 or depth > _MAX_DEPTH:
                raise ForeignContentError("holds more objects than a recording has")
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise ForeignContentError("links to another file; put its content into one file")
            if isinstance(link, h5py.SoftLink):
                continue  # within the file, so its target is visited anyway
            item = group[name]
            if isinstance(item, h5py.Group):
                visit(item, depth + 1)
            elif isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                raise ForeignContentError("has its values in another file; put them into one file")

    visit(file, 0)
