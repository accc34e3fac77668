"""Graphs made to harm whoever searches them: FAISS follows links without looking, so we look.

The attacker may write the index and its hash. What is searched runs in a process of its own: what
fails here is not Python's memory.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from stores import drawn_store

import sleepfm_index
from sleepfm_index.errors import FormatError, StoreError
from sleepfm_index.search.hnsw import HNSW
from sleepfm_index.storage.files import fingerprint
from sleepfm_index.storage.manifest import SearchSetting, read_manifest, write_manifest
from sleepfm_index.storage.vectors import Vectors
from sleepfm_index.storage.writer import Writer

ROWS = 300
LINKS = 4


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = drawn_store(tmp_path_factory.mktemp("g") / "s", {"a": ROWS}, index=False, lacking=0.0)
    with Writer(path) as writer:
        vectors, (segment,) = Vectors(path, writer.manifest), writer.manifest.segments
        kind = HNSW(LINKS)
        made = kind.write(path, "bas", (segment.id,), kind, vectors.blocks(segment.id, "bas"))
        made = dataclasses.replace(made, settings=(SearchSetting(0.0, 20, {"ef": 20}),))
        writer.commit(dataclasses.replace(writer.manifest, indexes=(made,)))
    return path


@pytest.fixture
def path(sound: Path) -> Iterator[Path]:
    """The store, whose index each test changes and this puts back."""
    file = index_file(sound)
    whole, manifest = file.read_bytes(), read_manifest(sound)
    yield sound
    file.write_bytes(whole)
    write_manifest(sound, manifest)


def index_file(path: Path) -> Path:
    (index,) = read_manifest(path).indexes
    return path / "indexes" / index.file


class Parts:
    """The arrays of the file, to be changed in place."""

    def __init__(self, content: bytearray) -> None:
        whole: NDArray[np.uint8] = np.frombuffer(content, np.uint8)
        ends = np.cumsum([8 * ROWS, 8, 1024 * ROWS, 4 * ROWS])
        ids, entry, vectors, layers, links = np.split(whole, ends)
        self.ids, self.entry = ids.view("<i8"), entry.view("<i8")
        self.vectors, self.layers = vectors.view("<f2"), layers.view("<i4")
        self.links = links.view("<i4")
        below = np.array([0, *(LINKS * (1 + at) for at in range(1, 40))])
        self.starts = np.r_[0, np.cumsum(below[self.layers])]

    def high_links(self) -> NDArray[np.intp]:
        """Places of the links of the second layer that lead somewhere."""
        own = np.flatnonzero(self.layers > 1)
        places = (self.starts[own][:, None] + np.arange(2 * LINKS, 3 * LINKS)).ravel()
        return places[self.links[places] >= 0]


def change(path: Path, apply: Callable[[Parts], object]) -> None:
    file = index_file(path)
    content = bytearray(file.read_bytes())
    apply(Parts(content))
    publish(path, bytes(content))


def publish(path: Path, content: bytes) -> None:
    index_file(path).write_bytes(content)
    manifest = read_manifest(path)
    (index,) = manifest.indexes
    changed = dataclasses.replace(index, entry=fingerprint(index_file(path)))
    write_manifest(path, dataclasses.replace(manifest, indexes=(changed,)))


def assign(array: str, place: object, value: object) -> Callable[[Parts], object]:
    return lambda parts: getattr(parts, array).__setitem__(place, value)


def low_row_on_a_high_layer(parts: Parts) -> None:
    places = parts.high_links()
    assert len(places)
    parts.links[places[0]] = np.flatnonzero(parts.layers == 1)[-1]


ATTACKS: dict[str, Callable[[Parts], object]] = {
    "a link beyond the rows": assign("links", 5, ROWS),
    "a link far beyond the rows": assign("links", 0, 2**31 - 1),
    "a link before the rows": assign("links", 3, -2),
    "a link far before the rows": assign("links", -1, -(2**31)),
    "a link on a layer on which its row does not lie": low_row_on_a_high_layer,
    "an entry beyond the rows": assign("entry", 0, ROWS),
    "an entry that is none": assign("entry", 0, -1),
    "an entry far away": assign("entry", 0, 2**62),
    "an entry on the lowest layer": lambda p: p.entry.__setitem__(0, np.argmin(p.layers)),
    "a row on no layer": assign("layers", 0, 0),
    "a row on a negative layer": assign("layers", 0, -5),
    "a row on very many layers": assign("layers", 0, 2**31 - 1),
    "one row more on a higher layer": lambda p: p.layers.__setitem__(np.argmin(p.layers), 2),
    "a vector that is no number": assign("vectors", 700, np.nan),
    "a vector without end": assign("vectors", 700, np.inf),
    "a vector far too long": assign("vectors", slice(0, 512), 60000.0),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_a_graph_that_leads_astray_is_refused(
    path: Path, attack: Callable[[Parts], object]
) -> None:
    change(path, attack)
    with sleepfm_index.open(path) as store:
        with pytest.raises(FormatError, match="damaged"):
            store.search("bas", np.ones((1, 512), np.float32), 3)
        assert len(store.find("bas", np.ones((1, 512), np.float32), 3, exact=True).hits[0][0]) == 3
    assert not sleepfm_index.verify(path).ok


@pytest.mark.parametrize("content", [b"", b"IHNs", b"IHNs" + b"\xff" * 300, bytes(1 << 20)])
def test_a_graph_of_rubbish(path: Path, content: bytes) -> None:
    publish(path, content)
    with sleepfm_index.open(path) as store, pytest.raises(FormatError, match="damaged"):
        store.search("bas", np.ones((1, 512), np.float32), 3)


@pytest.mark.parametrize("cut", [-1, -4, -400, 3, 4, 4000])
def test_a_graph_of_another_length(path: Path, cut: int) -> None:
    whole = index_file(path).read_bytes()
    publish(path, whole[:cut] if cut < 0 else whole + bytes(cut))
    with sleepfm_index.open(path) as store, pytest.raises(FormatError, match="damaged"):
        store.search("bas", np.ones((1, 512), np.float32), 3)


@pytest.mark.parametrize("clip", [10**6, 2**62])
def test_a_graph_that_names_clips_of_nobody(path: Path, clip: int) -> None:
    change(path, assign("ids", slice(None), clip))
    with sleepfm_index.open(path) as store, pytest.raises(StoreError, match="not in the store"):
        store.search("bas", np.ones((1, 512), np.float32), 3)
    assert not sleepfm_index.verify(path).ok


@pytest.mark.parametrize("clip", [-2, -(2**62)])
def test_a_graph_that_names_no_clips_is_passed_over(path: Path, clip: int) -> None:
    change(path, assign("ids", slice(None), clip))
    with sleepfm_index.open(path) as store:
        query = np.ones((1, 512), np.float32)
        found, exact = (store.search("bas", query, 3, exact=e)[0][0] for e in (False, True))
        assert found.tolist() == exact.tolist()
    assert not sleepfm_index.verify(path).ok


def test_a_graph_of_other_links_is_refused(path: Path) -> None:
    manifest = read_manifest(path)
    for kind in ("HNSW5", "HNSW16", "HNSW128"):
        (index,) = manifest.indexes
        changed = (dataclasses.replace(index, kind=kind),)
        write_manifest(path, dataclasses.replace(manifest, indexes=changed))
        with sleepfm_index.open(path) as store, pytest.raises(FormatError, match="damaged"):
            store.search("bas", np.ones((1, 512), np.float32), 3)


_SEARCH = """
import dataclasses, sys
import numpy as np
from pathlib import Path
from sleepfm_index.errors import FormatError
from sleepfm_index.search.hnsw import HNSW
from sleepfm_index.storage.manifest import read_manifest
path, rows = Path(sys.argv[1]), int(sys.argv[2])
(entry,) = read_manifest(path).indexes
file = path / "indexes" / entry.file
whole = file.read_bytes()
rng = np.random.default_rng(0)
queries = rng.standard_normal((4, 512)).astype(np.float32)
graph = 1032 * rows + 8
drawn = [rng.integers(0, graph, 60), rng.integers(graph, len(whole), 400)]
places = [*range(8 * rows, 8 * rows + 8), *drawn[0], *drawn[1]]
refused = 0
for at in places:
    for value in (0x00, 0x01, 0x7F, 0x80, 0xFF):
        changed = bytearray(whole)
        changed[at] = value
        file.write_bytes(changed)
        try:
            index = HNSW(4).open(path, entry)
        except FormatError:
            refused += 1
            continue
        found = index.search(queries, 10, {"ef": 300})
        assert found.shape == (4, 10)
print(len(places), refused)
"""


def test_a_graph_that_lies_in_any_byte_is_refused_or_harmless(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SEARCH, str(path), str(ROWS)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    places, refused = map(int, done.stdout.split())
    assert places > 400 and refused > 100
