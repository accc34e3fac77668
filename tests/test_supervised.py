"""The end-to-end classifier: the same loop, unscored clips left out, one file to use it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nights import COARSE, write_night

from sleepfm.encoders.classifier import load_classifier
from sleepfm.encoders.load import load_weights
from sleepfm.errors import TrainingError, WeightsError
from sleepfm.training.batches import ClipSet, in_order
from sleepfm.training.clipcache import prepare_clips
from sleepfm.training.data import Data, TrainingCallbacks
from sleepfm.training.metrics import class_metrics
from sleepfm.training.recipe import SHORT
from sleepfm.training.supervised import Labels, supervise

pytestmark = pytest.mark.usefixtures("no_curves")
FRACTIONS = {"pretrain": 0.5, "train": 0.25, "valid": 0.25}
TINY = replace(SHORT, epochs=2, batch_size=4, together=2, dropout=0.2, crop_s=20.0)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four nights of four clips, of which one each is not scored."""
    folder = tmp_path_factory.mktemp("scored")
    for i in range(4):
        write_night(folder / f"n{i}.edf", seed=i, stages=("W", "N2", "?", "R"))
    return folder


def _train(cohort: Path, out: Path, **options: object) -> list[dict[str, object]]:
    data = Data(
        [cohort],
        fractions=FRACTIONS,  # type: ignore[arg-type]
        contract=COARSE,
        cache=cohort / "cache",
    )
    asked = {"device": "cpu", "precision": "float32", "threads": 1, **options}
    return supervise(data, out, recipe=TINY, **asked)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("classifier") / "c.safetensors"
    _train(cohort, out)
    return out


def test_unscored_clips_are_left_out_and_counted(trained: Path) -> None:
    record = load_classifier(trained).record
    assert record["clips"] == {"train": 9, "valid": 3}
    assert record["unscored"] == {"train": 3, "valid": 1}
    assert record["recordings"] == {"train": 3, "valid": 1}
    assert record["objective"] == "supervised"
    # the channels of one network stay together, whatever the recipe
    assert TINY.jitter_s > 0 == record["recipe"]["jitter_s"]


def test_the_file_gives_the_figures_of_the_record(cohort: Path, trained: Path) -> None:
    classifier = load_classifier(trained)
    assert classifier.classes == ("W", "N1", "N2", "N3", "R")
    (valid,) = json.loads(trained.with_name("c.splits.json").read_text())["valid"]
    recordings = prepare_clips([cohort / f"{valid}.edf"], cohort / "cache", COARSE).recordings
    classes = {stage: i for i, stage in enumerate(classifier.classes)}
    clips = ClipSet(recordings, COARSE, COARSE.modalities, classes, at_least=1, labelled=True)
    batch = clips.load(in_order(clips, 99)[0])
    signals = {m: x.numpy().astype(np.float32) for m, x in batch.signals.items()}
    chances = classifier.probabilities(signals)
    assert chances.shape == (3, 5)
    np.testing.assert_allclose(chances.sum(1), 1, rtol=1e-5)
    logged = classifier.record["metrics"]["valid"]
    loss = -np.log(chances[np.arange(3), clips.labels]).mean()
    assert loss == pytest.approx(logged["loss"], rel=1e-3)
    assert class_metrics(chances, clips.labels)["accuracy"] == logged["accuracy"]


def test_a_killed_run_resumes_to_the_same_numbers(
    cohort: Path, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "c.safetensors"

    def kill(metrics: dict[str, object]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _train(cohort, out, callbacks=TrainingCallbacks(epoch=kill))
    _train(cohort, out, resume=True)
    assert out.read_bytes() == trained.read_bytes()


def test_what_cannot_be_learned_is_refused(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.safetensors"
    with pytest.raises(TrainingError, match=r"no clip scored N1, N3 .*12 clips have another label"):
        _train(cohort, out, labels=Labels(classes=("N1", "N3")))
    for i in range(2):
        write_night(tmp_path / f"{i}.edf", seed=i, labels=("C3-M2", "ECG"))
    halves = Data([tmp_path], fractions={"train": 0.5, "valid": 0.5})
    with pytest.raises(TrainingError, match="no recording to train on has resp"):
        supervise(halves, out, recipe=TINY, device="cpu")
    assert not out.exists()


def test_a_damaged_or_foreign_file_is_refused(trained: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.safetensors"
    short.write_bytes(trained.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="truncated or damaged"):
        load_classifier(short)
    with pytest.raises(WeightsError, match="cannot be read"):
        load_classifier(tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match="does not contain weights"):
        load_weights(trained)
    found = load_classifier(trained)
    replace(found, classes=("W", "R")).save(tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="damaged classifier, or one with another network"):
        load_classifier(tmp_path / "other.safetensors")


def test_clips_that_do_not_fit_are_refused(trained: Path) -> None:
    classifier = load_classifier(trained)
    clips = {
        m: np.zeros((1, len(COARSE.slots_of(m)), COARSE.clip_samples), np.float32)
        for m in COARSE.modalities
    }
    with pytest.raises(WeightsError, match="needs resp clips"):
        classifier.probabilities({m: x for m, x in clips.items() if m != "resp"})
    clips["ecg"][0, 0, 0] = np.nan
    with pytest.raises(WeightsError, match="ecg clips must be finite"):
        classifier.probabilities(clips)


def test_class_metrics_are_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, 300)
    logits = draw.standard_normal((300, 5)).round(1) + np.eye(5)[labels]  # with ties
    chances = torch.softmax(torch.from_numpy(logits), 1).numpy()
    found = class_metrics(chances.astype(np.float32), labels)
    kinds = {"auroc": metrics.roc_auc_score, "auprc": metrics.average_precision_score}
    for name, measure in kinds.items():
        scores = chances.astype(np.float32)
        theirs = np.mean([measure(labels == k, scores[:, k]) for k in range(4)])
        assert found[name] == pytest.approx(theirs, rel=1e-9)
    guessed = chances.argmax(1)
    assert found["accuracy"] == metrics.accuracy_score(labels, guessed)
    recall = metrics.recall_score(labels, guessed, average="macro", labels=range(4))
    assert found["balanced_accuracy"] == pytest.approx(recall)
    only = class_metrics(chances[:3], np.zeros(3, np.int64))
    assert only["auroc"] is None and only["auprc"] is None
