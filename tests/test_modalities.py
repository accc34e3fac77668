"""Modalities belong to the contract: a fourth one goes all the way, and so do one and two."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import edfio
import numpy as np
import pyarrow.parquet as pq
import pytest
from stores import drawn_store
from typer.testing import CliRunner

import sleepfm_index
from sleepfm.contract import PAPER_MONTAGE, ROBUST, Contract
from sleepfm.encoders.load import load_weights
from sleepfm.encoders.networks import initial_tensors
from sleepfm.encoders.reference import simulated_clips
from sleepfm.encoders.weights import Weights
from sleepfm.errors import SimulationError, TrainingError, WeightsError
from sleepfm.recordings import read_recording
from sleepfm.recordings.channels import match_channels
from sleepfm.simulate import simulate_cohort
from sleepfm.training.pretrain import Data, pretrain
from sleepfm.training.recipe import SHORT
from sleepfm_cli.main import app
from sleepfm_index.errors import QueryError, StoreError
from sleepfm_index.evaluation.figures import panels
from sleepfm_index.evaluation.figures.embedding_map import embedding_map
from sleepfm_index.evaluation.figures.signal_strips import neighbour_strips
from sleepfm_index.evaluation.figures.style import save
from sleepfm_index.evaluation.labels.splits import Split
from sleepfm_index.evaluation.models.knn import Vote
from sleepfm_index.evaluation.models.probe import probe
from sleepfm_index.evaluation.retrieval.retrieval import directions
from sleepfm_index.indexing.planner import target_rows
from sleepfm_index.schema import target_name, target_parts, targets
from sleepfm_index.storage.manifest import read_manifest

pytestmark = pytest.mark.usefixtures("no_curves")
EMG = replace(
    ROBUST,
    name="with-emg",
    sample_rate=32,
    # not in alphabetical order, which JSON with sorted keys would give back
    slots={"emg": ("CHIN", "LEGS"), **ROBUST.slots},
    units={**ROBUST.units, "CHIN": "uV", "LEGS": "uV"},
    titles={"emg": "Muscle"},
    colours={"emg": "#123456"},
)
FOUR = ("emg", "bas", "ecg", "resp")
MODALITIES = {4: EMG, 2: replace(ROBUST, slots={m: ROBUST.slots[m] for m in ("ecg", "resp")}),
              1: replace(ROBUST, slots={"ecg": ("ECG",)})}  # fmt: skip


# What a set of modalities means


def test_targets_of_any_number_of_modalities() -> None:
    assert targets(("bas", "ecg", "resp")) == (
        *("bas", "ecg", "resp"),
        *("others_of_bas", "others_of_ecg", "others_of_resp"),
    )
    assert targets(FOUR) == (*FOUR, *(f"others_of_{m}" for m in FOUR))
    assert target_parts("others_of_ecg", FOUR) == ("emg", "bas", "resp")
    assert targets(("ecg", "resp")) == ("ecg", "resp")
    assert target_name("ecg", "others", ("ecg", "resp")) == "resp"
    assert targets(("ecg",)) == ("ecg",)


def test_directions_of_any_number_of_modalities() -> None:
    asked = directions(FOUR, combinations=True)
    assert asked[:12] == tuple(permutations(FOUR, 2))
    assert asked[12:16] == tuple((m, "others") for m in FOUR)
    assert asked[16:] == (
        ("bas+ecg+resp", "emg"),
        ("emg+ecg+resp", "bas"),
        ("emg+bas+resp", "ecg"),
        ("emg+bas+ecg", "resp"),
    )
    assert directions(("ecg", "resp"), combinations=True) == (("ecg", "resp"), ("resp", "ecg"))
    assert directions(("ecg",)) == ()


# A store of drawn vectors, against what is counted by hand


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn_store(tmp_path_factory.mktemp("drawn") / "s", {"a": 60, "b": 50}, contract=EMG)


def test_every_target_is_searched_exactly_and_by_its_index(drawn: Path) -> None:
    with sleepfm_index.open(drawn) as store:
        ids = store.metadata.clip_ids()
        assert store.manifest.modalities == FOUR
        vectors = {m: store.vectors.of(ids, m)[0].astype(np.float64) for m in FOUR}
        query = np.random.default_rng(0).standard_normal((1, 512)).astype(np.float32)
        rows = target_rows(drawn, store.manifest)
        assert {i.target for i in store.manifest.indexes} == set(store.manifest.targets)
        for target in store.manifest.targets:
            parts = [vectors[m] for m in target_parts(target, FOUR)]
            there = np.sum([p.any(axis=1) for p in parts], axis=0)
            assert rows[target] == (there > 0).sum()
            mean = np.sum(parts, axis=0) / np.maximum(there, 1)[:, None]
            scores = np.where(there > 0, mean @ query[0], -np.inf)
            best = np.argsort(-scores, kind="stable")[:7]
            for exact in (True, False):
                ((found, given),) = store.search(target, query, 7, exact=exact)
                assert found.tolist() == ids[best].tolist()
                np.testing.assert_allclose(given, scores[best], atol=1e-6)


@pytest.mark.parametrize("lacking", [0.0, 0.2])
def test_retrieval_agrees_with_brute_force(tmp_path: Path, lacking: float) -> None:
    """With all modalities there in tiles and shared products, else direction by direction."""
    path = drawn_store(
        tmp_path / "s", {"a": 60, "b": 50}, contract=EMG, index=False, lacking=lacking
    )
    with sleepfm_index.open(path) as store:
        ids = store.metadata.clip_ids()
        vectors = {m: store.vectors.of(ids, m)[0].astype(np.float64) for m in FOUR}
        has = {m: vectors[m].any(axis=1) for m in FOUR}
        rows = store.evaluate(combinations=True).to_pylist()
        assert [(r["query"], r["target"]) for r in rows] == list(
            directions(FOUR, combinations=True)
        )
        for row in rows:
            names = row["query"].split("+")
            others = [m for m in FOUR if m != row["query"]] if row["target"] == "others" else None
            queries = np.mean([vectors[m] for m in names], axis=0)
            both = np.logical_and.reduce([has[m] for m in names])
            parts = others or [row["target"]]
            count = np.sum([has[m] for m in parts], axis=0)
            answers = np.sum([vectors[m] for m in parts], axis=0) / np.maximum(count, 1)[:, None]
            both &= count > 0
            scores = queries[both] @ answers[both].T
            ranks = (scores >= np.diag(scores)[:, None] - 1e-12).sum(axis=1)
            assert row["gallery"] == both.sum()
            assert row["median_rank"] == np.median(ranks)
            assert row["mrr"] == pytest.approx(np.mean(1 / ranks))


def test_questions_name_what_the_store_has(drawn: Path) -> None:
    runner = CliRunner()
    with sleepfm_index.open(drawn) as store:
        clip = int(store.metadata.clip_ids(" AND ".join(f"has_{m}" for m in FOUR))[0])
        asked = {"clip": clip, "exclude": "none", "k": 3}
        three = store.query("emg,bas,ecg", **asked)
        assert three.table.equals(store.query("emg,bas,ecg", to="resp", **asked).table)
        two = store.query("emg,ecg", to="bas", **asked).to_pylist()
        parts = [
            store.vectors.of(np.array([clip]), m)[0].astype(np.float64) for m in ("emg", "ecg")
        ]
        hit = store.vectors.of(np.array([two[0]["clip_id"]]), "bas")[0].astype(np.float64)
        assert two[0]["score"] == pytest.approx(
            float((np.mean(parts, axis=0) * hit).sum()), abs=1e-6
        )
        for modality, to, says in (
            ("eeg", "bas", "no modality 'eeg' in this store; choose from emg, bas, ecg, resp"),
            (
                "ecg",
                "eog",
                "no target 'eog' in this store; choose from emg, bas, ecg, resp, others",
            ),
            ("ecg,bas", "others", "leave several others; choose one with --to: emg, resp"),
            ("ecg,bas,emg,resp", "others", "there are no others"),
        ):
            with pytest.raises(QueryError, match=says):
                store.query(modality, to=to, **asked)
    words = ["--clip", str(clip), "--store", str(drawn)]
    result = runner.invoke(app, ["query", "--modality", "emg", "--to", "ecg", *words])
    assert result.exit_code == 0, result.output
    result = runner.invoke(app, ["query", "--modality", "ecg", "--to", "eog", *words])
    assert isinstance(result.exception, QueryError)


def test_an_export_has_every_modality(drawn: Path, tmp_path: Path) -> None:
    sleepfm_index.export(drawn, tmp_path / "x.parquet", deidentified=True)
    table = pq.read_table(tmp_path / "x.parquet")
    names = [f"{kind}_{m}" for kind in ("has", "slots") for m in FOUR]
    assert {*FOUR, *names, "quality_emg_flat"} <= set(table.column_names)
    assert table["emg"].null_count == 110 - table["has_emg"].to_pylist().count(True)


def test_compaction_and_verification_keep_every_modality(drawn: Path, tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 30, "b": 20}, contract=EMG)
    with sleepfm_index.open(path) as store:
        before = store.vectors.of(store.metadata.clip_ids(), "others_of_ecg")[0]
    sleepfm_index.compact(path)
    assert sleepfm_index.verify(path).ok
    with sleepfm_index.open(path) as store:
        after = store.vectors.of(store.metadata.clip_ids(), "others_of_ecg")[0]
        assert np.array_equal(before, after)
        assert store.info().with_modality.keys() == set(FOUR)


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_modalities_than_three(tmp_path: Path, count: int) -> None:
    contract = MODALITIES[count]
    path = drawn_store(tmp_path / "s", {"a": 30, "b": 30}, contract=contract, lacking=0.0)
    with sleepfm_index.open(path) as store:
        assert {i.target for i in store.manifest.indexes} == set(contract.modalities)
        assert len(store.query("ecg", to="ecg", clip=3, k=2)) == 2
        if count == 1:
            with pytest.raises(QueryError, match="there are no others"):
                store.query("ecg", clip=3)
            with pytest.raises(QueryError, match="no clip has two modalities"):
                store.evaluate()
            return
        others, other = store.query("ecg", clip=3), store.query("ecg", to="resp", clip=3)
        assert others.table.equals(other.table)
        rows = store.evaluate(combinations=True).to_pylist()
        assert [(r["query"], r["target"]) for r in rows] == [("ecg", "resp"), ("resp", "ecg")]
    sleepfm_index.reindex(path, index="IVF2,SQ8", rebuild=True)
    assert sleepfm_index.verify(path).ok


def test_others_are_compared_only_where_they_are_the_same(drawn: Path, tmp_path: Path) -> None:
    three = drawn_store(tmp_path / "s", {"a": 60, "b": 50}, index=False)
    with sleepfm_index.open(drawn) as one, sleepfm_index.open(three) as two:
        rows = one.evaluate(against=two).to_pylist()
    assert {(r["query"], r["target"]) for r in rows} == set(permutations(ROBUST.modalities, 2))


def test_a_manifest_of_three_modalities_reads_as_ever(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 5}, index=False)
    plain = json.loads((path / "manifest.json").read_text())
    assert plain["contract"].keys() == ROBUST.to_json().keys()
    assert plain["contract_sha256"] == ROBUST.sha256
    assert plain["segments"][0]["columns"] == ["hypopnea_s:float"] + [
        f"quality_{m}_flat:float" for m in ROBUST.modalities
    ]
    assert read_manifest(path).contract == ROBUST


# From signals to a page


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four simulated nights of three minutes with muscle channels."""
    folder = tmp_path_factory.mktemp("nights")
    simulate_cohort(folder, subjects=4, hours=0.05, slots=EMG.all_slots)
    return folder


