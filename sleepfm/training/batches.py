"""Batches of tensors from cached clips, in an order fixed by a seed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sleepfm.contract import Contract
from sleepfm.training.clipcache import CachedRecording, stored_dtype
from sleepfm.training.recipe import Recipe

_PREFETCHED: Final = 4

Order = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """The signals of some clips, in all modalities.

    Parameters
    ----------
    signals : dict of str to Tensor, shape [n, slots, samples]
        Prepared signals by modality; zero where a clip lacks the modality.
    present : Tensor of bool, shape [modalities, n], or None
        Whether each clip has each modality; None where every clip has all of them.
    labels : Tensor of int64, shape [n]
        The class of each clip, -1 where it has none.
    targets : Tensor of float32, shape [n, k], or None
        Regression targets of each clip (:mod:`sleepfm.training.physiology`), NaN where unknown.
    hidden : Tensor of bool, shape [n, blocks], or None
        Mask of the blocks of each clip that the encoders do not see
        (:mod:`sleepfm.training.masked`).
    target_weights : mapping of str to tuple of float
        Weights of the groups of targets (:data:`sleepfm.training.physiology.GROUPS`) by modality;
        all weigh the same for a modality that is not listed.
    """

    signals: dict[str, Tensor]
    present: Tensor | None
    labels: Tensor
    targets: Tensor | None = None
    hidden: Tensor | None = None
    target_weights: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def window(self, start: int, stop: int) -> Batch:
        """Return a time window of every clip and modality, as a view.

        Parameters
        ----------
        start, stop : int
            First sample of the window, and the one after its last.
        """
        signals = {m: x[..., start:stop] for m, x in self.signals.items()}
        return replace(self, signals=signals)


class ClipSet:
    """The clips of several recordings, numbered consecutively from 0.

    Parameters
    ----------
    recordings : sequence of CachedRecording
        The recordings the clips come from.
    contract : Contract
        The contract by which the clips were prepared.
    modalities : sequence of str
        The modalities to load, in this order.
    classes : mapping of str to int, optional
        Class of each stage; clips of any other stage have no class (-1).
    at_least : int
        Minimum number of modalities; clips with fewer are excluded.
    labelled : bool
        Whether clips without a class are excluded as well.
    targets : mapping of str to ndarray of float32, shape [clips, k], optional
        Regression targets of the clips of each recording, by recording id; recordings that are not
        listed get NaN.
    """

    def __init__(
        self,
        recordings: Sequence[CachedRecording],
        contract: Contract,
        modalities: Sequence[str],
        classes: Mapping[str, int] | None = None,
        at_least: int = 2,
        labelled: bool = False,
        targets: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        self.modalities = tuple(modalities)
        self.contract = contract
        self._recordings = tuple(recordings)
        owners, rows, present, labels, target_rows = [], [], [], [], []
        width = next(iter(targets.values())).shape[1] if targets else 0
        for position, recording in enumerate(recordings):
            absent = np.zeros(recording.count, bool)
            available = np.stack([recording.present.get(m, absent) for m in self.modalities])
            class_of_clip = np.array(
                [(classes or {}).get(s, -1) for s in recording.stage], np.int64
            )
            kept = np.flatnonzero(
                (available.sum(axis=0) >= at_least) & ((class_of_clip >= 0) | (not labelled))
            )
            owners.append(np.full(len(kept), position))
            rows.append(kept)
            present.append(available[:, kept])
            labels.append(class_of_clip[kept])
            unknown = np.full((recording.count, width), np.nan, np.float32)
            target_rows.append((targets or {}).get(recording.recording_id, unknown)[kept])
        empty: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        self.owner = np.concatenate(owners or empty)
        self._row = np.concatenate(rows or empty)
        self.present = np.concatenate(
            present or [np.zeros((len(self.modalities), 0), bool)], axis=1
        )
        self.labels = np.concatenate(labels or empty)
        self.targets = np.concatenate(target_rows) if targets and target_rows else None

    def __len__(self) -> int:
        return len(self._row)

    def load(self, clips: Order) -> Batch:
        """Read clips by their numbers.

        Parameters
        ----------
        clips : ndarray of int64, shape [n]
            Numbers of the clips, in the order of the batch.

        Returns
        -------
        Batch
            The clips, on the CPU.
        """
        available = self.present[:, clips]
        signals = {}
        for row, modality in enumerate(self.modalities):
            signals[modality] = torch.from_numpy(self._signals(modality, clips, available[row]))
        present = None if available.all() else torch.from_numpy(available)
        targets = None if self.targets is None else torch.from_numpy(self.targets[clips])
        return Batch(signals, present, torch.from_numpy(self.labels[clips]), targets)

    def _signals(
        self, modality: str, clips: Order, available: NDArray[np.bool_]
    ) -> NDArray[np.generic]:
        shape = (len(self.contract.slots_of(modality)), self.contract.clip_samples)
        out = np.zeros((len(clips), *shape), stored_dtype(self.contract))
        for position in np.flatnonzero(available):
            clip = clips[position]
            out[position] = self._recordings[self.owner[clip]].signals[modality][self._row[clip]]
        return out


def shuffled(clips: ClipSet, size: int, together: int, seed: int, epoch: int) -> list[Order]:
    """Draw the batches of one pass: every clip once, but for an incomplete last batch.

    Parameters
    ----------
    clips : ClipSet
        The clips to draw from.
    size : int
        Clips per batch.
    together : int
        Clips of one recording that are placed in a batch as a group: 1 mixes all recordings (as the
        authors do); with more, a clip has clips of its own night among its negatives.
    seed, epoch : int
        Seed and pass, which fix the order.

    Returns
    -------
    list of ndarray of int64, shape [size]
        Numbers of the clips of each batch.
    """
    generator = np.random.default_rng((seed, epoch))
    groups: list[Order] = []
    first = np.flatnonzero(np.diff(clips.owner, prepend=-1))  # owners are in ascending order
    for numbers in np.split(np.arange(len(clips)), first[1:]):
        clips_of_recording = generator.permutation(numbers)
        groups += [
            clips_of_recording[i : i + together]
            for i in range(0, len(clips_of_recording), together)
        ]
    order = np.concatenate([groups[i] for i in generator.permutation(len(groups))])
    return [order[i : i + size] for i in range(0, len(order) - size + 1, size)]


def of_epoch(clips: ClipSet, recipe: Recipe, epoch: int) -> list[Order]:
    """Return the batches of one epoch: a whole pass, or ``epoch_clips`` clips.

    With ``epoch_clips``, passes follow one another, each in an order of its own, and epochs are
    consecutive sections of them.

    Parameters
    ----------
    clips : ClipSet
        The clips to draw from.
    recipe : Recipe
        Supplies the batch size, the seed and the length of an epoch.
    epoch : int
        Number of the epoch, counted from 0.

    Returns
    -------
    list of ndarray of int64
        Numbers of the clips of each batch.
    """
    if recipe.epoch_clips is None:
        return shuffled(clips, recipe.batch_size, _together(recipe, epoch), recipe.seed, epoch)
    batches_per_epoch = recipe.epoch_clips // recipe.batch_size
    batches_per_pass = len(clips) // recipe.batch_size
    orders: list[Order] = []
    pass_number = epoch * batches_per_epoch // batches_per_pass
    first = epoch * batches_per_epoch - pass_number * batches_per_pass
    while len(orders) < first + batches_per_epoch:
        orders += shuffled(
            clips, recipe.batch_size, _together(recipe, epoch), recipe.seed, pass_number
        )
        pass_number += 1
    return orders[first : first + batches_per_epoch]


def _together(recipe: Recipe, epoch: int) -> int:
    """Interpolate ``together`` linearly over the epochs, up to ``together_end``."""
    if recipe.together_end is None:
        return recipe.together
    share = epoch / max(1, recipe.epochs - 1)
    return round(recipe.together + share * (recipe.together_end - recipe.together))


def in_order(clips: ClipSet, size: int) -> list[Order]:
    """Return batches of all clips in the order of their numbers.

    Parameters
    ----------
    clips : ClipSet
        The clips.
    size : int
        Clips per batch; the last batch may be smaller.

    Returns
    -------
    list of ndarray of int64
        Numbers of the clips of each batch.
    """
    numbers = np.arange(len(clips))
    return [numbers[i : i + size] for i in range(0, len(numbers), size)]


def stream(clips: ClipSet, orders: Sequence[Order], pin: bool = False) -> Iterator[Batch]:
    """Load batches in a background thread, ahead of their use.

    Parameters
    ----------
    clips : ClipSet
        The clips to load from.
    orders : sequence of ndarray of int64
        Numbers of the clips of each batch.
    pin : bool
        Whether to place signals in page-locked memory, from which copies to a GPU are asynchronous.

    Yields
    ------
    Batch
        The batches, in the given order.
    """

    def load(order: Order) -> Batch:
        batch = clips.load(order)
        if not pin:
            return batch
        signals = {m: x.pin_memory() for m, x in batch.signals.items()}
        return replace(batch, signals=signals)

    with ThreadPoolExecutor(max_workers=2 if pin else 1) as pool:
        pending: deque[Future[Batch]] = deque()
        for order in orders:
            pending.append(pool.submit(load, order))
            if len(pending) > _PREFETCHED:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
