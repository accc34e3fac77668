"""Files handed to the user, outside the store: whole or not at all."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Have a file written under a temporary name in its folder, then give it its own.

    Parameters
    ----------
    path : Path
        Final place; an existing file there is replaced.
    write : callable
        Writes the whole content to the path it is given, which has the same ending.
    """
    aside = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        write(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return path