@pytest.fixture(scope="module")
def weights(nights: Path) -> Path:
    """Encoders of four modalities, trained for a few steps."""
    out = nights / "emg.safetensors"
    recipe = replace(SHORT, epochs=1, batch_size=4, together=2, crop_s=None, jitter_s=0.0)
    data = Data([nights], fractions={"pretrain": 0.5, "valid": 0.5}, contract=EMG)
    history = pretrain(data, out, recipe=recipe, device="cpu", precision="float32", threads=1)
    assert {"emg->bas", "emg->others"} <= history[-1]["valid"]["gallery"].keys()
    return out


@pytest.fixture(scope="module")
def path(nights: Path, weights: Path) -> Path:
    report = sleepfm_index.build(
        nights / "store",
        [nights],
        weights=str(weights),
        subjects=nights / "subjects.csv",
        backend="torch",
        workers=1,
        threads=1,
    )
    assert report.clips_added == 24 and not report.of("failed")
    return nights / "store"


@pytest.fixture
def store(path: Path) -> Iterator[sleepfm_index.Store]:
    with sleepfm_index.open(path) as opened:
        yield opened


def test_channels_beyond_the_nine_leave_those_as_they_are(nights: Path, tmp_path: Path) -> None:
    edf = edfio.read_edf(nights / "sim-0001.edf")
    assert {"CHIN", "LEGS", "ECG", "C3-M2"} <= {s.label for s in edf.signals}
    (other,) = simulate_cohort(tmp_path, subjects=1, hours=0.05)
    for signal in edfio.read_edf(other).signals:
        assert np.array_equal(signal.data, edf.get_signal(signal.label).data)
    with pytest.raises(SimulationError, match="the slot THUMB cannot be simulated"):
        simulate_cohort(tmp_path, subjects=1, hours=0.05, slots=("ECG", "THUMB"))


