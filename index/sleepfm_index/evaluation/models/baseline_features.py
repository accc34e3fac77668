"""Plain features and untrained vectors of the clips of a store, read from its recordings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.contract import Contract
from sleepfm.progress import Progress
from sleepfm_index.building.preparation import Preparation
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.columns import clip_columns, codes, numbers
from sleepfm_index.evaluation.models.features import Read, check_features
from sleepfm_index.evaluation.models.plain_features import describe_plain, plain_features
from sleepfm_index.reader import Reader
from sleepfm_index.storage.private import recording_file

PLAIN: Final = "plain"
UNTRAINED: Final = "untrained"
KINDS: Final = (PLAIN, UNTRAINED)

Encode = Callable[[str, NDArray[np.float32]], NDArray[np.float32]]
Tables = dict[str, NDArray[np.float32]]
"""Features of the clips of a recording by ``<kind> <modality>``, float32 [n, d]."""


class BaselineFeatures:
    """Features that owe nothing to training, by clip; a recording is read once, when it is asked.

    Parameters
    ----------
    kinds : tuple of str
        ``plain``: :func:`.plain_features.plain_features`. ``untrained``: vectors of a random
        network of the store's contract, seed 0.
    progress : Progress, optional
        Called with (recordings read, recordings).
    """

    def __init__(
        self,
        kinds: tuple[str, ...] = KINDS,
        progress: Progress | None = None,
    ) -> None:
        self.kinds = kinds
        self._progress = progress
        self._read: dict[tuple[Path, str], tuple[NDArray[np.float64], Tables]] = {}
        self._encoders: dict[str, Encode] = {}

    def note(self, contract: Contract) -> str:
        """Say what the features are.

        Parameters
        ----------
        contract : Contract
            That of the store.
        """
        plain = "; ".join(f"{m} {describe_plain(s)}" for m, s in contract.slots.items())
        said = {
            PLAIN: f"plain features of the signals as prepared ({plain})",
            UNTRAINED: "untrained: vectors of a random network",
        }
        return "baselines: " + ", ".join(said[kind] for kind in self.kinds)

    def reader(self, kind: str) -> Callable[[Reader, NDArray[np.int64], str], Read]:
        """Give a reader of one kind, to be used as :func:`.features.feature_reader`.

        Parameters
        ----------
        kind : {"plain", "untrained"}
            The kind of features.
        """

        def of(store: Reader, clip_ids: NDArray[np.int64], features: str) -> Read:
            table = self.of(store, clip_ids, kind, features)
            return lambda rows: table[rows]

        return of

    def of(
        self, store: Reader, clip_ids: NDArray[np.int64], kind: str, features: str
    ) -> NDArray[np.float32]:
        """Give the features of some clips, float32 [n, d]; NaN where a recording has no such clip.

        Parameters
        ----------
        store : Reader
            The open store, whose recordings are where it read them.
        clip_ids : ndarray of int64, shape [n]
            Clip ids.
        kind : {"plain", "untrained"}
            The kind of features.
        features : str
            Modalities, joined by ``+``.

        Raises
        ------
        QueryError
            If a recording is not where it was, or gives no such clip when it is read again.
        """
        modalities = check_features(features, store.manifest.modalities)
        facts = clip_columns(store, clip_ids, ["recording_id", "start_s"])
        owner, names = codes(facts["recording_id"])
        starts = numbers(facts["start_s"])
        parts: list[NDArray[np.float32]] = []
        for at, name in enumerate(names):
            there, tables = self._of_recording(store, name)
            if self._progress is not None:
                self._progress(at + 1, len(names))
            wanted = starts[owner == at]
            rows = np.abs(there[:, None] - wanted).argmin(axis=0)
            lacking = [m for m in modalities if f"{kind} {m}" not in tables]
            if lacking or np.abs(there[rows] - wanted).max() > 0.5:
                raise QueryError(
                    f"{name} gives no {lacking[0] if lacking else 'clip at every offset'} when it "
                    "is read again; was the store built with --substitute or --channels?"
                )
            parts.append(np.concatenate([tables[f"{kind} {m}"][rows] for m in modalities], axis=1))
        order = np.argsort(np.argsort(owner, kind="stable"), kind="stable")
        return np.concatenate(parts)[order]

    def _of_recording(self, store: Reader, name: str) -> tuple[NDArray[np.float64], Tables]:
        key = store.path, name
        if key not in self._read:
            contract = store.manifest.contract
            path = recording_file(store.path, name)
            choices = store.manifest.choices.updated(contract)
            tables: Tables = {}
            if UNTRAINED in self.kinds:
                prepared = Preparation(contract, choices).prepare(path)[2]
                encode = self._encoder(contract)
                for modality, signals in prepared.signals.items():
                    tables[f"{UNTRAINED} {modality}"] = encode(modality, signals)
            # What a contract boosts for encoders would be counted twice in a spectrum.
            plain = replace(contract, boost={})
            _, prepared = Preparation(plain, choices).prepare(path)[1:]
            for modality, signals in prepared.signals.items():
                if PLAIN in self.kinds:
                    found = plain_features(contract.slots[modality], signals, contract.sample_rate)
                    tables[f"{PLAIN} {modality}"] = found.astype(np.float32)
            self._read[key] = prepared.start_s, tables
        return self._read[key]

    def _encoder(self, contract: Contract) -> Encode:
        if contract.sha256 not in self._encoders:
            # torch takes seconds to import, and most probes need none of it
            from sleepfm.encoders.inference import Encoder
            from sleepfm.encoders.load import untrained

            own = Encoder(untrained(0, contract), "cpu", backend="auto").encode
            self._encoders[contract.sha256] = own
        return self._encoders[contract.sha256]
