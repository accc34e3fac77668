"""Backends give torch's vectors, clip by clip, or are not taken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sleepfm.encoders import choice, on_openvino, on_torch, reference
from sleepfm.encoders.backend import Options
from sleepfm.encoders.choice import choose
from sleepfm.encoders.graph import folded
from sleepfm.encoders.inference import Encoder
from sleepfm.encoders.load import untrained
from sleepfm.encoders.networks import build
from sleepfm.encoders.on_openvino import OpenVINO
from sleepfm.encoders.on_torch import on_torch as torch_backend
from sleepfm.encoders.weights import Weights
from sleepfm.errors import WeightsError
from sleepfm.modality import Modality

WEIGHTS = untrained(1)
COUNT = 19


def _has_bf16() -> bool:
    core = on_openvino.load().Core()
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _has_openvino() -> bool:
    try:
        on_openvino.load()
    except WeightsError:
        return False
    return True


needs_openvino = pytest.mark.skipif(not _has_openvino(), reason="OpenVINO has no wheel here")


def _made(name: str, threads: int = 1, batch_size: int | None = None) -> choice.Backend:
    if name == "torch f32":
        return torch_backend(WEIGHTS, "cpu", "f32", threads, batch_size)
    if not _has_openvino() or ("bf16" in name and not _has_bf16()):
        pytest.skip(f"no {name} on this machine")
    return OpenVINO(WEIGHTS, "bf16" in name, threads, batch_size)


def _clips(modality: Modality, count: int = COUNT) -> np.ndarray:
    slots = len(WEIGHTS.contract.slots_of(modality))
    rng = np.random.default_rng(count)
    return rng.standard_normal((count, slots, 7680)).astype(np.float32)


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@needs_openvino
@pytest.mark.parametrize("modality", list(Modality))
def test_the_graph_is_the_network(modality: Modality) -> None:
    clips = _clips(modality, 3)
    expected = _made("torch f32").run(modality, clips)
    np.testing.assert_allclose(
        _made("openvino f32").run(modality, clips), expected, rtol=1e-4, atol=1e-3
    )
    if _has_bf16():
        assert _cosines(_made("openvino bf16").run(modality, clips), expected).min() > 0.999


def test_norms_are_folded_as_torch_folds_them() -> None:
    rng = np.random.default_rng(3)
    tensors = {
        "c.weight": rng.standard_normal((4, 2, 3)),
        "c.bias": rng.standard_normal(4),
        "n.weight": rng.uniform(0.5, 2, 4),
        "n.bias": rng.standard_normal(4),
        "n.running_mean": rng.standard_normal(4),
        "n.running_var": rng.uniform(0.1, 9, 4),
    }
    kernel, bias = folded(tensors, "c", "n")
    gain = tensors["n.weight"] / np.sqrt(tensors["n.running_var"] + 1e-5)
    patch = rng.standard_normal((2, 3))
    plain = (tensors["c.weight"] * patch).sum((1, 2)) + tensors["c.bias"]
    expected = (plain - tensors["n.running_mean"]) * gain + tensors["n.bias"]
    np.testing.assert_allclose((kernel * patch).sum((1, 2)) + bias, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["torch f32", "openvino f32", "openvino bf16"])
def test_a_vector_depends_on_its_clip_alone(name: str) -> None:
    clips = _clips(Modality.ECG)
    whole = _made(name).run(Modality.ECG, clips)
    others = {
        "order": _made(name).run(Modality.ECG, clips[::-1])[::-1],
        "batch size": _made(name, batch_size=5).run(Modality.ECG, clips),
        "threads": _made(name, threads=3).run(Modality.ECG, clips),
        "mates": np.concatenate([_made(name).run(Modality.ECG, clips[i : i + 1]) for i in (0, 7)]),
    }
    for what, found in others.items():
        expected = whole[[0, 7]] if what == "mates" else whole
        if "bf16" in name:
            assert _cosines(found, expected).min() >= 0.9999, what
        else:
            lengths = np.linalg.norm(expected, axis=1, keepdims=True)
            np.testing.assert_allclose(
                found / lengths, expected / lengths, rtol=0, atol=1e-6, err_msg=what
            )


@needs_openvino
def test_auto_says_what_it_took_and_why() -> None:
    encoder = Encoder(WEIGHTS, device="cpu", backend="auto")
    assert encoder.backend.startswith(("openvino", "torch"))
    assert encoder.why.startswith(encoder.backend)
    if encoder.backend.startswith("openvino"):
        assert "cosine to torch f32 at least" in encoder.why and "torch f32" in encoder.why


def test_without_openvino_torch_encodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    encoder = Encoder(WEIGHTS, device="cpu", threads=1, backend="auto")
    assert encoder.backend == "torch f32"
    assert "OpenVINO cannot be imported" in encoder.why
    with pytest.raises(WeightsError, match="cannot run as asked: not openvino bf16"):
        Encoder(WEIGHTS, backend="openvino")


@needs_openvino
def test_a_backend_with_other_vectors_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    true = OpenVINO.run

    def run(self: OpenVINO, modality: Modality, clips: np.ndarray) -> np.ndarray:
        found = true(self, modality, clips)
        # cosine 0.995: a tenth of each vector's length added at a right angle
        turned = np.roll(found.reshape(len(found), -1, 2), 1, axis=2) * np.array(
            [1, -1], np.float32
        )
        return found + 0.1 * turned.reshape(found.shape)

    monkeypatch.setattr(OpenVINO, "run", run)
    chosen = choose(WEIGHTS, Options(device="cpu", threads=1))
    assert chosen.name == "torch f32"
    assert (
        "not openvino f32: its vectors differ from torch's in float32 (cosine 0.995" in chosen.why
    )
    with pytest.raises(WeightsError, match="vectors differ"):
        choose(WEIGHTS, Options(backend="openvino"))


@needs_openvino
def test_a_backend_slower_than_torch_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    reference.reference(WEIGHTS)
    monkeypatch.setattr(reference, "speed", lambda *_: 0.001)
    chosen = choose(WEIGHTS, Options(device="cpu", threads=1))
    assert chosen.name == "torch f32"
    assert "it is slower" in chosen.why
    assert choose(WEIGHTS, Options(backend="openvino", threads=1)).name.startswith("openvino")


def test_what_torch_gave_is_kept_and_made_again_when_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLEEPFM_CACHE", str(tmp_path))
    first = reference.reference(WEIGHTS)
    (file,) = (tmp_path / "references").iterdir()

    def refuse(*_: object) -> None:
        raise AssertionError("torch is asked again")

    with monkeypatch.context() as patch:
        patch.setattr(on_torch.Torch, "run", refuse)
        kept = reference.reference(WEIGHTS)
        for modality, vectors in first.vectors.items():
            np.testing.assert_array_equal(kept.vectors[modality], vectors)
        assert kept.clips_per_cpu_s == first.clips_per_cpu_s
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    for damaged in (bytes(whole), b"", whole[:100]):
        file.write_bytes(damaged)
        again = reference.reference(WEIGHTS)
        np.testing.assert_allclose(
            again.vectors[Modality.ECG], first.vectors[Modality.ECG], rtol=1e-4, atol=1e-4
        )
        assert file.read_bytes() not in (damaged, b"")


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SLEEPFM_CACHE", str(tmp_path / "file"))
    assert reference.reference(WEIGHTS).clips_per_cpu_s > 0


_ENCODE = """
import sys
import numpy as np
from sleepfm.encoders.inference import Encoder
from sleepfm.encoders.load import untrained
from sleepfm.modality import Modality

