"""An encoder of another package: found by entry point, it fills a store and answers queries."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from nights import write_night
from typer.testing import CliRunner

import sleepfm_index
from sleepfm.cohort_choices import NO_CHOICES
from sleepfm.contract import Contract
from sleepfm.encoders.external import external_names, find_external
from sleepfm.encoders.inference import Encoder
from sleepfm.encoders.load import find_weights, load_weights
from sleepfm.errors import WeightsError
from sleepfm_cli.main import app
from sleepfm_index.building.pipeline import build
from sleepfm_index.building.preparation import Preparation
from sleepfm_index.errors import QueryError

D = 64
PACKAGE = """
import numpy as np
from sleepfm.contract import Contract

CONTRACT = Contract("theirs", "polyphase", "robust", {"bas": ("C3-M2", "O2-M1"), "ecg": ("ECG",)},
                    {"C3-M2": "uV", "O2-M1": "uV", "ECG": "uV"}, sample_rate=16)

class Theirs:
    contract, dimensions, identity = CONTRACT, 64, "v1"

    def __init__(self, scale=1.0, width=64):
        self.scale, self.width = scale, width

    def encode(self, modality, clips):
        assert clips.dtype == np.float32
        seed = {"bas": 1, "ecg": 2}[modality]
        wide = clips.shape[1] * clips.shape[2]
        matrix = np.random.default_rng(seed).standard_normal((wide, self.width))
        return self.scale * (clips.reshape(len(clips), wide) @ matrix)

def load(*, device, threads):
    assert device == "cpu" and threads >= 1
    return Theirs()

def narrow(*, device, threads):
    return Theirs(width=63)

def infinite(*, device, threads):
    return Theirs(scale=np.inf)

def broken(*, device, threads):
    raise OSError("their weights are not here")

def shapeless(*, device, threads):
    return object()

def wide(*, device, threads):
    found = Theirs()
    found.dimensions = 768
    return found
"""
NAMES = ("broken", "infinite", "load", "narrow", "shapeless", "wide")


def install(folder: Path, package: str, points: dict[str, str], source: str = PACKAGE) -> None:
    """Lay a package and what pip would write beside it."""
    module = package.replace("-", "_")
    (folder / f"{module}.py").write_text(source)
    about = folder / f"{module}-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
    lines = [f"{name} = {module}:{function}" for name, function in points.items()]
    (about / "entry_points.txt").write_text("[sleepfm.encoders]\n" + "\n".join(lines) + "\n")


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Register the encoders of a package, whose module is imported anew for each test."""
    folder = tmp_path / "site"
    folder.mkdir()
    package = f"their-encoder-{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:8]}"
    install(folder, package, {f"theirs-{name}": name for name in NAMES})
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("SLEEPFM_CACHE", str(tmp_path / "cache"))
    return package


def expected(path: Path, modality: str, contract: Contract) -> np.ndarray:
    """What the encoder makes of a recording, worked out here."""
    clips = Preparation(contract, NO_CHOICES).prepare(path)[2]
    x = clips.signals[modality].reshape(len(clips), -1)
    matrix = np.random.default_rng({"bas": 1, "ecg": 2}[modality]).standard_normal((x.shape[1], D))
    out = x @ matrix
    return out / np.linalg.norm(out, axis=1, keepdims=True)


def test_an_encoder_of_64_dimensions_fills_a_store_and_answers(theirs: str, tmp_path: Path) -> None:
    nights = [
        write_night(tmp_path / f"n{i}.edf", 240, seed=i, stages=("W", "N2") * 4) for i in (1, 2)
    ]
    told: list[str] = []
    report = build(tmp_path / "store", nights, weights="theirs-load", notice=told.append)
    assert [o.status for o in report.outcomes] == ["added"] * 2
    assert told[0] == f"{theirs} 1.2 on cpu: vectors of 64 dimensions"
    contract = find_external("theirs-load").contract
    store = sleepfm_index.open(tmp_path / "store")
    assert store.manifest.contract.modalities == ("bas", "ecg")
    for modality in ("bas", "ecg"):
        want = np.concatenate([expected(n, modality, contract) for n in nights])
        vectors, present = store.vectors.of(np.arange(16), modality)
        assert present.all() and not vectors[:, D:].any()
        np.testing.assert_allclose(vectors[:, :D], want, atol=1e-3)
    bas, ecg = (np.concatenate([expected(n, m, contract) for n in nights]) for m in ("bas", "ecg"))
    found = store.query("ecg", "bas", clip=3, k=4, exclude="none").to_pylist()
    assert [r["clip_id"] for r in found] == np.argsort(-(bas @ ecg[3]))[:4].tolist()
    asked = store.query("ecg", "bas", file=nights[0], at="+90", k=4, exclude="none").to_pylist()
    assert [r["clip_id"] for r in asked] == [r["clip_id"] for r in found]
    assert len(store.evaluate()) == 2  # two directions of two modalities
    again = build(tmp_path / "store", nights, weights="theirs-load")
    assert [o.status for o in again.outcomes] == ["already there"] * 2
    shown = CliRunner().invoke(app, ["info", "--store", str(tmp_path / "store")])
    assert "theirs-load" in shown.stdout and "64 dimensions" in shown.output


