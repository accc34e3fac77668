"""Contrastive pretraining: recordings in, weights out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sleepfm.choices import Objective, Precision
from sleepfm.contract import Contract
from sleepfm.encoders.inference import choose_device
from sleepfm.encoders.seen import Seen, hash_people
from sleepfm.encoders.weights import Weights
from sleepfm.errors import TrainingError
from sleepfm.training.batches import ClipSet
from sleepfm.training.clipcache import CachedRecording
from sleepfm.training.contrastive import Contrastive
from sleepfm.training.data import Data, TrainingCallbacks, gather, identity_of, record_of
from sleepfm.training.distribution import add_distribution
from sleepfm.training.loop import fit, refuse_taken
from sleepfm.training.physiology import targets_of
from sleepfm.training.recipe import AUTHORS, Recipe
from sleepfm.training.task import Metrics, Run, choose_precision

__all__ = ["Contrastive", "Data", "TrainingCallbacks", "pretrain"]


def pretrain(
    data: Data,
    out: Path,
    objective: Objective = "leave-one-out",
    recipe: Recipe = AUTHORS,
    *,
    modalities: Sequence[str] | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    threads: int | None = None,
    resume: bool = False,
    start: Weights | None = None,
    checkpoint_minutes: float = 5.0,
    callbacks: TrainingCallbacks | None = None,
) -> list[Metrics]:
    """Train the encoders of all modalities that the recordings have.

    Beside ``out`` (safetensors, the best epoch) lie ``<stem>.splits.json``, ``<stem>.log.jsonl``
    and ``<stem>.checkpoint.pt``; see :func:`sleepfm.training.loop.fit`. With recordings of enough
    people the weights also carry their training distribution
    (:mod:`sleepfm.encoders.training_distribution`).

    Parameters
    ----------
    data : Data
        What to train on.
    out : Path
        The weights file.
    objective : {"pairwise", "leave-one-out", "physiology"}
        What is contrasted with what; ``physiology`` contrasts nothing, and regresses what is known.
    recipe : Recipe
        How.
    modalities : sequence of str, optional
        Only these; by default all that the recordings have.
    device, precision, threads
        Where: ``auto``, ``cpu``, ``cuda``, ``mps``; ``auto``, ``float32``, ``bfloat16``; threads on
        the CPU.
    resume : bool
        Go on from the checkpoint if there is one.
    start : Weights, optional
        Trained weights to begin from, of the same contract; by default a random initialisation.
        Heads that read physiology are fitted to what these weights know.
    checkpoint_minutes : float
        Time between two checkpoints.
    callbacks : TrainingCallbacks, optional
        Progress callbacks.

    Returns
    -------
    list of dict
        Metrics of every epoch.

    Raises
    ------
    TrainingError
        If training cannot start or go on; the last checkpoint is intact.
    """
    callbacks = callbacks or TrainingCallbacks()
    if threads is not None:
        torch.set_num_threads(threads)
    place = choose_device(device)
    run = Run(place, choose_precision(place, precision))
    refuse_taken(out, resume)
    cohort = gather(data, out, recipe.seed, callbacks)
    chosen = {s: cohort.recordings(s) for s in ("pretrain", "valid")}
    modalities = _modalities(chosen["pretrain"], data.contract, modalities)
    targets = _targets(data, chosen, objective, recipe)
    seen = {**chosen, "pretrain": _repeated(chosen["pretrain"], data.repeats)}
    clips = {
        name: ClipSet(own, data.contract, modalities, targets=targets) for name, own in seen.items()
    }
    once = {name: ClipSet(own, data.contract, modalities) for name, own in chosen.items()}
    for name, own in clips.items():
        if len(own) < 2:
            raise TrainingError(
                f"the split {name} has {len(own)} clips with two modalities; it needs at least 2"
            )
    cohort.write_splits(out)
    people = {s: {cohort.subject[r.recording_id] for r in own} for s, own in chosen.items()}
    identity = identity_of(
        [objective, data.contract.sha256, list(modalities), start.sha256 if start else ""], seen
    )
    earlier = Seen.of_record(start.record) if start else None
    record = hash_people(people, identity.encode(), earlier).added_to(
        {"objective": objective, **record_of(data, once, recipe, run)}
    )
    record["modalities"] = [str(m) for m in modalities]
    task = Contrastive(objective, modalities, data.contract, recipe, clips["valid"], record)
    if clips["pretrain"].targets is not None:
        task.read_off(clips["pretrain"].targets)
    task.to(place)
    if start is not None:
        record["started_from"] = {"name": start.name, "sha256": start.sha256}
        task.begin(start, clips["pretrain"], run)
    history = fit(
        task,
        clips["pretrain"],
        recipe,
        run,
        out,
        identity=identity,
        resume=resume,
        checkpoint_minutes=checkpoint_minutes,
        progress=callbacks.training,
        report=callbacks.epoch,
    )
    add_distribution(out, [r for own in chosen.values() for r in own], cohort.subject)
    return history


def _repeated(
    recordings: Sequence[CachedRecording], repeats: Mapping[str, int]
) -> list[CachedRecording]:
    return [r for r in recordings for _ in range(repeats.get(r.recording_id, 1))]


def _targets(
    data: Data,
    chosen: Mapping[str, Sequence[CachedRecording]],
    objective: Objective,
    recipe: Recipe,
) -> dict[str, NDArray[np.float32]] | None:
    """Return what is known of the clips of each recording, where that plays a part."""
    if not recipe.physiology and objective != "physiology":
        return None
    if data.truth is None:
        raise TrainingError(
            "the training clips have no known values; pass a truth file (--truth), as written by "
            "`simulate --truth`"
        )
    return {
        r.recording_id: targets_of(data.truth.get(r.recording_id, {}), r.stage)
        for own in chosen.values()
        for r in own
    }


def _modalities(
    recordings: Sequence[CachedRecording], contract: Contract, wanted: Sequence[str] | None
) -> tuple[str, ...]:
    known = contract.modalities
    odd = [m for m in wanted or () if m not in known]
    if odd:
        raise TrainingError(
            f"{contract.name} has no modality {odd[0]}; choose from {', '.join(known)}"
        )
    there = [m for m in known if any(r.present.get(m, np.False_).any() for r in recordings)]
    found = tuple(m for m in there if m in (wanted or known))
    if len(found) < 2:
        asked = f" of {', '.join(wanted)}" if wanted else ""
        raise TrainingError(
            f"the recordings have {'only ' + found[0] if found else 'no modality'}{asked}; "
            "contrastive training needs two modalities"
        )
    return found