def test_weights_bear_the_contract_and_its_order(weights: Path) -> None:
    loaded = load_weights(weights)
    assert loaded.contract == EMG and loaded.modalities == FOUR
    assert loaded.contract.modality("emg").colour == "#123456"
    tensors = initial_tensors(EMG, ("emg",), 0)
    stray = Weights("stray", False, ROBUST, {}, 0.0, tensors).to_bytes  # emg is not in ROBUST
    assert b"emg." not in stray()


def test_an_encoder_that_no_contract_names_is_refused(weights: Path, tmp_path: Path) -> None:
    content = weights.read_bytes()
    (tmp_path / "w.safetensors").write_bytes(content.replace(b'"emg.', b'"eog.'))
    with pytest.raises(WeightsError, match=r"damaged header.*encoder for eog"):
        load_weights(tmp_path / "w.safetensors")


def test_training_says_which_modalities_there_are(nights: Path, tmp_path: Path) -> None:
    data = Data([nights], contract=EMG, fractions={"pretrain": 0.5, "valid": 0.5})
    with pytest.raises(TrainingError, match="with-emg has no modality eog; choose from emg, bas"):
        pretrain(data, tmp_path / "w.safetensors", modalities=("eog", "ecg"), device="cpu")


def test_a_store_of_four_is_queried_and_evaluated(store: sleepfm_index.Store, nights: Path) -> None:
    assert store.manifest.contract == EMG
    assert store.info().with_modality == dict.fromkeys(FOUR, 24)
    rows = store.query("emg", clip=17, k=5).to_pylist()
    assert len(rows) == 5 and all(row["has_emg"] and row["slots_emg"] == 3 for row in rows)
    asked = {"file": nights / "sim-0002.edf", "at": "+60", "exclude": "none", "k": 1}
    own = store.query("emg", to="emg", weights=str(nights / "emg.safetensors"), **asked)
    assert own.to_pylist()[0]["recording_id"] == "sim-0002"
    assert own.to_pylist()[0]["score"] == pytest.approx(1.0, abs=1e-3)
    assert len(store.evaluate(combinations=True)) == 20
    columns = store.sql("SELECT * FROM clips LIMIT 0").table.column_names
    assert [c for c in columns if c.startswith("quality_emg_")]
    fractions = store.sql("SELECT max(quality_emg_range) AS r FROM clips").to_pylist()
    assert fractions[0]["r"] < 0.05


