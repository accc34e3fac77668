"""Description of the machine, in one line."""

from __future__ import annotations

import platform

from sleepfm.resources import cores, processor


def machine() -> str:
    """Return processor, number of usable cores, and Python version."""
    system = f"{platform.system()}, Python {platform.python_version()}"
    return f"{processor()}, {cores()} cores, {system}"
