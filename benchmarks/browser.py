"""A headless Chromium without network access, for benchmarks and screenshots."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def find_chromium() -> str:
    """Return the path of the distribution's Chromium; exit if it or playwright is missing."""
    if find_spec("playwright") is None:
        sys.exit("pictures of the page need playwright: pip install playwright")
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        sys.exit("chromium is not installed; on Debian: apt-get install chromium")
    return found


@contextmanager
def chromium() -> Iterator[Any]:
    """Start the distribution's Chromium with a temporary profile."""
    found = find_chromium()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as profile, sync_playwright() as started:
        made = started.chromium.launch_persistent_context(
            profile, executable_path=found, args=list(FLAGS), headless=True
        )
        made.set_default_timeout(120_000)
        yield made
        made.close()
