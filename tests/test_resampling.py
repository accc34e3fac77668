"""The authors' resampling, against the library they used."""

import mne.filter
import numpy as np
import pytest

from sleepfm.resampling import resample


@pytest.mark.parametrize("rate", [1, 3, 25, 100, 128, 200, 250, 257, 500, 512, 1000])
@pytest.mark.parametrize("seconds", [300.0, 601.5])
def test_whole_record_fft_is_mne_s(rate: int, seconds: float) -> None:
    rng = np.random.default_rng(rate)
    count = int(rate * seconds)
    slow = np.cumsum(rng.standard_normal(count))
    x = (31_000 + 100 * slow / slow.std() + 20 * rng.standard_normal(count)).astype(np.float32)
    expected = mne.filter.resample(
        x.astype(np.float64), 256, rate, npad="auto", method="fft", verbose="ERROR"
    )
    found = resample(x, rate, 256, "fft")
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    error = np.abs(found - expected) / expected.std()
    assert np.sqrt(np.mean(error**2)) < 2e-4
    assert error.max() < 2e-3


@pytest.mark.parametrize("method", ["polyphase", "fft"])
@pytest.mark.parametrize("rate", [25, 200, 512])
def test_a_tone_keeps_its_time(method: str, rate: int) -> None:
    def tone(at: np.ndarray) -> np.ndarray:
        return np.sin(2 * np.pi * 1.3 * at)

    x = tone(np.arange(rate * 60) / rate).astype(np.float32)
    found = resample(x, rate, 256, method)  # type: ignore[arg-type]
    inner = slice(256 * 2, 256 * 58)
    # the authors' way is up to half a sample off
    np.testing.assert_allclose(
        found[inner],
        tone(np.arange(len(found)) / 256)[inner],
        atol=1e-3 if method != "fft" else 2e-2,
    )


def test_one_rate_is_left_as_it_is() -> None:
    x = np.arange(10, dtype=np.float32)
    assert resample(x, 256, 256, "fft") is x
