"""Subjects used in training, as keyed hashes in the training record.

Subject ids must not be in a weights file, but whoever has the ids must be able to check whether a
subject was used in training. The record therefore has a key and, per split, the HMAC-SHA256 of each
subject id under that key, truncated to 48 bits. This hides ids that cannot be guessed; anyone with
the file and a list of likely ids can still test them, as any membership test must allow.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sleepfm.errors import WeightsError

_DIGITS: Final = 12
_KEY: Final = "people"


@dataclass(frozen=True)
class Seen:
    """Hashed subjects of a training run.

    Parameters
    ----------
    key : str
        Key of the hashes, hexadecimal.
    splits : mapping of str to frozenset of str
        Hashed subject ids of each split, e.g. ``pretrain`` and ``valid``.
    """

    key: str
    splits: Mapping[str, frozenset[str]]

    def split_of(self, subject: str) -> str | None:
        """Return the split that contains a subject.

        Parameters
        ----------
        subject : str
            Subject id.

        Returns
        -------
        str or None
            Name of the split; None if the subject was not used.
        """
        digest = _hash(self.key, subject)
        return next((name for name, hashes in self.splits.items() if digest in hashes), None)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Seen | None:
        """Read the hashed subjects from a training record.

        Parameters
        ----------
        record : mapping of str to object
            Training record of weights.

        Returns
        -------
        Seen or None
            None if the record has no subjects.

        Raises
        ------
        WeightsError
            If the subjects are not as :meth:`added_to` writes them.
        """
        plain = record.get(_KEY)
        if not isinstance(plain, Mapping):
            return None
        try:
            bytes.fromhex(plain["key"])
            splits = {str(name): frozenset(h) for name, h in plain["splits"].items()}
            if not all(isinstance(h, str) for hashes in splits.values() for h in hashes):
                raise TypeError("a hash is not text")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WeightsError(
                f"the training record names its subjects in an unknown way ({error!r})"
            ) from error
        return cls(plain["key"], splits)

    def added_to(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return a training record with the hashed subjects added.

        Parameters
        ----------
        record : mapping of str to object
            A training record; it is not changed.
        """
        splits = {name: sorted(hashes) for name, hashes in self.splits.items()}
        return {**record, _KEY: {"key": self.key, "splits": splits}}


def hash_people(
    splits: Mapping[str, Iterable[str]], key: bytes, earlier: Seen | None = None
) -> Seen:
    """Hash the subjects of each split.

    Parameters
    ----------
    splits : mapping of str to iterable of str
        Subject ids of each split; empty splits are omitted.
    key : bytes
        Secret or random bytes; their hash is stored with the hashes.
    earlier : Seen, optional
        Hashed subjects of the weights from which a run starts; they are kept, and their key is
        reused.

    Returns
    -------
    Seen
        Hashed subjects.
    """
    text = earlier.key if earlier else hashlib.sha256(key).hexdigest()[:32]
    hashed = {name: {_hash(text, s) for s in subjects} for name, subjects in splits.items()}
    for name, hashes in (earlier.splits if earlier else {}).items():
        hashed[name] = hashed.get(name, set()) | hashes
    return Seen(text, {name: frozenset(hashes) for name, hashes in hashed.items() if hashes})


def _hash(key: str, subject: str) -> str:
    return hmac.new(bytes.fromhex(key), subject.encode(), hashlib.sha256).hexdigest()[:_DIGITS]
