"""Withdrawal marks of recordings and people, without their names."""

from __future__ import annotations

import hashlib
from typing import Final

_SIGNALS: Final = "signals:"
_SUBJECT: Final = "subject:"


def signals_mark(digest: str) -> str:
    """Mark of a recording by its samples.

    Parameters
    ----------
    digest : str
        Result of :func:`sleepfm.recordings.signal_digest.signal_digest`.
    """
    return _SIGNALS + digest


def subject_mark(store: str, subject_id: str) -> str:
    """Return the mark of a person: a hash, so that the id itself is not stored.

    A guessed id can be verified against it. The hash differs between stores.

    Parameters
    ----------
    store : str
        The store's uuid.
    subject_id : str
        Id of the subject.
    """
    text = f"{store}\n{subject_id}".encode("utf-8", "surrogatepass")
    return _SUBJECT + hashlib.sha256(text).hexdigest()[:32]
