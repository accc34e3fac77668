"""Subjects used in training, as keyed hashes in the training record.

Names of people do not belong into a weights file, but who has them must be able to tell whether the
weights have seen a person. So the record holds a key and, per split, HMAC-SHA256 of each subject id
under that key, cut to 48 bits. This hides ids that cannot be guessed; whoever holds the file and a
list of likely ids can still test them, as any membership test must allow.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

_DIGITS: Final = 12
_KEY: Final = "people"


@dataclass(frozen=True)
class Seen:
    """The people of a training run.

    Parameters
    ----------
    key : str
        Of the hashes, hexadecimal.
    splits : mapping of str to frozenset of str
        The hashes of each split, e.g. ``pretrain`` and ``valid``.
    """

    key: str
    splits: Mapping[str, frozenset[str]]

    def split_of(self, subject: str) -> str | None:
        """Return the split in which a subject was seen; None for those who were not.

        Parameters
        ----------
        subject : str
        """
        own = _hash(self.key, subject)
        return next((name for name, hashes in self.splits.items() if own in hashes), None)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Seen | None:
        """Read it from the training record of weights; None where the record does not say.

        Parameters
        ----------
        record : mapping of str to object
        """
        plain = record.get(_KEY)
        if not isinstance(plain, Mapping):
            return None
        splits = {str(name): frozenset(map(str, own)) for name, own in plain["splits"].items()}
        return cls(str(plain["key"]), splits)

    def added_to(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return a training record that holds this.

        Parameters
        ----------
        record : mapping of str to object
            A training record; it is not changed.
        """
        splits = {name: sorted(own) for name, own in self.splits.items()}
        return {**record, _KEY: {"key": self.key, "splits": splits}}


def hash_people(
    splits: Mapping[str, Iterable[str]], key: bytes, earlier: Seen | None = None
) -> Seen:
    """Hash the subjects of each split.

    Parameters
    ----------
    splits : mapping of str to iterable of str
        The subject ids of each split; splits without anybody are left out.
    key : bytes
        Any secret or random bytes; a hash of it is stored beside the hashes.
    earlier : Seen, optional
        Of the weights that a run begins from: they stay, under their own key.
    """
    text = earlier.key if earlier else hashlib.sha256(key).hexdigest()[:32]
    named = {name: {_hash(text, s) for s in own} for name, own in splits.items()}
    for name, own in (earlier.splits if earlier else {}).items():
        named[name] = named.get(name, set()) | own
    return Seen(text, {name: frozenset(own) for name, own in named.items() if own})


def _hash(key: str, subject: str) -> str:
    return hmac.new(bytes.fromhex(key), subject.encode(), hashlib.sha256).hexdigest()[:_DIGITS]
