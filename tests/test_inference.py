"""Clips become unit vectors, each by itself."""

import numpy as np
import pytest

from sleepfm.encoders.inference import Encoder
from sleepfm.encoders.load import untrained
from sleepfm.errors import WeightsError
from sleepfm.modality import Modality


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(untrained(1), device="cpu")


def _clips(count: int, slots: int = 1) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, slots, 7680)).astype(np.float32)


@pytest.mark.parametrize(("modality", "slots"), [("bas", 5), ("ecg", 1), ("resp", 3)])
def test_vectors_have_length_one(encoder: Encoder, modality: str, slots: int) -> None:
    vectors = encoder.encode(Modality(modality), _clips(3, slots))
    assert vectors.shape == (3, 512)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_a_vector_does_not_depend_on_the_other_clips(encoder: Encoder) -> None:
    clips = _clips(35)
    together = encoder.encode(Modality.ECG, clips)
    alone = np.concatenate([encoder.encode(Modality.ECG, clips[i : i + 1]) for i in (0, 17, 34)])
    np.testing.assert_allclose(alone, together[[0, 17, 34]], rtol=0, atol=1e-6)
    turned = encoder.encode(Modality.ECG, clips[::-1])[::-1]
    np.testing.assert_allclose(turned, together, rtol=0, atol=1e-6)


def test_no_clips_give_no_vectors(encoder: Encoder) -> None:
    assert encoder.encode(Modality.ECG, _clips(0)).shape == (0, 512)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_clips_that_are_not_finite_are_refused(encoder: Encoder, value: float) -> None:
    clips = _clips(2)
    clips[1, 0, 77] = value
    with pytest.raises(WeightsError, match="NaN or infinity"):
        encoder.encode(Modality.ECG, clips)


def test_clips_of_another_shape_are_refused(encoder: Encoder) -> None:
    with pytest.raises(WeightsError, match=r"\[n, 3, 7680\], not \[2, 1, 7680\]"):
        encoder.encode(Modality.RESP, _clips(2))
    with pytest.raises(WeightsError, match="float32, not float64"):
        encoder.encode(Modality.ECG, _clips(2).astype(np.float64))


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(WeightsError, match="no device abacus"):
        Encoder(untrained(1), device="abacus")


def test_untrained_encoders_tell_clips_apart_in_float16() -> None:
    vectors = Encoder(untrained(), device="cpu").encode(Modality.BAS, _clips(6, 5))
    stored = vectors.astype(np.float16).astype(np.float64)
    cosines = (stored @ stored.T)[np.triu_indices(6, 1)]
    assert cosines.max() < 1 - 1e-3