def test_weights_list_and_show_name_the_package(theirs: str) -> None:
    assert {f"theirs-{n}" for n in NAMES} <= set(external_names())
    runner = CliRunner()
    listed = json.loads(runner.invoke(app, ["weights", "list", "--format", "json"]).stdout)
    own = next(row for row in listed if row["name"] == "theirs-load")
    assert own == {"name": "theirs-load", "where": "another package", "what": f"{theirs} 1.2"}
    shown = runner.invoke(app, ["weights", "show", "theirs-load", "--format", "json"])
    about = json.loads(shown.stdout)
    assert about["dimensions"] == D and about["modalities"] == ["bas", "ecg"]
    assert about["package"] == f"{theirs} 1.2"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("theirs-broken", "cannot be loaded: OSError: their weights are not here"),
        ("theirs-shapeless", "lacks contract, dimensions, identity, encode"),
        ("theirs-wide", "768 dimensions, a store holds 1 to 512"),
        ("nobodys", "no weights named nobodys .*theirs-load"),
    ],
)
@pytest.mark.usefixtures("theirs")
def test_what_is_no_encoder_is_refused_before_anything_is_read(name: str, says: str) -> None:
    with pytest.raises(WeightsError, match=says):
        find_weights(name)


@pytest.mark.parametrize(
    ("name", "says"), [("narrow", r"shape \[4, 63\] for 4"), ("infinite", "NaN or infinity")]
)
@pytest.mark.usefixtures("theirs")
def test_vectors_that_are_none_fail_the_recording(name: str, says: str, tmp_path: Path) -> None:
    night = write_night(tmp_path / "n.edf")
    (outcome,) = build(tmp_path / "store", [night], weights=f"theirs-{name}").outcomes
    assert outcome.status == "failed"
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(outcome.reason)


@pytest.mark.usefixtures("theirs")
def test_it_is_measured_with_fewer_slots(tmp_path: Path) -> None:
    night = write_night(tmp_path / "n.edf", 300)
    asked = ["evaluate", "--without-slots", str(night), "--weights", "theirs-load"]
    shown = CliRunner().invoke(app, [*asked, "--format", "json"])
    assert [(r["modality"], r["slots_left"]) for r in json.loads(shown.stdout)] == [
        ("bas", 2),
        ("bas", 1),
        ("ecg", 1),
    ]


@pytest.mark.usefixtures("theirs")
def test_it_is_not_trained_on_or_converted(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="encoder of another package"):
        load_weights("theirs-load")
    with pytest.raises(WeightsError, match="leave out --backend"):
        Encoder(find_weights("theirs-load"), "cpu", backend="openvino")


def test_a_changed_identity_is_another_encoder(theirs: str, tmp_path: Path) -> None:
    night = write_night(tmp_path / "n.edf")
    build(tmp_path / "store", [night], weights="theirs-load")
    module = __import__(theirs.replace("-", "_"))
    module.Theirs.identity = "v2"
    with pytest.raises(QueryError, match="are not the store's weights"):
        sleepfm_index.open(tmp_path / "store").query("ecg", "bas", file=night, at="+30")
    other = write_night(tmp_path / "m.edf", seed=7)
    with pytest.raises(sleepfm_index.errors.StoreError, match="holds vectors"):
        build(tmp_path / "store", [other], weights="theirs-load")


def test_two_packages_of_one_name_are_told(theirs: str, tmp_path: Path) -> None:
    install(tmp_path / "site", "their-second", {"theirs-load": "load"})
    with pytest.raises(WeightsError, match=f"more than one .*{theirs} 1.2, their-second 1.2"):
        find_weights("theirs-load")
    assert CliRunner().invoke(app, ["weights", "list"]).exit_code == 0