def test_a_store_of_four_is_read_by_probes_and_neighbours(store: sleepfm_index.Store) -> None:
    result = probe(store, "age", task="regression", split=Split(folds=2))
    assert {r["features"] for r in result.to_pylist()} == {*FOUR, "+".join(FOUR), "mean"}
    asked = {"task": "regression", "vote": Vote(k=3)}
    assert len(store.knn("age", modality="emg", to="others", **asked))
    with pytest.raises(QueryError, match="no modality 'eog' in this store"):
        store.knn("age", modality="eog")


def test_a_store_of_four_is_drawn(store: sleepfm_index.Store, tmp_path: Path) -> None:
    found = store.evaluate(combinations=True)
    curves = panels.retrieval(found)
    every = curves.get_figure(root=True).axes  # one panel for each query
    lines = {line.get_label(): line for ax in every for line in ax.get_lines()}
    assert lines["Muscle → ecg"].get_color() == "#123456"
    assert "bas+ecg+resp → Muscle" in lines
    save(curves, tmp_path / "r.png")
    hits = store.query("emg", to="emg", clip=3, k=1)
    strips = neighbour_strips(store, 3, hits, "emg", "emg")
    labels = [ax.get_xlabel() for ax in strips.get_figure(root=True).axes]
    assert "Muscle: time (s)" in labels
    assert embedding_map(store, "emg").get_title().startswith("emg of 24 clips")


