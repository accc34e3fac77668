"""The training distribution in weights: distance, limit, file, build and query --file."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from recording_files import Signal, noise, write_edf
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy.signal import welch
from scipy.spatial.distance import mahalanobis
from typer.testing import CliRunner

import sleepfm_index
from sleepfm.contract import ROBUST, Contract
from sleepfm.encoders.clip_spectra import BANDS, log_band_powers
from sleepfm.encoders.load import load_weights, untrained
from sleepfm.encoders.training_distribution import (
    MIN_CALIBRATING,
    MIN_PEOPLE,
    TrainingDistribution,
    limit,
)
from sleepfm.encoders.weights import read_info, read_weights
from sleepfm.errors import TrainingError, WeightsError
from sleepfm.training.measure_distribution import choose_people, measure_distribution
from sleepfm_cli.main import app
from sleepfm_index.building.training_distance import unlike_sentences

SMALL = Contract(
    name="small",
    resampling="polyphase",
    scaling="robust",
    slots={"bas": ("A", "B"), "ecg": ("C",)},
    units={},
    sample_rate=64,
    clip_seconds=4,
)
Clips = dict[str, NDArray[np.float32]]


def drawn(seed: int, clips: int = 6, slope: float = 1.0) -> Clips:
    """Clips of one person: noise whose spectrum falls with a slope of his own."""
    rng = np.random.default_rng(seed)
    hz = np.fft.rfftfreq(SMALL.clip_samples, 1 / SMALL.sample_rate)
    gain = (hz + 0.5) ** -(slope + 0.2 * rng.standard_normal())
    found = {}
    for modality, slots in SMALL.slots.items():
        noise = rng.standard_normal((clips, len(slots), SMALL.clip_samples))
        x = np.fft.irfft(np.fft.rfft(noise) * gain, SMALL.clip_samples)
        found[modality] = (x / x.std()).astype(np.float32)
    return found


def measured(people: int = 60, lacking: tuple[str, int, int] | None = None) -> TrainingDistribution:
    """The distribution of some people; ``lacking``: modality, slot, how many have it."""
    names = [f"p{i}" for i in range(people)]
    shaping, calibrating = choose_people(names)
    clips = {name: drawn(i) for i, name in enumerate(names)}
    if lacking is not None:
        modality, slot, having = lacking
        for name in [*shaping, *calibrating][: len(names) - having]:
            clips[name][modality][:, slot] = 0
    return measure_distribution(SMALL, clips.items(), shaping)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 10), min_size=MIN_CALIBRATING, max_size=300))
def test_at_most_one_in_twenty_exceeds_the_limit(usual: list[float]) -> None:
    """Counted: leave each out in turn, as if it were the further one."""
    values = np.array(usual)
    bound = limit(values)
    place = int(np.sum(values < bound))
    assert bound in values
    # the rank of a further person among n + 1 is uniform: that many ranks lie beyond
    assert (len(values) - np.sum(values <= bound) + 1) / (len(values) + 1) <= 0.05 + 1e-12
    assert (len(values) - place + 1) / (len(values) + 1) > 0.05 - 1e-12


def test_powers_are_those_of_welch() -> None:
    """Each band is the mean of scipy's periodogram over its bins."""
    clips = drawn(3)["bas"]
    powers, filled = log_band_powers(clips, SMALL.sample_rate)
    assert filled.all()
    window = np.hanning(SMALL.clip_samples)
    hz, density = welch(
        clips, SMALL.sample_rate, window, SMALL.clip_samples, detrend=False, scaling="density"
    )
    edges = np.geomspace(0.1, SMALL.sample_rate / 2, BANDS + 1)
    for band in range(BANDS - 6, BANDS - 1):
        within = (hz >= edges[band]) & (hz < edges[band + 1])
        assert within.any()
        # scipy's density is one-sided, twice the one measured here
        expected = np.log10(density[..., within].mean(axis=-1) / 2 + 1e-6)
        np.testing.assert_allclose(powers[..., band], expected, atol=1e-4)


def test_a_distance_is_mahalanobis_and_the_ratio_is_recounted() -> None:
    known = measured(40)
    names = [f"p{i}" for i in range(40)]
    shaping, calibrating = choose_people(names)
    everyone = {name: drawn(i) for i, name in enumerate(names)}
    new = drawn(1000, slope=1.5)

    def by_hand(slot: int, x: Clips) -> float:
        train = np.concatenate(
            [log_band_powers(everyone[n]["bas"], 64)[0][:, slot].astype(float) for n in shaping]
        )
        mean, deviation = train.mean(axis=0), train.std(axis=0) + 0.1
        inverse = np.linalg.inv(np.cov(((train - mean) / deviation).T) + 0.05 * np.eye(BANDS))
        own = (log_band_powers(x["bas"], 64)[0][:, slot] - mean) / deviation
        each = [mahalanobis(row, np.zeros(BANDS), inverse) / np.sqrt(BANDS) for row in own]
        return float(np.median(each))

    usual = np.array([[by_hand(s, everyone[n]) for s in (0, 1)] for n in calibrating])
    middle = np.median(usual, axis=0)
    farthest = np.sort((usual / middle).max(axis=1))
    own = np.array([by_hand(s, new) for s in (0, 1)]) / middle
    found = known.distance("bas", new["bas"])
    assert found is not None
    bound = farthest[int(np.ceil(0.95 * (len(calibrating) + 1))) - 1]
    assert found.ratio == pytest.approx(own.max() / bound, rel=1e-3)
    assert found.slot == SMALL.slots["bas"][int(own.argmax())]


