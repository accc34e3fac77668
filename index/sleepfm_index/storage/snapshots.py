"""Earlier snapshots: replaced manifests, kept so that a store can be rolled back.

An earlier manifest needs the segments that it refers to. Appending, deleting and indexing remove no
segments; ``compact`` removes the files that no kept manifest refers to.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from sleepfm_index.errors import FormatError, QueryError, SnapshotGone
from sleepfm_index.storage import paths
from sleepfm_index.storage.files import link_or_copy, make_folder, remove, sync_folder
from sleepfm_index.storage.manifest import Manifest, read_manifest
from sleepfm_index.storage.plain_files import check_plain

KEPT: Final = 10
"""Number of earlier manifests that a commit keeps."""


def archive_manifest(store: Path, snapshot: int) -> None:
    """Keep the manifest that is about to be replaced.

    Parameters
    ----------
    store : Path
        The store's folder.
    snapshot : int
        Number of the snapshot that the manifest describes.
    """
    make_folder(store / paths.SNAPSHOTS)
    link_or_copy(store / paths.MANIFEST, store / file_name(snapshot))


def expire_snapshots(
    store: Path, keep: int, current: int, tagged: frozenset[int] = frozenset()
) -> None:
    """Remove all but the last ``keep`` manifests before the current one.

    Parameters
    ----------
    store : Path
        The store's folder.
    keep : int
        Number of earlier manifests to keep.
    current : int
        Number of the current snapshot.
    tagged : frozenset of int
        Snapshots with a tag, which are always kept.
    """
    known = snapshot_ids(store)
    earlier = [n for n in known if n < current]
    kept = earlier[max(0, len(earlier) - keep) :]
    expired = [n for n in known if n not in kept and n not in tagged]
    for number in expired:
        remove(store / file_name(number))
    if expired:
        sync_folder(store / paths.SNAPSHOTS)


def snapshot_ids(store: Path) -> list[int]:
    """Numbers of the earlier snapshots that are kept, ascending.

    Parameters
    ----------
    store : Path
        The store's folder.
    """
    names = (p.name.removesuffix(".json") for p in (store / paths.SNAPSHOTS).glob("*.json"))
    return sorted(int(name) for name in names if name.isdecimal())


def file_name(snapshot: int) -> str:
    """Path of the manifest of an earlier snapshot, relative to the store.

    Parameters
    ----------
    snapshot : int
        Number of the snapshot.
    """
    return f"{paths.SNAPSHOTS}/{snapshot}.json"


def kept_manifests(store: Path) -> list[Manifest]:
    """Every earlier manifest that is kept and can be read.

    Parameters
    ----------
    store : Path
        The store's folder.
    """
    manifests = []
    for number in snapshot_ids(store):
        try:
            manifests.append(read_manifest(store, file_name(number)))
        except FormatError:
            continue  # verify reports it; a damaged manifest keeps no files
    return manifests


def restorable(store: Path, snapshot: int, current: Manifest) -> Manifest:
    """Return the manifest to publish for rolling back to an earlier snapshot.

    Clip ids continue from the current manifest, so that none is assigned twice. Missing caches are
    omitted.

    Parameters
    ----------
    store : Path
        The store's folder.
    snapshot : int
        Number of the earlier snapshot.
    current : Manifest
        The current manifest.

    Raises
    ------
    QueryError
        If the snapshot is not kept.
    FormatError
        If files of the snapshot are missing or of another size.
    """
    if snapshot not in snapshot_ids(store):
        known = ", ".join(map(str, snapshot_ids(store))) or "none"
        raise QueryError(f"no snapshot {snapshot}; choose from {known}")
    earlier = read_manifest(store, file_name(snapshot))
    if earlier.uuid != current.uuid:
        raise FormatError(f"snapshot {snapshot} belongs to another store ({earlier.uuid[:8]})")
    check_segments(store, earlier)
    indexes = tuple(i for i in earlier.indexes if _exists(store, i.file, i.entry.bytes))
    rows = earlier.row_cache
    if rows is not None and not _exists(store, rows.file, rows.entry.bytes):
        rows = None
    following = max(current.next_clip_id, earlier.next_clip_id)
    return replace(
        earlier, indexes=indexes, row_cache=rows, next_clip_id=following, tags=current.tags
    )


def is_as_written(store: Path, name: str = paths.MANIFEST) -> bool:
    """Whether a manifest has the checksum that it was written with.

    One that carries none, of an earlier program or edited by hand as a whole, passes.

    Parameters
    ----------
    store : Path
        The store's folder.
    name : str
        Name of the manifest's file.
    """
    content = (store / name).read_bytes()
    checksum = re.search(rb',\n"sha256": "([0-9a-f]{64})"}\n\Z', content)
    return (
        checksum is None
        or hashlib.sha256(content[: checksum.start()]).hexdigest() == checksum[1].decode()
    )


def check_segments(store: Path, manifest: Manifest) -> None:
    """Refuse a manifest whose segment files are missing or of another size.

    Parameters
    ----------
    store : Path
        The store's folder.
    manifest : Manifest
        The manifest to check.

    Raises
    ------
    FormatError
        If a file is missing, a link, or of another size.
    """
    for segment in manifest.segments:
        for name, entry in segment.files.items():
            check_plain(store, paths.SEGMENTS, segment.id, name, size=entry.bytes)


def remove_orphans(store: Path, kept: Iterable[Manifest]) -> int:
    """Remove every segment and cache that no kept manifest refers to.

    Only a writer that holds the lock may call this: no manifest refers yet to the files that
    another process is writing.

    Parameters
    ----------
    store : Path
        The store's folder.
    kept : iterable of Manifest
        Manifests whose files stay.

    Returns
    -------
    int
        Number of bytes freed.
    """
    names = [manifest.names for manifest in kept]
    freed = 0
    for position, folder in enumerate((paths.SEGMENTS, paths.INDEXES)):
        referenced = frozenset().union(*(pair[position] for pair in names))
        orphans = [p for p in sorted((store / folder).iterdir()) if p.name not in referenced]
        for path in orphans:
            freed += sum(p.stat().st_size for p in (path, *path.rglob("*")) if _is_file(p))
            remove(path)
        if orphans:
            sync_folder(store / folder)
    return freed


@contextmanager
def snapshot_guard(store: Path, manifest: Manifest) -> Iterator[None]:
    """Report a removed snapshot if that is why its file cannot be read.

    Parameters
    ----------
    store : Path
        The store's folder.
    manifest : Manifest
        The snapshot that is read.

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
    # File by file: a folder that is being removed exists longer than its files.
    files = [(store / paths.SEGMENTS / s.id / name) for s in manifest.segments for name in s.files]
    files += [store / paths.INDEXES / c.file for c in manifest.caches]
    return not all(file.exists() for file in files)


def _exists(store: Path, file: str, size: int) -> bool:
    try:
        check_plain(store, paths.INDEXES, file, size=size)
    except FormatError:
        return False
    return True


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
