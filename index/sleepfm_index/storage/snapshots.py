"""Earlier snapshots: the manifests that were replaced, kept so that one can go back.

An earlier manifest needs the segments that it names. Appending, deleting and indexing remove none;
``compact`` removes what no kept manifest names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from sleepfm_index.errors import FormatError, QueryError, SnapshotGone
from sleepfm_index.storage import paths
from sleepfm_index.storage.files import check_plain, keep_as, make_folder, remove, sync_folder
from sleepfm_index.storage.manifest import Manifest, read_manifest

KEPT: Final = 10
"""How many earlier manifests a commit leaves."""


def remember(store: Path, snapshot: int) -> None:
    """Keep the manifest that is about to be replaced."""
    make_folder(store / paths.SNAPSHOTS)
    keep_as(store / paths.MANIFEST, store / file_name(snapshot))


def forget(store: Path, keep: int, current: int) -> None:
    """Remove all but the last ``keep`` manifests before the current one."""
    known = numbers(store)
    earlier = [n for n in known if n < current]
    kept = earlier[max(0, len(earlier) - keep) :]
    gone = [n for n in known if n not in kept]
    for number in gone:
        remove(store / file_name(number))
    if gone:
        sync_folder(store / paths.SNAPSHOTS)


def numbers(store: Path) -> list[int]:
    """Numbers of the earlier snapshots that are kept, ascending."""
    names = (p.name.removesuffix(".json") for p in (store / paths.SNAPSHOTS).glob("*.json"))
    return sorted(int(name) for name in names if name.isdecimal())


def file_name(snapshot: int) -> str:
    """Where the manifest of an earlier snapshot lies, below the store's folder."""
    return f"{paths.SNAPSHOTS}/{snapshot}.json"


def kept_manifests(store: Path) -> list[Manifest]:
    """Every earlier manifest that is kept and can be read."""
    found = []
    for number in numbers(store):
        try:
            found.append(read_manifest(store, file_name(number)))
        except FormatError:
            continue  # verify tells; a damaged one holds on to nothing
    return found


def restorable(store: Path, snapshot: int, current: Manifest) -> Manifest:
    """Give what publishing an earlier snapshot again would make of the current manifest.

    Clip ids go on from the current manifest, so none is ever given twice. Indexes that are gone
    are left out: they are caches.

    Raises
    ------
    QueryError
        If the snapshot is not kept.
    FormatError
        If files that it names are gone or of another size.
    """
    if snapshot not in numbers(store):
        known = ", ".join(map(str, numbers(store))) or "none"
        raise QueryError(f"no snapshot {snapshot} is kept; those that are: {known}")
    earlier = read_manifest(store, file_name(snapshot))
    if earlier.uuid != current.uuid:
        raise FormatError(f"snapshot {snapshot} is of another store ({earlier.uuid[:8]})")
    check_segments(store, earlier)
    indexes = tuple(i for i in earlier.indexes if _is_there(store, i.file, i.entry.bytes))
    following = max(current.next_clip_id, earlier.next_clip_id)
    return replace(earlier, indexes=indexes, next_clip_id=following)


def check_segments(store: Path, manifest: Manifest) -> None:
    """Refuse a manifest whose segments are not all there, by name and size."""
    for segment in manifest.segments:
        for name, entry in segment.files.items():
            check_plain(store, paths.SEGMENTS, segment.id, name, size=entry.bytes)


def sweep(store: Path, kept: Iterable[Manifest]) -> int:
    """Remove every segment and index that no kept manifest names; give the bytes freed.

    Only a writer that holds the lock may call this: what another is writing has no name yet.
    """
    names = [manifest.names for manifest in kept]
    freed = 0
    for at, folder in enumerate((paths.SEGMENTS, paths.INDEXES)):
        named = frozenset().union(*(pair[at] for pair in names))
        gone = [p for p in sorted((store / folder).iterdir()) if p.name not in named]
        for path in gone:
            freed += sum(p.stat().st_size for p in (path, *path.rglob("*")) if _is_file(p))
            remove(path)
        if gone:
            sync_folder(store / folder)
    return freed


@contextmanager
def held(store: Path, manifest: Manifest) -> Iterator[None]:
    """Say that the snapshot is gone, where that is why a file of it cannot be read.

    Raises
    ------
    SnapshotGone
        If the store has moved on and files of the snapshot were removed.
    """
    try:
        yield
    except Exception as error:
        if _moved_on(store, manifest):
            raise SnapshotGone(
                f"the store was compacted since it was opened at snapshot {manifest.snapshot}; "
                "open it again"
            ) from error
        raise


def _moved_on(store: Path, manifest: Manifest) -> bool:
    try:
        if read_manifest(store).snapshot == manifest.snapshot:
            return False
    except FormatError:
        return False
    # File by file: a folder that is being removed is there longer than what was in it.
    files = [(store / paths.SEGMENTS / s.id / name) for s in manifest.segments for name in s.files]
    files += [store / paths.INDEXES / i.file for i in manifest.indexes]
    return not all(file.exists() for file in files)


def _is_there(store: Path, file: str, size: int) -> bool:
    try:
        check_plain(store, paths.INDEXES, file, size=size)
    except FormatError:
        return False
    return True


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
