"""What is asked of the encoders: read off the truth, and counted only where it is known."""

import numpy as np
import pytest
import torch

from sleepfm.simulate import clip_truth, simulate_night
from sleepfm.simulate.truth import COLUMNS
from sleepfm.training.physiology import GROUPS, NAMES, RegressionHeads, targets_of


def test_the_truth_is_a_recount_of_the_night() -> None:
    night = simulate_night(2, 3, 20, first_epoch=100)
    truth = clip_truth(night)
    assert tuple(truth) == COLUMNS
    assert {x.shape for x in truth.values()} == {(20,)}
    beats = night.beats
    for clip in range(20):
        low, high = 30 * clip, 30 * (clip + 1)
        rr = [
            beats.rr_s[i]
            for i in range(1, len(beats.at_s))
            if low <= beats.at_s[i] < high and not beats.ectopic[i] and not beats.ectopic[i - 1]
        ]
        assert truth["rr_mean_s"][clip] == pytest.approx(np.mean(rr), rel=1e-5)
        assert truth["rr_sd_s"][clip] == pytest.approx(np.std(rr), rel=1e-4)
        phase = night.breathing.phase[4 * low : 4 * high]
        assert truth["breath_hz"][clip] == pytest.approx((phase[-1] - phase[0]) / 29.75, rel=0.05)
        apneas = [
            max(0.0, min(high, onset + length) - max(low, onset))
            for onset, length, kind in zip(
                night.scored_events.onset_s,
                night.scored_events.duration_s,
                night.scored_events.kind,
                strict=True,
            )
            if kind > 0
        ]
        assert truth["apnea_s"][clip] == pytest.approx(min(30, sum(apneas)), abs=1e-3)


def test_targets_code_what_is_known_and_nan_what_is_not() -> None:
    truth = {"rr_mean_s": np.array([1.0, np.nan]), "breath_hz": np.array([0.25, 0.3])}
    found = targets_of(truth, ["N2", "UNS"])
    assert found.shape == (2, len(NAMES))
    columns = {name: found[:, i] for i, name in enumerate(NAMES)}
    assert columns["log_rr_mean_s"][0] == pytest.approx(0) and np.isnan(columns["log_rr_mean_s"][1])
    assert np.isnan(columns["sleep_depth"]).all()
    assert columns["stage_N2"].tolist()[0] == 1 and np.isnan(columns["stage_N2"][1])
    heart = {float(n.removeprefix("heart_")): c[0] for n, c in columns.items() if "heart" in n}
    assert max(heart, key=lambda bpm: heart[bpm]) == pytest.approx(60, rel=0.05)


def test_what_is_not_known_asks_for_nothing() -> None:
    known = targets_of({"rr_mean_s": np.linspace(0.6, 1.2, 40)}, ["N2", "W"] * 20)
    torch.manual_seed(0)
    readers = RegressionHeads(("ecg",), known)
    outputs = torch.randn(40, 512, requires_grad=True)
    targets = torch.from_numpy(known)
    blank = targets.clone()
    blank[20:] = torch.nan
    readers.loss("ecg", outputs, blank).backward()
    assert outputs.grad is not None
    assert outputs.grad[:20].abs().sum() > 0 and outputs.grad[20:].abs().sum() == 0
    nothing = readers.loss("ecg", outputs, torch.full_like(targets, torch.nan))
    assert nothing.item() == 0


def test_heads_fitted_to_encoders_that_know_read_it_at_once() -> None:
    draw = torch.Generator().manual_seed(1)
    outputs = torch.randn(1500, 512, generator=draw)
    rr = np.exp(0.1 * outputs[:, 0].numpy() - 0.2)
    targets = torch.from_numpy(targets_of({"rr_mean_s": rr}, ["N2", "W"] * 750))
    readers = RegressionHeads(("ecg",), targets.numpy())
    column = NAMES.index("log_rr_mean_s")
    readers.fit("ecg", outputs, targets)
    with torch.no_grad():
        guess = readers.heads["ecg"](outputs)[:, column].numpy()
    assert np.corrcoef(guess, np.log(rr))[0, 1] > 0.98


def test_groups_of_targets_count_by_their_weights() -> None:
    known = targets_of({"rr_mean_s": np.linspace(0.6, 1.2, 40)}, ["N2", "W"] * 20)
    targets = torch.from_numpy(known)
    readers = RegressionHeads(("bas",), known)
    outputs = torch.randn(40, 512, generator=torch.Generator().manual_seed(2))

    def loss(**weights: float) -> float:
        return readers.loss("bas", outputs, targets, [weights.get(g, 0) for g in GROUPS]).item()

    heart, stage = loss(heart_rate=1), loss(stage=1)
    assert loss(heart_rate=1, stage=3) == pytest.approx((heart + 3 * stage) / 4)
    # breathing rate is unknown throughout and takes no share
    assert loss(heart_rate=1, breathing_rate=5) == pytest.approx(heart)
    equal = readers.loss("bas", outputs, targets).item()
    assert equal == pytest.approx((heart + stage + loss(value=1)) / 3)