def test_one_in_twenty_of_the_same_kind_is_flagged_and_another_kind_is() -> None:
    known = measured(160)
    same = [known.distance("bas", drawn(10_000 + i)["bas"]) for i in range(200)]
    other = [known.distance("bas", drawn(20_000 + i, slope=2.5)["bas"]) for i in range(5)]
    share = np.mean([d is not None and d.unlike for d in same])
    assert 0.01 <= share <= 0.1
    assert all(d is not None and d.unlike for d in other)


def test_a_recording_is_judged_by_the_slots_that_people_share_with_it() -> None:
    known = measured(lacking=("bas", 1, 5))
    new = drawn(1000)["bas"]
    both, first = known.distance("bas", new), known.distance("bas", new * [[1], [0]])
    assert both is not None and both == first and both.slot == "A"
    assert known.distance("bas", new * np.float32([[0], [1]])) is None
    assert known.distance("resp", new) is None


def test_too_few_people_give_no_distribution() -> None:
    with pytest.raises(TrainingError, match=f"at least {MIN_PEOPLE} people, got 3"):
        choose_people(["a", "b", "c", "c"])
    shaping, calibrating = choose_people(map(str, range(MIN_PEOPLE)))
    assert len(calibrating) == MIN_CALIBRATING and not {*shaping} & {*calibrating}


def test_weights_carry_it_and_those_without_are_as_before(tmp_path: Path) -> None:
    plain = untrained(0, replace(SMALL, slots={"ecg": ("C",)}))
    whole = measured(40)
    known = replace(
        plain, distribution=replace(whole, spectra={"ecg": whole.spectra["ecg"]}), sha256=""
    )
    assert read_info(plain.save(tmp_path / "plain.safetensors")).distribution == {}
    assert rb"\"format_version\":1" in plain.to_bytes()
    path = known.save(tmp_path / "known.safetensors")
    assert read_info(path).distribution == {"people": 20, "calibrating": 20, "clips": 240}
    back = read_weights(path)
    assert back.sha256 == known.sha256 != plain.sha256
    assert back.modalities == plain.modalities and back.distribution is not None
    clips = drawn(1000)["ecg"]
    assert known.distribution is not None
    assert back.distribution.distance("ecg", clips) == known.distribution.distance("ecg", clips)
    assert replace(back, sha256="").to_bytes() == known.to_bytes()
    spectra = known.distribution.spectra
    odd = replace(spectra["ecg"], mean=spectra["ecg"].mean[:, :5])
    broken = replace(known.distribution, spectra={**spectra, "ecg": odd})
    replace(known, distribution=broken, sha256="").save(path)
    with pytest.raises(WeightsError, match=r"known.safetensors.*ecg.*mean is not float32"):
        read_weights(path)


@cache
def _whole() -> TrainingDistribution:
    return measured(40)


def _read(tensors: dict[str, NDArray[np.float32]], **counts: int) -> TrainingDistribution:
    return TrainingDistribution.from_tensors(SMALL, _whole().facts | counts, tensors)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        *((part, value) for part in ("mean", "deviation", "precision") for value in (np.nan, 3e38)),
        ("mean", -np.inf),
        ("deviation", 0.0),
        ("deviation", -1.0),
        ("precision", -1.0),
        ("precision", 30.0),
        ("usual", 0.0),
        ("usual", -1.0),
        ("usual", np.inf),
    ],
)
def test_values_that_no_measurement_gives_are_refused(part: str, value: float) -> None:
    tensors = {name: array.copy() for name, array in _whole().tensors().items()}
    assert _read(tensors).facts == _whole().facts
    odd = tensors[f"ecg.{part}"]
    odd[(0,) * odd.ndim] = value
    with pytest.raises(WeightsError, match="ecg has values that no measurement gives"):
        _read(tensors)


def test_a_distribution_that_does_not_go_together_is_refused() -> None:
    tensors = _whole().tensors()
    for odd in (
        {},
        {**tensors, "ecg.extra": tensors["ecg.mean"]},
        {**tensors, "mean": tensors["ecg.mean"]},
    ):
        with pytest.raises(WeightsError, match="training distribution"):
            _read(odd)
    for name in tensors:
        rest = {n: array for n, array in tensors.items() if n != name}
        for other in (
            None,
            tensors[name].astype(np.float64),
            tensors[name][..., :0],
            tensors[name][0],
        ):
            with pytest.raises(WeightsError, match="training distribution"):
                _read(rest if other is None else rest | {name: other})
    with pytest.raises(WeightsError, match="no measurement gives"):  # more people than it states
        _read(tensors, calibrating=19)


