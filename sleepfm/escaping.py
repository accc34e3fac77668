"""Text that other people wrote, as it may be shown."""

from __future__ import annotations


def escaped(text: object) -> str:
    r"""Escape text so that it cannot control a terminal, forge a line or turn other text around.

    Control characters, escape sequences, line breaks and marks of writing direction are shown as
    ``\x1b`` and the like; file names, labels and ids from other people may contain them.

    Parameters
    ----------
    text : object
        What is to be shown.
    """
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
        for c in plain
    )