encoder = Encoder(untrained(1), device="cpu", threads=1, backend="auto")
encoder.encode(Modality.ECG, np.zeros((3, 1, 7680), np.float32))
print(encoder.why)
loaded = [m for m in sys.modules if "telemetry" in m or m.startswith("openvino.tools")]
assert not loaded, loaded
"""


@needs_openvino
def test_nothing_is_reported_to_anybody_and_two_can_start_at_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    own = {"HOME": str(home), "SLEEPFM_CACHE": str(tmp_path / "cache"), "CI": ""}
    path = os.pathsep.join(p or "." for p in sys.path)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _ENCODE],
            env=os.environ | own | {"PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for child in children:
        out, err = child.communicate(timeout=300)
        assert child.returncode == 0, err.decode()
        assert out.startswith((b"openvino", b"torch"))
    assert not list(home.iterdir())
    assert len(list((tmp_path / "cache" / "references").iterdir())) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(backend="abacus"), "no backend abacus"),
        (Options(backend="openvino", device="cuda"), "OpenVINO runs on the CPU here, not on cuda"),
        (Options(device="abacus"), "no device abacus"),
    ],
)
def test_what_is_not_there_is_refused(options: Options, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        choose(WEIGHTS, options)


def test_a_choice_made_before_is_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "reference", lambda *_: pytest.fail("checked again"))
    assert choose(WEIGHTS, Options(checked="torch f32", threads=1)).name == "torch f32"


def test_half_precision_keeps_the_early_part_whole() -> None:
    import torch

    weights: Weights = WEIGHTS
    network = build(weights, Modality.ECG)
    clips = torch.from_numpy(_clips(Modality.ECG, 2))
    with torch.inference_mode():
        torch.testing.assert_close(network.late(network.early(clips)), network(clips))
        half = on_torch.Torch(weights, torch.device("cpu"), "bf16")
        plain = on_torch.Torch(weights, torch.device("cpu"))
        found = [t.run(Modality.ECG, clips.numpy()) for t in (half, plain)]
    assert 0.999 < _cosines(*found).min() < 0.9999999