@pytest.mark.parametrize(
    "facts",
    [{}, {"people": 1}, [], None]
    + [{"people": 9, "calibrating": 9, "clips": n} for n in (0, -1, 1.5, float("inf"), "9", True)],
)
def test_odd_counts_are_refused_with_the_header(tmp_path: Path, facts: object) -> None:
    header = {
        "format_version": 2, "name": "odd", "trained": False, "temperature": 0.0,
        "contract": SMALL.to_json(), "record": {}, "training_distribution": facts,
    }  # fmt: skip
    path = tmp_path / "odd.safetensors"
    save_file({"ecg.x": np.zeros(1, np.float32)}, path, {"sleepfm": json.dumps(header)})
    with pytest.raises(WeightsError, match="damaged header"):
        read_info(path)


def test_tensors_of_a_distribution_without_its_counts_are_refused(tmp_path: Path) -> None:
    plain = untrained(0, replace(SMALL, slots={"ecg": ("C",)}))
    path = plain.save(tmp_path / "odd.safetensors")
    with safe_open(path, "numpy") as opened:
        known = opened.metadata()
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    arrays |= {f"training_distribution.{n}": array for n, array in _whole().tensors().items()}
    save_file(arrays, path, known)
    with pytest.raises(WeightsError, match="does not count"):
        read_weights(path)


def test_a_file_too_large_for_weights_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(WeightsError, match="larger than 1 GB"):
        read_info(path)


def test_the_sentence_of_a_build_counts_and_names() -> None:
    judged = [(f"r{i}", {"ecg": (i / 4, "ECG")}) for i in range(12)]
    (said,) = unlike_sentences("mine", [*judged, ("none", None)])
    assert said.startswith("ecg: 7 of 12 recordings are unlike what mine was trained on")
    assert said.endswith("r11 (2.8), r10 (2.5), r9 (2.2), r8 (2.0), r7 (1.8) and 2 more")
    assert unlike_sentences("mine", judged[:4]) == ()


def test_build_and_query_say_what_is_unlike(tmp_path: Path) -> None:
    """From recordings to weights that describe them, a column, and two sentences."""
    nights = tmp_path / "nights"
    nights.mkdir()
    for i in range(MIN_PEOPLE):
        write_edf(nights / f"n{i}.edf", {"ECG": Signal(noise(62, 200, seed=i), 200)})
    slow = noise(62, 200) + np.sin(np.arange(62 * 200) / 900) * 100
    odd = write_edf(tmp_path / "odd.edf", {"ECG": Signal(slow, 200)})
    held_out = write_edf(tmp_path / "same.edf", {"ECG": Signal(noise(62, 200, seed=32), 200)})
    own = replace(ROBUST, slots={"ecg": ("ECG",)})
    plain = untrained(0, own).save(tmp_path / "plain.safetensors")
    out = tmp_path / "known.safetensors"
    run = CliRunner().invoke(
        app, ["weights", "reference", str(plain), str(nights), "--out", str(out), "--store", "none"]
    )
    assert run.exit_code == 0, run.output
    shown = CliRunner().invoke(app, ["weights", "show", str(out)])
    assert "5 people, and 19 others for the limit, 48 clips" in shown.output
    report = sleepfm_index.build(
        tmp_path / "store", [odd, held_out], weights=str(out), backend="torch", workers=1
    )
    (note,) = [n for n in report.notes if n.startswith("ecg")]
    assert "1 of 2 recordings are unlike" in note and "odd (" in note
    with sleepfm_index.open(tmp_path / "store") as store:
        rows = store.sql(
            "SELECT recording_id, training_distance['ecg'] AS ecg FROM recordings"
        ).to_pylist()
        ratios = {row["recording_id"]: row["ecg"] for row in rows}
        assert ratios["odd"] > 1
        weights = load_weights(out)
        assert weights.distribution is not None
        for path in (odd, held_out):
            clips = store.manifest.choices.cut(store.manifest.choices.read(path), weights.contract)[
                1
            ]
            direct = weights.distribution.distance("ecg", clips.signals["ecg"])
            assert direct is not None and ratios[path.stem] == pytest.approx(direct.ratio)
        asked = {"file": odd, "at": "+0", "to": "ecg", "weights": str(out)}
        assert "odd.edf at +0 (its ecg is unlike" in store.query("ecg", **asked).note
        assert "unlike" not in store.query("ecg", **(asked | {"file": held_out})).note
    if find_spec("pymilvus") and find_spec("sqlglot"):
        uri = str(tmp_path / "m.db")
        sleepfm_index.publish(tmp_path / "store", uri, targets=("ecg",))
        with sleepfm_index.Served(uri, store=tmp_path / "store") as served:
            assert "odd.edf at +0 (its ecg is unlike" in served.query("ecg", **asked).note
            assert "unlike" not in served.query("ecg", **(asked | {"file": held_out})).note
    other = sleepfm_index.build(
        tmp_path / "other", [odd], weights=str(plain), backend="torch", workers=1
    )
    assert not other.notes
    with sleepfm_index.open(tmp_path / "other") as store:
        (row,) = store.sql("SELECT training_distance FROM recordings").to_pylist()
        assert row["training_distance"] is None
