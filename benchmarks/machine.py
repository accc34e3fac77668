"""The machine a figure was measured on, in one line."""

from __future__ import annotations

import platform

from sleepfm.resources import cores, processor


def machine() -> str:
    """Processor, cores this process may use, and Python."""
    system = f"{platform.system()}, Python {platform.python_version()}"
    return f"{processor()}, {cores()} cores, {system}"
