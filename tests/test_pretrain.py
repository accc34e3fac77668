"""Pretraining: from recordings to weights, with nothing lost on the way."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nights import COARSE, write_night

from sleepfm.contract import Contract
from sleepfm.encoders.inference import Encoder
from sleepfm.encoders.load import load_weights
from sleepfm.errors import TrainingError
from sleepfm.training import augment as augmentation
from sleepfm.training import loop
from sleepfm.training.batches import Batch, ClipSet, in_order, shuffled, stream
from sleepfm.training.clipcache import prepare_clips
from sleepfm.training.curves import can_draw
from sleepfm.training.metrics import gallery_metrics, ranks
from sleepfm.training.pretrain import Contrastive, Data, TrainingCallbacks, pretrain
from sleepfm.training.recipe import AUTHORS, SHORT, Recipe
from sleepfm.training.splits import read_subjects, split_subjects
from sleepfm.training.task import Metrics, Run
from sleepfm.training.windows import cut_windows

HALVES = {"pretrain": 0.5, "valid": 0.5}
pytestmark = pytest.mark.usefixtures("no_curves")
TINY = replace(
    SHORT, epochs=2, batch_size=4, together=2, dropout=0.2, crop_s=20.0, jitter_s=4.0, vary=True
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four nights of four clips; one has no respiration."""
    folder = tmp_path_factory.mktemp("cohort")
    for i in range(3):
        write_night(folder / f"n{i}.edf", seed=i)
    write_night(folder / "n3.edf", seed=3, labels=("C3-M2", "ECG"))
    return folder


def _data(folder: Path, cache: Path | None = None, **options: object) -> Data:
    asked = {"fractions": HALVES, "contract": COARSE, **options}
    return Data([folder], cache=cache or folder / "cache", **asked)  # type: ignore[arg-type]


