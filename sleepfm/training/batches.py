"""From cached clips to batches of tensors, in an order that a seed fixes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sleepfm.contract import Contract
from sleepfm.training.clipcache import CachedRecording, stored_dtype
from sleepfm.training.recipe import Recipe

_AHEAD: Final = 4

Order = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Clips of all modalities side by side.

    Parameters
    ----------
    signals : dict of str to Tensor, shape [n, slots, samples]
        As cached; zero where a clip lacks the modality.
    present : Tensor of bool, shape [modalities, n], or None
        Which clips have which modality; None where all have all.
    labels : Tensor of int64, shape [n]
        The class of each clip, -1 for none.
    targets : Tensor of float32, shape [n, k], or None
        What is known of each clip, NaN where it is not.
    hidden : Tensor of bool, shape [n, blocks], or None
        Which blocks of each clip are to be hidden (:mod:`sleepfm.training.masked`).
    """

    signals: dict[str, Tensor]
    present: Tensor | None
    labels: Tensor
    targets: Tensor | None = None
    hidden: Tensor | None = None

    def window(self, start: int, stop: int) -> Batch:
        """Return the same samples of every clip and modality, as a view.

        Parameters
        ----------
        start, stop : int
            First sample, and the one after the last.
        """
        signals = {m: x[..., start:stop] for m, x in self.signals.items()}
        return replace(self, signals=signals)


class ClipSet:
    """The clips of some recordings, numbered through.

    Parameters
    ----------
    recordings : sequence of CachedRecording
        Whose clips.
    contract : Contract
        How they were prepared.
    modalities : sequence of str
        Which signals.
    classes : mapping of str to int
        Class of each stage; a stage that is not listed has none.
    at_least : int
        Clips with fewer modalities are left out.
    labelled : bool
        Whether clips without a class are left out too.
    targets : mapping of str to ndarray of float32, shape [clips, k]
        What is known of the clips of a recording, by its id; NaN for those that are not listed.
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
        owner, row, present, labels, known = [], [], [], [], []
        width = next(iter(targets.values())).shape[1] if targets else 0
        for number, recording in enumerate(recordings):
            absent = np.zeros(recording.count, bool)
            has = np.stack([recording.present.get(m, absent) for m in self.modalities])
            own = np.array([(classes or {}).get(s, -1) for s in recording.stage], np.int64)
            kept = np.flatnonzero((has.sum(axis=0) >= at_least) & ((own >= 0) | (not labelled)))
            owner.append(np.full(len(kept), number))
            row.append(kept)
            present.append(has[:, kept])
            labels.append(own[kept])
            unknown = np.full((recording.count, width), np.nan, np.float32)
            known.append((targets or {}).get(recording.recording_id, unknown)[kept])
        empty: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        self.owner = np.concatenate(owner or empty)
        self._row = np.concatenate(row or empty)
        self.present = np.concatenate(
            present or [np.zeros((len(self.modalities), 0), bool)], axis=1
        )
        self.labels = np.concatenate(labels or empty)
        self.targets = np.concatenate(known) if targets and known else None

    def __len__(self) -> int:
        return len(self._row)

    def load(self, clips: Order) -> Batch:
        """Read some clips, by number.

        Parameters
        ----------
        clips : ndarray of intp, shape [n]
            Numbers of the clips.
        """
        has = self.present[:, clips]
        signals = {}
        for which, modality in enumerate(self.modalities):
            signals[modality] = torch.from_numpy(self._signals(modality, clips, has[which]))
        present = None if has.all() else torch.from_numpy(has)
        targets = None if self.targets is None else torch.from_numpy(self.targets[clips])
        return Batch(signals, present, torch.from_numpy(self.labels[clips]), targets)

    def _signals(self, modality: str, clips: Order, has: NDArray[np.bool_]) -> NDArray[np.generic]:
        shape = (len(self.contract.slots_of(modality)), self.contract.clip_samples)
        out = np.zeros((len(clips), *shape), stored_dtype(self.contract))
        for at in np.flatnonzero(has):
            clip = clips[at]
            out[at] = self._recordings[self.owner[clip]].signals[modality][self._row[clip]]
        return out


def shuffled(clips: ClipSet, size: int, together: int, seed: int, epoch: int) -> list[Order]:
    """Order an epoch: every clip once, in batches of ``size``; what is left over waits.

    Parameters
    ----------
    clips : ClipSet
        To choose from.
    size : int
        Clips a batch.
    together : int
        Clips of one recording that come into a batch together: 1 mixes all recordings (the
        authors' way); more makes a clip compete with others of its own night.
    seed, epoch : int
        What the order depends on.
    """
    draw = np.random.default_rng((seed, epoch))
    groups: list[Order] = []
    for number in np.unique(clips.owner):
        own = draw.permutation(np.flatnonzero(clips.owner == number))
        groups += [own[i : i + together] for i in range(0, len(own), together)]
    order = np.concatenate([groups[i] for i in draw.permutation(len(groups))])
    return [order[i : i + size] for i in range(0, len(order) - size + 1, size)]


def of_epoch(clips: ClipSet, recipe: Recipe, epoch: int) -> list[Order]:
    """Return the batches between two validations: all clips, or ``epoch_clips`` of them.

    Passes follow each other without end, each in an order of its own, and epochs are cut from
    them.

    Parameters
    ----------
    clips : ClipSet
        To choose from.
    recipe : Recipe
        Gives the batch size, the seed and the length of an epoch.
    epoch : int
        Number of the epoch, counted from 0.
    """
    if recipe.epoch_clips is None:
        return shuffled(clips, recipe.batch_size, _together(recipe, epoch), recipe.seed, epoch)
    count = recipe.epoch_clips // recipe.batch_size
    each = len(clips) // recipe.batch_size
    orders: list[Order] = []
    number = epoch * count // each
    first = epoch * count - number * each
    while len(orders) < first + count:
        orders += shuffled(clips, recipe.batch_size, _together(recipe, epoch), recipe.seed, number)
        number += 1
    return orders[first : first + count]


def _together(recipe: Recipe, epoch: int) -> int:
    """Clips of one night that come together in an epoch, on the way to ``together_end``."""
    if recipe.together_end is None:
        return recipe.together
    share = epoch / max(1, recipe.epochs - 1)
    return round(recipe.together + share * (recipe.together_end - recipe.together))


def in_order(clips: ClipSet, size: int) -> list[Order]:
    """All clips, none left over.

    Parameters
    ----------
    clips : ClipSet
    size : int
        Clips per batch; the last batch may be smaller.
    """
    numbers = np.arange(len(clips))
    return [numbers[i : i + size] for i in range(0, len(numbers), size)]


def stream(clips: ClipSet, orders: Sequence[Order], pin: bool = False) -> Iterator[Batch]:
    """Load batches ahead of their use, in a thread of its own.

    Parameters
    ----------
    clips : ClipSet
        To read from.
    orders : sequence of ndarray
        The clips of each batch.
    pin : bool
        Whether to put them into page-locked memory, from where a GPU copies by itself.
    """

    def load(order: Order) -> Batch:
        batch = clips.load(order)
        if not pin:
            return batch
        signals = {m: x.pin_memory() for m, x in batch.signals.items()}
        return replace(batch, signals=signals)

    with ThreadPoolExecutor(max_workers=2 if pin else 1) as pool:
        waiting: deque[Future[Batch]] = deque()
        for order in orders:
            waiting.append(pool.submit(load, order))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
