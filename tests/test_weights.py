"""Weights: saved and loaded whole, or refused with a reason."""

import hashlib
import os
import pickle
import struct
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import parity
import pytest
import torch
from nights import write_night
from typer.testing import CliRunner

from sleepfm.contract import ICML2024, ROBUST
from sleepfm.encoders.fetch import fetch, git_blob_id, import_weights
from sleepfm.encoders.inference import Encoder
from sleepfm.encoders.load import load_weights, untrained
from sleepfm.encoders.weights import Weights, read_info
from sleepfm.errors import ChannelError, OutputError, WeightsError
from sleepfm.recordings import read_recording
from sleepfm.recordings.channels import match_channels
from sleepfm_cli.main import app
from sleepfm_index.building.recording_task import identity_of


@pytest.fixture(scope="module")
def weights() -> Weights:
    return untrained(5)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SLEEPFM_CACHE", str(folder))
    return folder


def test_weights_whose_contract_does_not_fit_are_refused(weights: Weights, tmp_path: Path) -> None:
    """Clips of another rate, and recordings that have none of the channels."""
    half = replace(weights, contract=replace(ROBUST, sample_rate=128), sha256="")
    with pytest.raises(WeightsError, match=r"ecg clips must have shape \[n, 1, 3840\]"):
        Encoder(half, "cpu").encode("ecg", np.zeros((2, 1, 7680), np.float32))
    slots = {
        m: tuple(f"X{m}{i}" for i in range(len(ROBUST.slots_of(m)))) for m in ROBUST.modalities
    }
    foreign = replace(weights, contract=replace(ROBUST, slots=slots), sha256="")
    night = read_recording(write_night(tmp_path / "night.edf"))
    with pytest.raises(ChannelError, match=r"night has no usable channel; it holds C3-M2.*--chann"):
        match_channels(night, foreign.contract)


def _edit(path: Path, modality: str, key: str, values: np.ndarray | None) -> Path:
    """Write weights with one tensor replaced or left out."""
    weights = untrained(5)
    tensors = {m: dict(t) for m, t in weights.tensors.items()}
    if values is None:
        del tensors[modality][key]
    else:
        tensors[modality][key] = values
    return replace(weights, tensors=tensors, sha256="").save(path)


def test_untrained_weights_say_so_and_are_the_same_for_a_seed(weights: Weights) -> None:
    again = load_weights("untrained:5")
    assert not again.trained
    assert again.name == "untrained:5"
    assert again.sha256 == weights.sha256 != load_weights("untrained").sha256
    assert load_weights("untrained").name == "untrained"


def test_weights_come_back_as_they_were_saved(weights: Weights, tmp_path: Path) -> None:
    named = replace(
        weights, name="mine", trained=True, temperature=1.5, record={"epochs": 3}, sha256=""
    )
    loaded = load_weights(named.save(tmp_path / "w.safetensors"))
    assert loaded.info == named.info
    for modality, tensors in named.tensors.items():
        assert loaded.tensors[modality].keys() == tensors.keys()
        assert all(np.array_equal(loaded.tensors[modality][k], v) for k, v in tensors.items())


def test_the_identity_is_the_hash_of_the_file(weights: Weights, tmp_path: Path) -> None:
    path = weights.save(tmp_path / "w.safetensors")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == weights.sha256 == read_info(path).sha256 == load_weights(path).sha256


def test_half_precision_is_half_as_large_and_nearly_the_same(
    weights: Weights, tmp_path: Path
) -> None:
    full = weights.save(tmp_path / "full.safetensors").stat().st_size
    path = weights.half().save(tmp_path / "half.safetensors")
    assert path.stat().st_size < 0.55 * full
    clips = np.random.default_rng(0).standard_normal((2, 3, 7680)).astype(np.float32)
    a, b = (Encoder(w, "cpu").encode("resp", clips) for w in (weights, load_weights(path)))
    assert (a * b).sum(1).min() > 0.9999


def test_weights_in_the_cache_are_found_by_name(weights: Weights, own_cache: Path) -> None:
    replace(weights, name="lab", sha256="").save(own_cache / "lab.safetensors")
    assert load_weights("lab").name == "lab"
    with pytest.raises(WeightsError, match=r"no weights named lob \(available: untrained, lab"):
        load_weights("lob")
    with pytest.raises(WeightsError, match="no weights file"):
        load_weights("nowhere/w.safetensors")


