from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def recordings_dir() -> Path:
    """The folder of real recordings, which are not part of this repository."""
    named = os.environ.get("SLEEPFM_TEST_RECORDINGS")
    folder = Path(named) if named else ROOT.parent / "shared" / "recordings"
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder}; name them by SLEEPFM_TEST_RECORDINGS")
    return folder