def _train(cohort: Path, out: Path, recipe: Recipe = TINY, **options: object) -> list[Metrics]:
    asked = {"device": "cpu", "precision": "float32", "threads": 1, **options}
    return pretrain(_data(cohort), out, "leave-one-out", recipe, **asked)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def unbroken(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "w.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "can_draw", can_draw)
        _train(cohort, out)
    return out


def test_a_run_writes_weights_log_splits_and_checkpoint(unbroken: Path) -> None:
    weights = load_weights(unbroken)
    assert weights.trained
    assert weights.contract == COARSE
    assert weights.record["objective"] == "leave-one-out"
    assert weights.record["recipe"]["batch_size"] == 4
    log = [json.loads(x) for x in unbroken.with_name("w.log.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in log] == [1, 2]
    assert log[0]["valid"]["gallery"].keys() >= {"bas->ecg", "resp->bas", "ecg->others"}
    assert {"loss", "top1_in_batch", "temperature", "clips_per_s"} <= log[0].keys()
    splits = json.loads(unbroken.with_name("w.splits.json").read_text())
    assert sorted(name for own in splits.values() for name in own) == ["n0", "n1", "n2", "n3"]
    assert unbroken.with_name("w.curves.png").is_file() == can_draw()
    assert weights.temperature >= 0
    vectors = Encoder(weights, "cpu").encode(
        "ecg", np.ones((1, 1, COARSE.clip_samples), np.float32)
    )
    assert np.isfinite(vectors).all()


def test_a_killed_run_resumes_to_the_same_numbers(
    cohort: Path, unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "w.safetensors"

    def kill(epoch: int, done: int, total: int, loss: float) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _train(cohort, out, callbacks=TrainingCallbacks(training=kill))
    torch.rand(3)  # whatever happened in between
    _train(cohort, out, resume=True)
    ends = [torch.load(p.with_name("w.checkpoint.pt"), weights_only=True) for p in (unbroken, out)]
    for key, value in ends[0]["task"].items():
        assert torch.equal(value, ends[1]["task"][key]), key
    assert load_weights(out).sha256 == load_weights(unbroken).sha256


def test_windows_are_drawn_anew_and_fix_the_run(cohort: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, ...]] = []

    def watch(own: Batch, contract: Contract, *draw: object) -> Batch:
        clock = torch.arange(contract.clip_samples).expand(len(own.labels), 1, -1)
        times = dict.fromkeys(own.signals, clock)
        starts = cut_windows(replace(own, signals=times), contract, *draw).signals  # type: ignore[arg-type]
        cut = cut_windows(own, contract, *draw)  # type: ignore[arg-type]
        length = cut.signals["resp"].shape[-1]
        seen.append((length, *(int(x) for m in starts.values() for x in m[:, 0, 0])))
        return cut

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augmentation, "cut_windows", watch)
        for name in ("a", "b"):
            _train(cohort, tmp_path / f"{name}.safetensors", replace(TINY, crop_s=3.0))
    first, again = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    assert {length for length, *_ in first} == {3 * COARSE.sample_rate}
    assert first == again
    assert len(set(first)) == len(first)


def test_windows_that_do_not_fit_are_refused_before_clips_are_cut(
    cohort: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="up to 12 s apart do not fit into clips of 30 s"):
        _train(cohort, tmp_path / "w.safetensors", replace(TINY, crop_s=20.0, jitter_s=12.0))
    assert not list(tmp_path.iterdir())


def test_a_run_killed_between_checkpoint_and_weights_loses_nothing(
    cohort: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "w.safetensors"
    best = load_weights(unbroken).record["epoch"]
    export = Contrastive.export

    def kill(task: Contrastive, path: Path, history: list[Metrics]) -> None:
        if len(history) == best:
            raise KeyboardInterrupt
        export(task, path, history)

    monkeypatch.setattr(Contrastive, "export", kill)
    with pytest.raises(KeyboardInterrupt):
        _train(cohort, out)
    monkeypatch.undo()
    _train(cohort, out, resume=True)
    assert load_weights(out).sha256 == load_weights(unbroken).sha256
    assert len(out.with_name("w.log.jsonl").read_text().splitlines()) == TINY.epochs


@pytest.mark.slow
def test_a_killed_run_in_bfloat16_resumes_to_the_same_numbers(cohort: Path, tmp_path: Path) -> None:
    outs = [tmp_path / "whole.safetensors", tmp_path / "w.safetensors"]

    def kill(metrics: Metrics) -> None:
        raise KeyboardInterrupt

    _train(cohort, outs[0], precision="bfloat16")
    with pytest.raises(KeyboardInterrupt):
        _train(cohort, outs[1], precision="bfloat16", callbacks=TrainingCallbacks(epoch=kill))
    with pytest.raises(TrainingError, match="another precision; resume with the same"):
        _train(cohort, outs[1], resume=True)
    _train(cohort, outs[1], precision="bfloat16", resume=True)
    whole, resumed = (load_weights(out) for out in outs)
    assert whole.record == resumed.record
    assert whole.record["precision"] == "bfloat16"
    for modality, tensors in whole.tensors.items():
        for key, values in tensors.items():
            assert values.dtype != np.float16
            np.testing.assert_array_equal(values, resumed.tensors[modality][key])


def test_exported_weights_tell_clips_apart_after_a_few_steps(
    cohort: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Running averages lag behind a short run so far that every clip gets the same vector."""
    lagging = tmp_path / "lagging.safetensors"
    monkeypatch.setattr(loop, "measure_norms", lambda task, batches, context: task.eval())
    _train(cohort, lagging)
    recordings = prepare_clips([cohort / "n0.edf"], cohort / "cache", COARSE).recordings
    clips = np.asarray(recordings[0].signals["bas"], np.float32)
    spread = [
        np.linalg.norm(np.ptp(Encoder(load_weights(w), "cpu").encode("bas", clips), axis=0))
        for w in (unbroken, lagging)
    ]
    assert spread[0] > 10 * spread[1]


def test_a_run_is_not_overwritten_nor_mixed_with_another(cohort: Path, unbroken: Path) -> None:
    before = unbroken.with_name("w.checkpoint.pt").read_bytes()
    with pytest.raises(TrainingError, match="continue with --resume"):
        _train(cohort, unbroken)
    with pytest.raises(TrainingError, match="another lr"):
        _train(cohort, unbroken, replace(TINY, lr=0.5), resume=True)
    with pytest.raises(TrainingError, match="other data"):
        pretrain(
            _data(cohort),
            unbroken,
            "pairwise",
            TINY,
            device="cpu",
            precision="float32",
            resume=True,
        )
    assert unbroken.with_name("w.checkpoint.pt").read_bytes() == before


def test_a_full_disk_leaves_the_last_checkpoint(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "w.safetensors"
    kept = b""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    def after_first(metrics: Metrics) -> None:
        nonlocal kept
        kept = out.with_name("w.checkpoint.pt").read_bytes()
        monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(TrainingError, match=r"epoch 2 cannot be saved .*No space left.*--resume"):
        _train(cohort, out, callbacks=TrainingCallbacks(epoch=after_first))
    assert kept
    assert out.with_name("w.checkpoint.pt").read_bytes() == kept
    assert load_weights(out).record["epoch"] == 1


def test_a_damaged_checkpoint_is_refused(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "w.checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match="damaged; remove it"):
        _train(cohort, tmp_path / "w.safetensors", resume=True)


def test_too_few_clips_or_subjects_are_refused(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "w.safetensors"
    with pytest.raises(TrainingError, match="fewer than one batch of 64"):
        _train(cohort, out, replace(TINY, batch_size=64))
    one = Data([cohort / "n0.edf"], cache=cohort / "cache", contract=COARSE)
    with pytest.raises(TrainingError, match="1 subject cannot be split into pretrain, train"):
        pretrain(one, out, device="cpu")
    with pytest.raises(TrainingError, match="at least 2"):
        replace(TINY, batch_size=1)
    with pytest.raises(TrainingError, match="heart_epochs regresses known values"):
        _train(cohort, out, replace(TINY, heart_epochs=1))
    write_night(tmp_path / "brain.edf", labels=("C3-M2",))
    write_night(tmp_path / "brain2.edf", labels=("C3-M2",))
    with pytest.raises(TrainingError, match="only bas"):
        pretrain(_data(tmp_path), out, device="cpu")
    assert not out.exists()


def test_an_empty_split_is_refused(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "w.safetensors"
    nobody = _data(cohort, fractions={"pretrain": 1.0})
    with pytest.raises(TrainingError, match=r"the split valid has 0 clips .* at least 2"):
        pretrain(nobody, out, device="cpu")
    for i in range(2):  # one of the two is validated on, and cannot be
        write_night(tmp_path / f"{i}.edf", seed=i, labels=("C3-M2", "ECG") if i else ("C3-M2",))
    seeds = {
        next(iter(split_subjects("01", HALVES, seed).subjects("valid"))): seed  # type: ignore[arg-type]
        for seed in range(20)
    }
    lonely = _data(tmp_path)
    with pytest.raises(TrainingError, match="the split valid has 0 clips with two modalities"):
        pretrain(lonely, out, recipe=replace(TINY, seed=seeds["0"]), device="cpu")
    assert not out.exists()


@pytest.mark.parametrize(("split", "sample"), [("pretrain", 5), ("valid", 5), ("pretrain", 99)])
def test_nan_among_prepared_clips_stops_at_once_and_keeps_the_last_epoch(
    cohort: Path, tmp_path: Path, split: str, sample: int
) -> None:
    """Sample 5 is before nearly all training windows, which are of 20 s."""
    cache = tmp_path / "cache"
    data = _data(cohort, cache)
    out = tmp_path / "w.safetensors"

    def spoil(metrics: Metrics) -> None:
        own = json.loads(out.with_name("w.splits.json").read_text())[split]
        for recording in prepare_clips([cohort], cache, COARSE).recordings:
            if recording.recording_id in own:
                clips = np.load(recording.signals["ecg"].filename, mmap_mode="r+")
                clips[:, 0, sample] = np.nan
                clips.flush()

    with pytest.raises(TrainingError, match="contain NaN or infinity; remove the clip cache"):
        pretrain(
            data,
            out,
            recipe=TINY,
            device="cpu",
            precision="float32",
            callbacks=TrainingCallbacks(epoch=spoil),
        )
    assert load_weights(out).record["epoch"] == 1
    kept = torch.load(out.with_name("w.checkpoint.pt"), weights_only=True)
    assert all(bool(x.isfinite().all()) for x in kept["task"].values())


def test_a_modality_that_nobody_in_a_split_has_is_no_obstacle(cohort: Path, tmp_path: Path) -> None:
    recordings = prepare_clips([cohort / "n3.edf"], cohort / "cache", COARSE).recordings
    clips = ClipSet(recordings, COARSE, COARSE.modalities)
    batch = clips.load(np.arange(2))
    assert batch.signals["resp"].shape == (2, 3, COARSE.clip_samples)
    assert batch.present is not None and batch.present[2].tolist() == [False, False]
    task = Contrastive("pairwise", COARSE.modalities, COARSE, TINY, clips, {}).eval()
    with torch.no_grad():
        found = task.evaluate(Run(torch.device("cpu"), torch.float32))
    assert found["gallery"]["bas->resp"] == {"gallery": 0}
    assert np.isfinite(found["loss"])


def test_only_the_modalities_asked_for_are_trained(cohort: Path, tmp_path: Path) -> None:
    two = ["bas", "ecg"]
    _train(cohort, tmp_path / "w.safetensors", replace(TINY, epochs=1), modalities=two)
    weights = load_weights(tmp_path / "w.safetensors")
    assert list(weights.tensors) == two
    assert weights.record["modalities"] == ["bas", "ecg"]
    with pytest.raises(TrainingError, match="have only ecg of ecg; contrastive"):
        _train(cohort, tmp_path / "one.safetensors", modalities=["ecg"])


def test_nothing_to_read_is_said_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "bad.edf").write_text("no recording")
    with pytest.raises(TrainingError, match=r"no recording gives clips.*bad\.edf"):
        prepare_clips([tmp_path], tmp_path / "cache", COARSE)


def test_clips_are_prepared_once(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare_clips([cohort], tmp_path, COARSE)
    monkeypatch.setattr("sleepfm.clips.cut_clips", None)
    again = prepare_clips([cohort], tmp_path, COARSE)
    assert [r.count for r in again.recordings] == [r.count for r in first.recordings] == [4] * 4
    ecg = again.recordings[0].signals["ecg"]
    assert ecg.shape == (4, 1, COARSE.clip_samples)
    assert isinstance(ecg, np.memmap)
    assert again.recordings[0].stage == ("W", "N1", "N2", "R")


def test_batches_hold_every_clip_once_and_know_what_is_absent(cohort: Path) -> None:
    recordings = prepare_clips([cohort], cohort / "cache", COARSE).recordings
    clips = ClipSet(recordings, COARSE, COARSE.modalities, {"W": 0, "R": 1})
    assert len(clips) == 16
    epoch = shuffled(clips, 4, together=2, seed=1, epoch=0)
    assert sorted(np.concatenate(epoch)) == list(range(16))
    assert all((a == b).all() for a, b in zip(epoch, shuffled(clips, 4, 2, 1, 0), strict=True))
    assert not np.array_equal(epoch, shuffled(clips, 4, 2, 1, 1))
    batches = list(stream(clips, in_order(clips, 6)))
    assert batches[0].present is None
    last = batches[2].present
    assert last is not None
    assert last.tolist() == [[True] * 4, [True] * 4, [False] * 4]
    assert batches[0].labels[:4].tolist() == [0, -1, -1, 1]
    assert torch.equal(
        batches[0].signals["ecg"][5],
        torch.from_numpy(np.array(recordings[1].signals["ecg"][1])),
    )


def test_no_subject_is_in_two_splits() -> None:
    names = [f"s{i}" for i in range(23)]
    splits = split_subjects(names * 2, seed=4)
    parts = [splits.subjects(s) for s in ("pretrain", "train", "valid", "test")]
    assert sorted(name for own in parts for name in own) == sorted(names)
    assert [len(p) for p in parts] == [17, 2, 2, 2]
    assert split_subjects(reversed(names), seed=4) == splits
    assert split_subjects(names, seed=5) != splits


def test_subjects_are_read_from_a_table(tmp_path: Path) -> None:
    path = tmp_path / "subjects.csv"
    path.write_text("recording_id,subject_id\na,x\nb,x\nc,\n")
    assert read_subjects(path) == {"a": "x", "b": "x", "c": "c"}
    path.write_text("id\n1\n")
    with pytest.raises(TrainingError, match="recording_id"):
        read_subjects(path)


def test_ranks_count_ties_against() -> None:
    alike = torch.ones(5, 3)
    assert ranks(alike, alike).tolist() == [5] * 5
    eye = torch.eye(4)
    assert ranks(eye, eye).tolist() == [1] * 4
    assert ranks(eye, eye.roll(1, 0)).tolist() == [4] * 4
    everyone = torch.ones(4, dtype=torch.bool)
    some = torch.tensor([True, True, False, True])
    found = gallery_metrics(
        {"bas": eye, "ecg": eye, "resp": eye},
        {"bas": everyone, "ecg": everyone, "resp": some},
    )
    assert found["bas->resp"]["gallery"] == 3
    assert found["bas->others"] == {
        "recall_at_1": 1.0,
        "recall_at_10": 1.0,
        "median_rank": 1.0,
        "gallery": 4,
    }


def test_learning_rates_follow_their_schedule() -> None:
    assert [AUTHORS.lr_at(s, 20) for s in (0, 4, 5, 10)] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5])
    rates = [SHORT.lr_at(s, 100) for s in range(100)]
    assert max(rates) == rates[4] == rates[5] == pytest.approx(SHORT.lr)
    assert rates[0] < rates[2] < rates[4]
    assert rates[-1] < 0.01 * SHORT.lr
