"""Where the real recordings lie, for tests that can use them; and a cache of the tests' own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# One thread per process, and none that spins while it waits, set before the libraries are loaded:
# the suite runs in two processes.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        if "SLEEPFM_CACHE" not in os.environ:
            patch.setenv("SLEEPFM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_fsync() -> Iterator[None]:
    """Leave writing to the disk to the system: a tenth of the time of tests that write stores.

    What survives a crash is tested in processes of their own (tests/crash), with the real call.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="module")
def no_curves() -> Iterator[None]:
    """Train without drawing the curves of every epoch, which takes longer than a tiny epoch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sleepfm.training.loop.can_draw", lambda: False)
        yield


@pytest.fixture(scope="session")
def recordings_dir() -> Path:
    """Folder of real recordings: $SLEEPFM_TEST_RECORDINGS, else ../shared/recordings."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "recordings"
    folder = Path(os.environ.get("SLEEPFM_TEST_RECORDINGS", beside))
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder} (set SLEEPFM_TEST_RECORDINGS)")
    return folder


@pytest.fixture(scope="session")
def parity_dir(recordings_dir: Path) -> Path:
    """Folder of the authors' own numbers, beside the real recordings."""
    folder = recordings_dir.parent / "parity"
    if not folder.is_dir():
        pytest.skip(f"no parity data at {folder}")
    return folder


@pytest.fixture(scope="session")
def cases_dir(recordings_dir: Path) -> Path:
    """Folder of inputs that were read wrongly somewhere, beside the real recordings."""
    folder = recordings_dir.parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"no cases at {folder}")
    return folder
