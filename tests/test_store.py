from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import TARGETS, WEIGHTS, drawn_segment, drawn_store, target_parts

import sleepfm_index
from sleepfm.contract import ICML2024, ROBUST
from sleepfm_index.errors import CommitConflict, FormatError, StoreError, StoreLocked
from sleepfm_index.indexing.reindex import update_indexes
from sleepfm_index.storage.manifest import WeightsIdentity, read_manifest, write_manifest
from sleepfm_index.storage.writer import Writer


def oracle(store: sleepfm_index.Store, target: str) -> tuple[np.ndarray, np.ndarray]:
    """Ids and float64 vectors of a target, read clip by clip from the stored float16 rows."""
    ids = store.metadata.clip_ids()
    parts = [store.vectors.of(ids, m) for m in target_parts(target)]
    count = sum(present.astype(float) for _, present in parts)
    total = sum(vectors.astype(np.float64) for vectors, _ in parts)
    kept = count > 0
    return ids[kept], total[kept] / count[kept, None]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    covered=st.integers(0, 4),
    target=st.sampled_from(TARGETS),
    k=st.integers(1, 30),
    keep=st.floats(0, 1),
    seed=st.integers(0, 9999),
)
def test_search_is_exact_whatever_is_indexed_and_allowed(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    covered: int,
    target: str,
    k: int,
    keep: float,
    seed: int,
) -> None:
    path = tmp_path_factory.mktemp("store")
    with Writer(path, WEIGHTS, ROBUST) as writer:
        for at, n in enumerate(sizes):
            if at == covered:
                update_indexes(writer)
            writer.append(drawn_segment(f"night-{at}", n, seed + at))
    rng = np.random.default_rng(seed)
    query = rng.standard_normal(512).astype(np.float32)
    with sleepfm_index.open(path) as store:
        ids, vectors = oracle(store, target)
        allowed = None
        if keep < 0.9:
            allowed = np.flatnonzero(rng.random(store.manifest.next_clip_id) < keep)
            chosen = np.isin(ids, allowed)
            ids, vectors = ids[chosen], vectors[chosen]
        scores = vectors @ query.astype(np.float64)
        best = np.lexsort((ids, -scores))[:k]
        ((found, given_scores),) = store.search(target, query[None], k, allowed)
    np.testing.assert_array_equal(found, ids[best])
    np.testing.assert_allclose(given_scores, scores[best], rtol=0, atol=1e-6)


def test_reopening_gives_the_same_bytes(tmp_path: Path) -> None:
    drawn_store(tmp_path / "s", {"a": 40, "b": 7})
    with sleepfm_index.open(tmp_path / "s") as one, sleepfm_index.open(tmp_path / "s") as two:
        ids = one.metadata.clip_ids()
        assert ids.tolist() == list(range(47))
        first, second = one.vectors.of(ids, "bas")[0], two.vectors.of(ids, "bas")[0]
        np.testing.assert_array_equal(first, second)
        assert one.manifest == two.manifest
        assert len(one) == 47


def test_a_copied_store_works(tmp_path: Path) -> None:
    drawn_store(tmp_path / "s", {"a": 20})
    (tmp_path / "s").rename(tmp_path / "moved")
    with sleepfm_index.open(tmp_path / "moved") as store:
        assert len(store.query("ecg", clip=first_with(store, "ecg"), exclude="none")) == 10


def first_with(store: sleepfm_index.Store, modality: str) -> int:
    return int(store.metadata.clip_ids(f"has_{modality}")[0])


def test_a_reader_keeps_its_snapshot(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 20})
    with sleepfm_index.open(path) as before:
        with Writer(path, WEIGHTS, ROBUST) as writer:
            writer.append(drawn_segment("b", 10, 99))
        assert len(before) == 20
        assert len(before.metadata.clip_ids()) == 20
    with sleepfm_index.open(path) as after:
        assert len(after) == 30


def test_vectors_of_two_weights_or_contracts_never_mix(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 5})
    other = WeightsIdentity("other", "f" * 64, True)
    with pytest.raises(StoreError, match=r"drawn \(000000000000\).*other \(ffffffffffff\)"):
        Writer(path, other, ROBUST).__enter__()
    with pytest.raises(StoreError, match=r"sleepfm-index-robust.*sleepfm-icml2024"):
        Writer(path, WEIGHTS, ICML2024).__enter__()
    Writer(path, WEIGHTS, ROBUST).__enter__().__exit__(None, None, None)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 5})
    with (
        Writer(path, WEIGHTS, ROBUST),
        pytest.raises(StoreLocked, match="another process is writing"),
    ):
        Writer(path, WEIGHTS, ROBUST).__enter__()


def test_a_commit_refuses_a_snapshot_that_moved(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 5})
    with Writer(path, WEIGHTS, ROBUST) as writer:
        manifest = read_manifest(path)
        write_manifest(path, dataclasses.replace(manifest, snapshot=77))
        with pytest.raises(CommitConflict):
            writer.append(drawn_segment("b", 5, 50))
    with sleepfm_index.open(path) as store:
        assert len(store) == 5


def test_a_folder_of_other_things_is_not_taken_for_a_store(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(StoreError, match="contains other files"):
        Writer(tmp_path, WEIGHTS, ROBUST).__enter__()
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_opening_nothing_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="sleepfm-index build"):
        sleepfm_index.open(tmp_path / "nowhere")


def test_an_index_that_is_not_as_long_as_its_rows_need_is_refused(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 30})
    (file,) = (path / "indexes").glob("bas-*.ivf")
    file.write_bytes(file.read_bytes()[:-4])
    with sleepfm_index.open(path) as store, pytest.raises(FormatError, match="manifest states"):
        store.search("bas", np.ones((1, 512), np.float32), 3)


def test_a_truncated_vector_file_is_refused(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 30})
    (file,) = (path / "segments").glob("*/bas.arrow")
    file.write_bytes(file.read_bytes()[:-100])
    with sleepfm_index.open(path) as store, pytest.raises(FormatError, match="the manifest states"):
        store.vectors.of(np.arange(3), "bas")


def test_store_files_are_private_to_their_owner(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 3})
    for entry in [path, *path.rglob("*")]:
        allowed = 0o700 if entry.is_dir() else 0o600
        assert entry.stat().st_mode & 0o777 & ~allowed == 0, entry


def test_nothing_is_left_beside_a_failed_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drawn_store(tmp_path / "s", {"a": 3})
    before = sorted(str(p) for p in path.rglob("*"))

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with Writer(path, WEIGHTS, ROBUST) as writer:
        monkeypatch.setattr("sleepfm_index.storage.segments.write_vectors", full_disk)
        with pytest.raises(OSError, match="No space left"):
            writer.append(drawn_segment("b", 4, 1))
    assert sorted(str(p) for p in path.rglob("*")) == before
    with sleepfm_index.open(path) as store:
        assert len(store) == 3
