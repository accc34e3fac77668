"""Varied sensors: what may change does, what must stay stays, and a step draws the same again."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sleepfm.contract import BODY
from sleepfm.errors import TrainingError
from sleepfm.training.augment import augment
from sleepfm.training.batches import Batch
from sleepfm.training.masked import BLOCK_S, SpectrumHeads
from sleepfm.training.physiology import GROUPS, NAMES
from sleepfm.training.recipe import Recipe

PLAIN = Recipe(batch_size=64)


def batch(n: int = 64, filled: float = 1.0) -> Batch:
    draw = torch.Generator().manual_seed(0)
    signals = {}
    for m in BODY.modalities:
        x = torch.randn(n, len(BODY.slots_of(m)), BODY.clip_samples, generator=draw)
        keep = torch.rand(x.shape[:2], generator=draw) < filled
        keep[:, 0] |= ~keep.any(dim=1)
        signals[m] = x * keep.unsqueeze(2)
    return Batch(signals, None, torch.full((n,), -1))


def slots(x: torch.Tensor) -> torch.Tensor:
    return (x != 0).any(dim=2)


def test_as_recorded_is_left_alone() -> None:
    own = batch()
    assert augment(own, BODY, PLAIN, 0, 0) is own


def clock(n: int = 64) -> Batch:
    """Clips whose every sample is its own number, with which a window tells where it was cut."""
    samples = torch.arange(1.0, BODY.clip_samples + 1)
    signals = {
        m: samples.expand(n, len(BODY.slots_of(m)), BODY.clip_samples) for m in BODY.modalities
    }
    return Batch(signals, None, torch.full((n,), -1))


def starts(cut: Batch) -> dict[str, np.ndarray]:
    """The first sample of each window, and a check that the others follow it in every slot."""
    first = {}
    for m, x in cut.signals.items():
        expected = x[:, :1, :1] + torch.arange(x.shape[2])
        torch.testing.assert_close(x, expected.expand_as(x))
        first[m] = x[:, 0, 0].numpy() - 1
    return first


def test_without_jitter_all_modalities_and_clips_have_the_same_window() -> None:
    recipe = replace(PLAIN, crop_s=10.0)
    drawn = set()
    for step in range(20):
        cut = augment(clock(4), BODY, recipe, 1, step)
        assert {x.shape[2] for x in cut.signals.values()} == {10 * BODY.sample_rate}
        own = {float(v) for first in starts(cut).values() for v in first}
        assert len(own) == 1
        drawn |= own
    assert len(drawn) > 10
    whole = augment(clock(4), BODY, replace(PLAIN, crop_s=99.0), 1, 0)
    assert whole.signals["ecg"].shape[2] == BODY.clip_samples


def test_jitter_cuts_each_modality_of_each_clip_apart_and_within_the_clip() -> None:
    recipe = replace(PLAIN, crop_s=24.0, jitter_s=2.0)
    all_starts = []
    for step in range(50):
        cut = augment(clock(), BODY, recipe, 0, step)
        all_starts.append(np.stack(list(starts(cut).values())))
    limit = 2 * BODY.sample_rate
    for a, b in ((0, 1), (0, 2), (1, 2)):
        gaps = [first[a] - first[b] for first in all_starts]
        assert min(len(np.unique(gap)) for gap in gaps) > 30  # of 64 clips of a step
        gap = np.concatenate(gaps)
        # the difference of two uniform numbers: triangular, with an SD of limit / 6**.5
        assert abs(gap).max() <= limit
        assert gap.std() == pytest.approx(limit / 6**0.5, rel=0.1)
        assert abs(gap.mean()) < 0.1 * limit
    every = np.concatenate(all_starts, axis=1)
    last = BODY.clip_samples - 24 * BODY.sample_rate
    assert 0 <= every.min() < 0.1 * last
    assert 0.9 * last < every.max() <= last
    assert starts(augment(clock(), BODY, recipe, 0, 7))["ecg"].tolist() == all_starts[7][1].tolist()
    assert starts(augment(clock(), BODY, recipe, 1, 7))["ecg"].tolist() != all_starts[7][1].tolist()
    whole = augment(clock(), BODY, recipe, 0, 0, whole=True)
    assert whole.signals["resp"].shape[2] == BODY.clip_samples


def test_jitter_that_cannot_be_is_refused() -> None:
    with pytest.raises(TrainingError, match="jitter_s needs crop_s"):
        replace(PLAIN, jitter_s=1.0)
    with pytest.raises(TrainingError, match="jitter_s must be at least 0"):
        replace(PLAIN, crop_s=10.0, jitter_s=-1.0)
    with pytest.raises(TrainingError, match=r"jitter_s of 0\.001 is less than a sample"):
        augment(clock(4), BODY, replace(PLAIN, crop_s=10.0, jitter_s=0.001), 0, 0)
    with pytest.raises(TrainingError, match="crop_s must be at least 1"):
        replace(PLAIN, crop_s=0.5)
    with pytest.raises(TrainingError, match="29 s that start up to 2 s apart do not fit"):
        augment(clock(4), BODY, replace(PLAIN, crop_s=29.0, jitter_s=2.0), 0, 0)


def test_a_heart_field_beats_with_the_eeg_it_is_added_to_whatever_the_windows() -> None:
    recipe = replace(PLAIN, crop_s=20.0, jitter_s=5.0, heart_field=1.0)
    whole = augment(batch(), BODY, recipe, 1, 2, whole=True)
    cut = augment(batch(), BODY, recipe, 1, 2)
    first = starts(augment(clock(), BODY, replace(recipe, heart_field=0.0), 1, 2))
    for m, x in cut.signals.items():
        for clip, start in enumerate(first[m].astype(int).tolist()):
            expected = whole.signals[m][clip, :, start : start + x.shape[2]]
            torch.testing.assert_close(x[clip], expected)


@pytest.mark.parametrize("filled", [1.0, 0.4])
def test_slots_are_taken_but_never_the_last(filled: float) -> None:
    own = batch(filled=filled)
    thin = augment(own, BODY, replace(PLAIN, slot_dropout=1.0), 0, 0)
    for m in BODY.modalities:
        before, after = slots(own.signals[m]), slots(thin.signals[m])
        assert not (after & ~before).any()
        assert after.any(dim=1).all()
        kept = thin.signals[m][after]
        torch.testing.assert_close(kept, own.signals[m][after])
        if len(BODY.slots_of(m)) > 1:
            assert 0.3 < after.sum() / before.sum() < 0.8


def test_sensors_vary_and_a_saturation_never_turns_over() -> None:
    own = batch()
    varied = augment(own, BODY, replace(PLAIN, vary=True), 3, 5)
    again = augment(own, BODY, replace(PLAIN, vary=True), 3, 5)
    other = augment(own, BODY, replace(PLAIN, vary=True), 3, 6)
    resp = BODY.slots_of("resp")
    signs = {}
    for m in BODY.modalities:
        assert torch.equal(varied.signals[m], again.signals[m])
        assert not torch.equal(varied.signals[m], other.signals[m])
        signs[m] = (varied.signals[m] * own.signals[m]).sum(dim=2).sign()
    turned = (signs["resp"] < 0).float().mean(dim=0)
    assert turned[resp.index("SaO2")] == 0
    assert 0.3 < turned[resp.index("CHEST")] < 0.7
    assert 0 < turned[resp.index("PULSE")] < 0.3
    assert 0.1 < float((signs["ecg"] < 0).float().mean()) < 0.45
    assert torch.equal(own.signals["ecg"], batch().signals["ecg"])


def test_an_empty_slot_stays_empty_without_other_leads() -> None:
    own = batch(filled=0.4)
    varied = augment(own, BODY, replace(PLAIN, vary=True), 0, 1)
    for m in ("ecg", "resp"):
        assert torch.equal(slots(varied.signals[m]), slots(own.signals[m]))


def test_half_of_a_clip_is_hidden_and_its_spectrum_is_asked_for() -> None:
    own = augment(batch(8), BODY, replace(PLAIN, masked=1.0), 0, 0)
    assert own.hidden is not None
    blocks = BODY.clip_seconds // BLOCK_S
    assert own.hidden.shape == (8, blocks)
    assert own.hidden.sum(dim=1).tolist() == [round(blocks / 2)] * 8
    readers = SpectrumHeads(BODY, BODY.modalities)
    shown = readers.hide(own).signals["ecg"]
    size = BLOCK_S * BODY.sample_rate
    pieces = shown.reshape(8, blocks, size).abs().amax(dim=2)
    assert torch.equal(pieces == 0, own.hidden)
    loss = readers.loss("ecg", torch.zeros(8, 512), own.signals["ecg"], own.hidden)
    bias = readers.heads["ecg"].bias
    assert float(loss.detach()) == pytest.approx(1 + float(bias.detach().square().mean()), rel=0.3)
    assert np.isfinite(float(loss.detach()))


def test_the_heart_field_is_the_clips_own_ecg_with_its_own_sign_in_each_channel() -> None:
    own = batch(filled=0.6)
    recipe = replace(PLAIN, heart_field=0.5)
    changed = augment(own, BODY, recipe, 1, 2)
    for m in ("ecg", "resp"):
        assert torch.equal(changed.signals[m], own.signals[m])
    added = changed.signals["bas"] - own.signals["bas"]
    ecg = own.signals["ecg"][:, :1]
    # what is added is a multiple of the ECG, where there is a signal
    amplitude = (added * ecg).sum(dim=2) / ecg.square().sum(dim=2)
    torch.testing.assert_close(added, amplitude.unsqueeze(2) * ecg, atol=1e-5, rtol=0)
    filled = slots(own.signals["bas"])
    assert not amplitude[~filled].any()
    with_field = amplitude.abs().sum(dim=1) > 0
    assert 0.3 < with_field.float().mean() < 0.7
    some = amplitude[filled & with_field.unsqueeze(1)]
    assert 0.3 < (some > 0).float().mean() < 0.7
    assert some.abs().min() > 0.005 and 0.3 < some.abs().max() < 2
    again = augment(own, BODY, recipe, 1, 2)
    assert torch.equal(again.signals["bas"], changed.signals["bas"])


def test_the_eeg_learns_heart_rate_first_then_stages_then_all() -> None:
    own = replace(batch(), targets=torch.zeros(64, len(NAMES)))
    recipe = replace(PLAIN, heart_field=0.5, heart_epochs=2)
    ecg = own.signals["ecg"][:, :1]
    share, weights = [], []
    for epoch in range(5):
        changed = augment(own, BODY, recipe, epoch, 0)
        added = changed.signals["bas"] - own.signals["bas"]
        share.append(float((added.abs() > 0.2 * ecg.abs()).float().mean()))
        assert changed.target_weights.keys() == {"bas"}
        weights.append(dict(zip(GROUPS, changed.target_weights["bas"], strict=True)))
    assert share[0] > 0.9 > 0.4 > share[1]
    heart = {"value": 0, "stage": 0, "heart_rate": 1, "breathing_rate": 0}
    assert weights == [
        heart,
        heart,
        heart | {"stage": 4},
        heart | {"stage": 4},
        {"value": 1, "stage": 4, "heart_rate": 3, "breathing_rate": 1},
    ]
