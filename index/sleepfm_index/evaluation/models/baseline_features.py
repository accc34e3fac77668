"""Baseline features of the clips of a store, computed from its recordings."""

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
    """Features without training, by clip; each recording is read once, on first use.

    Parameters
    ----------
    kinds : tuple of str
        Kinds of features. ``plain``: :func:`.plain_features.plain_features`. ``untrained``: vectors
        of a random network with the store's contract, seed 0.
    progress : Progress, optional
        Called with (recordings read, total recordings).
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
        """Describe the features for the note of a result.

        Parameters
        ----------
        contract : Contract
            Contract of the store.
        """
        plain = "; ".join(f"{m} {describe_plain(s)}" for m, s in contract.slots.items())
        descriptions = {
            PLAIN: f"plain features of the signals as prepared ({plain})",
            UNTRAINED: "untrained: vectors of a random network",
        }
        return "baselines: " + ", ".join(descriptions[kind] for kind in self.kinds)

    def reader(self, kind: str) -> Callable[[Reader, NDArray[np.int64], str], Read]:
        """Return a reader of one kind, with the interface of :func:`.features.feature_reader`.

        Parameters
        ----------
        kind : {"plain", "untrained"}
            Kind of features.
        """

        def of(store: Reader, clip_ids: NDArray[np.int64], features: str) -> Read:
            table = self.of(store, clip_ids, kind, features)
            return lambda rows: table[rows]

        return of

    def of(
        self, store: Reader, clip_ids: NDArray[np.int64], kind: str, features: str
    ) -> NDArray[np.float32]:
        """Return the features of clips, float32 [n, d].

        Parameters
        ----------
        store : Reader
            The open store, whose recordings are at their stored paths.
        clip_ids : ndarray of int64, shape [n]
            Clip ids.
        kind : {"plain", "untrained"}
            Kind of features.
        features : str
            Modalities, joined by ``+``.

        Raises
        ------
        QueryError
            If a recording is missing, or lacks a clip or a modality when it is read again.
        """
        modalities = check_features(features, store.manifest.modalities)
        facts = clip_columns(store, clip_ids, ["recording_id", "start_s"])
        owner, names = codes(facts["recording_id"])
        starts = numbers(facts["start_s"])
        parts: list[NDArray[np.float32]] = []
        for number, name in enumerate(names):
            offsets, tables = self._of_recording(store, name)
            if self._progress is not None:
                self._progress(number + 1, len(names))
            clip_starts = starts[owner == number]
            rows = np.abs(offsets[:, None] - clip_starts).argmin(axis=0)
            missing = [m for m in modalities if f"{kind} {m}" not in tables]
            if missing or np.abs(offsets[rows] - clip_starts).max() > 0.5:
                raise QueryError(
                    f"{name} gives no {missing[0] if missing else 'clip at every offset'} when it "
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
            # Without the contract's boost, which would distort spectra.
            plain = replace(contract, boost={})
            _, prepared = Preparation(plain, choices).prepare(path)[1:]
            for modality, signals in prepared.signals.items():
                if PLAIN in self.kinds:
                    values = plain_features(contract.slots[modality], signals, contract.sample_rate)
                    tables[f"{PLAIN} {modality}"] = values.astype(np.float32)
            self._read[key] = prepared.start_s, tables
        return self._read[key]

    def _encoder(self, contract: Contract) -> Encode:
        if contract.sha256 not in self._encoders:
            # imported here because torch takes seconds to import
            from sleepfm.encoders.inference import Encoder
            from sleepfm.encoders.load import untrained

            encode = Encoder(untrained(0, contract), "cpu", backend="auto").encode
            self._encoders[contract.sha256] = encode
        return self._encoders[contract.sha256]