def test_a_store_of_four_is_published(store: sleepfm_index.Store, path: Path) -> None:
    pytest.importorskip("pymilvus", reason="needs pip install 'sleepfm-index[milvus]'")
    pytest.importorskip("milvus_lite", reason="needs pip install 'sleepfm-index[milvus]'")
    uri = str(path.parent / "m.db")
    fields = ("emg", "ecg", "others_of_ecg")
    published = sleepfm_index.publish(path, uri, targets=fields)
    assert published.recall == dict.fromkeys(fields, 1.0)
    with pytest.raises(QueryError, match="no target 'others_of_eog' in this store"):
        sleepfm_index.publish(path, uri, targets=("others_of_eog",))
    with sleepfm_index.connect(uri) as served:
        for to in ("emg", "others"):
            ours = store.query("ecg", to=to, clip=7, k=4).to_pylist()
            theirs = served.query("ecg", to=to, clip=7, k=4).to_pylist()
            assert [row["clip_id"] for row in ours] == [row["clip_id"] for row in theirs]
        with pytest.raises(QueryError, match="no modality 'eog' in this store"):
            served.query("eog", clip=7)


def test_subjects_may_not_use_the_columns_of_a_modality(nights: Path, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("recording_id,has_emg\nsim-0001,1\n")
    with pytest.raises(StoreError, match="rename the column has_emg"):
        sleepfm_index.build(
            tmp_path / "s", [nights], weights=str(nights / "emg.safetensors"),
            subjects=tmp_path / "s.csv",
        )  # fmt: skip


# The montage of the paper


def test_a_night_of_the_papers_montage_fills_all_its_slots(tmp_path: Path) -> None:
    (night,) = simulate_cohort(tmp_path, subjects=1, hours=0.02, slots=PAPER_MONTAGE.all_slots)
    found = match_channels(read_recording(night), PAPER_MONTAGE)
    assert tuple(found.slots) == PAPER_MONTAGE.all_slots and not found.unmatched
    assert all(m.tier == "alias" for m in found.slots.values())


@pytest.mark.parametrize("contract", [EMG, PAPER_MONTAGE], ids=lambda c: c.name)
def test_clips_by_which_backends_are_checked(contract: Contract) -> None:
    odd = replace(contract, slots={**contract.slots, "thumb": ("THUMB",)})
    for one in (contract, odd):
        clips = simulated_clips(json.dumps(one.to_json()))
        assert tuple(clips) == one.modalities
        for modality, own in clips.items():
            assert own.shape == (8, len(one.slots_of(modality)), one.clip_samples)
            assert np.isfinite(own).all() and (np.ptp(own, axis=(0, 2)) > 0).all()