def test_damaged_files_are_refused(weights: Weights, tmp_path: Path) -> None:
    whole = weights.save(tmp_path / "w.safetensors").read_bytes()
    damaged = tmp_path / "damaged.safetensors"
    (header,) = struct.unpack("<Q", whole[:8])
    cases = {
        "empty": b"",
        "text": b"these are not weights, but they are long enough to look at",
        "short header": whole[: header // 2],
        "truncated": whole[:-1000],
        "too long": whole + b"x",
        "huge header": struct.pack("<Q", 1 << 40) + whole[8:],
    }
    for name, content in cases.items():
        damaged.write_bytes(content)
        with pytest.raises(WeightsError, match=r"damaged\.safetensors"):
            load_weights(damaged)
            pytest.fail(name)


def test_a_header_of_a_newer_version_or_of_others_is_refused(
    weights: Weights, tmp_path: Path
) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "w.safetensors"
    path.write_bytes(weights.to_bytes().replace(rb"format_version\":1", rb"format_version\":9"))
    with pytest.raises(WeightsError, match="format version 9"):
        load_weights(path)
    save_file({"a": np.zeros(3, np.float32)}, path)
    with pytest.raises(WeightsError, match="does not contain weights of this project"):
        load_weights(path)


@pytest.mark.parametrize(
    ("key", "values", "reason"),
    [
        ("stage1.weight", np.zeros((32, 2, 3), np.float32), "takes 2 channels, but its contract"),
        ("fc.weight", np.zeros((256, 1280), np.float32), "another network"),
        ("fc.bias", None, "lacks tensor fc.bias"),
        ("extra", np.zeros(1, np.float32), "unknown tensor extra"),
        ("fc.bias", np.full(512, np.nan, np.float32), "NaN"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    key: str, values: np.ndarray | None, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=reason):
        load_weights(_edit(tmp_path / "w.safetensors", "ecg", key, values))


def test_a_failed_save_leaves_the_older_file(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = weights.save(tmp_path / "w.safetensors")
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        replace(weights, name="later", sha256="").save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.glob(".w*")) == []


def test_the_authors_checkpoint_loads_and_gives_their_vectors(
    tmp_path: Path, parity_dir: Path
) -> None:
    path = tmp_path / "best.pt"
    torch.save(parity.checkpoint(parity_dir), path)
    weights = load_weights(path)
    assert (weights.trained, weights.temperature) == (True, 2.0)
    assert weights.contract == ICML2024
    assert weights.record["epoch"] == 20
    encoder = Encoder(weights, "cpu")
    for modality in ROBUST.modalities:
        ours = encoder.encode(modality, parity.clips(modality))
        assert np.abs(ours - parity.expected(parity_dir, "embedding", modality)).max() < 1e-5
    converted = load_weights(weights.save(tmp_path / "w.safetensors"))
    assert converted.sha256 == weights.sha256


def test_a_checkpoint_of_another_layout_is_refused(tmp_path: Path, parity_dir: Path) -> None:
    path = tmp_path / "best.pt"
    plain = parity.checkpoint(parity_dir)
    ekg = plain["ekg_state_dict"]
    assert isinstance(ekg, dict)
    torch.save(
        {**plain, "ekg_state_dict": ekg | {"module.stage1.weight": torch.zeros(32, 2, 3)}}, path
    )
    with pytest.raises(WeightsError, match="the ecg encoder takes 2 channels"):
        load_weights(path)
    torch.save({k: v for k, v in plain.items() if k != "ekg_state_dict"}, path)
    with pytest.raises(WeightsError, match="lacks one of"):
        load_weights(path)
    torch.save({k: v for k, v in plain.items() if k != "temperature"}, path)
    with pytest.raises(WeightsError, match="temperature"):
        load_weights(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(WeightsError, match="damaged"):
        load_weights(path)


class _RunsCode:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused(zipped: bool, tmp_path: Path) -> None:
    path, trace = tmp_path / "best.pt", tmp_path / "it-ran"
    plain = {"epoch": 1, "loss": _RunsCode(trace)}
    if zipped:
        torch.save(plain, path)
    else:
        path.write_bytes(pickle.dumps(plain, protocol=4))
    with pytest.raises(WeightsError, match="would run code"):
        load_weights(path)
    assert not trace.exists()


def test_the_header_is_read_without_torch(weights: Weights, tmp_path: Path) -> None:
    import subprocess
    import sys

    path = weights.save(tmp_path / "w.safetensors")
    code = (
        "import sys; from sleepfm.encoders.weights import read_info; "
        f"info = read_info({str(path)!r}); print(info.sha256, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [weights.sha256, "False"]
    assert read_info(path).contract == ROBUST


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A file server on this machine: its address, and the folder it serves."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == "/broken.pt":  # says more than it sends
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"short")
                self.close_connection = True
                return
            super().do_GET()

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        thread = Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", folder
        http.shutdown()
        thread.join()


def test_published_weights_are_fetched_and_checked(
    server: tuple[str, Path], own_cache: Path, parity_dir: Path
) -> None:
    address, folder = server
    torch.save(parity.checkpoint(parity_dir), folder / "best.pt")
    content = (folder / "best.pt").read_bytes()
    header = b"blob %d\0" % len(content)
    blob = hashlib.sha1(header + content).hexdigest()
    assert git_blob_id(content) == blob
    path = fetch("sleepfm-icml2024", url=f"{address}/best.pt", blob=blob)
    assert path == own_cache / "sleepfm-icml2024.pt"
    assert load_weights("sleepfm-icml2024").contract == ICML2024
    (folder / "best.pt").unlink()
    assert fetch("sleepfm-icml2024", url=f"{address}/best.pt", blob=blob) == path


def test_a_download_that_is_wrong_is_not_kept(server: tuple[str, Path], own_cache: Path) -> None:
    address, folder = server
    (folder / "best.pt").write_bytes(b"something else")
    with pytest.raises(WeightsError, match="is not sleepfm-icml2024: its git blob id is"):
        fetch("sleepfm-icml2024", url=f"{address}/best.pt")
    for place in ("broken.pt", "missing.pt"):
        with pytest.raises(WeightsError, match=r"copy .*best\.pt .* to .*sleepfm-icml2024\.pt"):
            fetch("sleepfm-icml2024", url=f"{address}/{place}")
    assert list(own_cache.iterdir()) == []
    with pytest.raises(WeightsError, match="no downloadable weights named sleepfm-2030"):
        fetch("sleepfm-2030")


def test_a_download_has_an_end(
    server: tuple[str, Path], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = server
    (folder / "best.pt").write_bytes(bytes(5000))
    victim = folder / "victim"
    victim.write_bytes(b"kept")
    own_cache.mkdir()
    (own_cache / ".sleepfm-icml2024.pt.part").symlink_to(victim)
    for bound, value, sentence in (
        ("_MAX_BYTES", 4000, "is larger than"),
        ("_MAX_DURATION_S", -1, "was not downloaded within"),
    ):
        with monkeypatch.context() as patched, pytest.raises(WeightsError, match=sentence):
            patched.setattr(f"sleepfm.encoders.fetch.{bound}", value)
            fetch("sleepfm-icml2024", url=f"{address}/best.pt")
    assert victim.read_bytes() == b"kept" and len(list(own_cache.iterdir())) == 1


def test_without_a_network_it_is_said_where_the_file_goes(own_cache: Path) -> None:
    with pytest.raises(WeightsError, match=r"without a network.*sleepfm-icml2024\.pt"):
        fetch("sleepfm-icml2024", url="http://127.0.0.1:9/best.pt")


def test_weights_are_imported_under_a_name(
    weights: Weights, tmp_path: Path, own_cache: Path
) -> None:
    path = weights.save(tmp_path / "w.safetensors")
    import_weights(path, "lab")
    import_weights(path, "lab")
    assert load_weights("lab").sha256 == weights.sha256
    assert (own_cache / "lab.safetensors").is_file()
    other = untrained(6).save(tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="other weights named lab"):
        import_weights(other, "lab")
    for name in ("untrained", "../up", ""):
        with pytest.raises(WeightsError, match="invalid name"):
            import_weights(path, name or "a/b")


def test_show_prints_what_training_logged(weights: Weights, tmp_path: Path) -> None:
    heart = {"effective_rank": 17.25, "uniformity": -2.125, "heart_rate": 0.998, "stage_auroc": 0.5}
    knows = {"ecg": heart | {"breathing_rate": 0.26}, "alignment": {"bas-ecg": 1.75}}
    record = {"metrics": {"valid": {"loss": 1.5, "knows": knows}}}
    path = replace(weights, record=record, trained=True, sha256="").save(tmp_path / "w.safetensors")
    lines = CliRunner().invoke(app, ["weights", "show", str(path)]).stdout.splitlines()
    shown = {" ".join(line.split()[:-1]): line.split()[-1] for line in lines if line.strip()}
    for name, value in {
        "ecg: effective rank": "17.25",
        "ecg: uniformity": "-2.125",
        "ecg: heart rate": "0.998",
        "ecg: breathing rate": "0.26",
        "ecg: stage auroc": "0.5",
        "alignment: bas-ecg": "1.75",
    }.items():
        assert shown[name] == value


@pytest.mark.parametrize(
    ("trained", "record", "simultaneous"),
    [
        (False, {}, False),
        (True, {"source": "the authors'"}, True),
        (True, {"objective": "leave-one-out", "recipe": {"crop_s": 15.0}}, True),
        (True, {"objective": "pairwise", "recipe": {"jitter_s": 0.0}}, True),
        (True, {"objective": "pairwise", "recipe": {"jitter_s": 1.0}}, False),
        (True, {"objective": "pairwise", "recipe": {"jitter_s": 0.1}}, True),
        (True, {"objective": "physiology", "recipe": {}}, False),
        (True, {"objective": "physiology", "started_from": {"simultaneous": True}}, True),
        (True, {"recipe": {"jitter_s": 1.0}, "started_from": {"simultaneous": True}}, True),
    ],
)
def test_a_store_is_told_where_clips_may_be_matched_by_single_beats(
    weights: Weights, trained: bool, record: dict, simultaneous: bool
) -> None:
    own = replace(weights, trained=trained, record=record, sha256="")
    assert own.simultaneous is simultaneous
    note = identity_of(own).note
    assert ("cut at the same moment" in note) is simultaneous
    shipped = identity_of(load_weights("demo")).note
    assert shipped.startswith("trained on simulated nights")
    assert "times of single heart beats" in shipped
