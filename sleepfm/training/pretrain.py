"""Contrastive pretraining, from recordings to weights."""

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
from sleepfm.training.data import (
    Data,
    TrainingCallbacks,
    prepare_cohort,
    run_identity,
    training_record,
)
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

    ``out`` contains the weights of the best epoch (safetensors). Next to it are
    ``<stem>.splits.json``, ``<stem>.log.jsonl`` and ``<stem>.checkpoint.pt``; see
    :func:`sleepfm.training.loop.fit`. With recordings of enough people the weights also carry their
    training distribution (:mod:`sleepfm.encoders.training_distribution`).

    Parameters
    ----------
    data : Data
        The training data.
    out : Path
        The weights file.
    objective : {"pairwise", "leave-one-out", "siglip", "barlow", "vicreg", "physiology"}
        The objective; ``physiology`` is regression of known values without any contrast.
    recipe : Recipe
        Settings of the run.
    modalities : sequence of str, optional
        The modalities to train; by default all that the recordings have.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    precision : {"auto", "float32", "bfloat16"}
        Working precision.
    threads : int, optional
        Number of CPU threads; by default torch's own choice.
    resume : bool
        Whether to continue from the checkpoint if there is one.
    start : Weights, optional
        Trained weights of the same contract from which to initialise; by default the initialisation
        is random. Regression heads are fitted to the outputs of these weights.
    checkpoint_minutes : float
        Minutes between two checkpoints within an epoch.
    callbacks : TrainingCallbacks, optional
        Progress callbacks.

    Returns
    -------
    list of dict
        Metrics of each epoch, in order.

    Raises
    ------
    TrainingError
        If training cannot start or continue; the last checkpoint is intact.
    """
    callbacks = callbacks or TrainingCallbacks()
    if threads is not None:
        torch.set_num_threads(threads)
    torch_device = choose_device(device)
    run = Run(torch_device, choose_precision(torch_device, precision))
    refuse_taken(out, resume)
    recipe.jitter_samples(data.contract)  # refuses windows that do not fit, before clips are cut
    cohort = prepare_cohort(data, out, recipe.seed, callbacks)
    chosen = {s: cohort.recordings(s) for s in ("pretrain", "valid")}
    modalities = _modalities(chosen["pretrain"], data.contract, modalities)
    targets = _targets(data, chosen, objective, recipe)
    repeated = {**chosen, "pretrain": _repeated(chosen["pretrain"], data.repeats)}
    clips = {
        name: ClipSet(recordings, data.contract, modalities, targets=targets)
        for name, recordings in repeated.items()
    }
    unrepeated = {
        name: ClipSet(recordings, data.contract, modalities) for name, recordings in chosen.items()
    }
    for name, clip_set in clips.items():
        if len(clip_set) < 2:
            raise TrainingError(
                f"the split {name} has {len(clip_set)} clips with two modalities; "
                "it needs at least 2"
            )
    cohort.write_splits(out)
    people_of_split = {
        s: {cohort.subject[r.recording_id] for r in recordings} for s, recordings in chosen.items()
    }
    identity = run_identity(
        [objective, data.contract.sha256, list(modalities), start.sha256 if start else ""], repeated
    )
    earlier = Seen.of_record(start.record) if start else None
    record = hash_people(people_of_split, identity.encode(), earlier).added_to(
        {"objective": objective, **training_record(data, unrepeated, recipe, run)}
    )
    record["modalities"] = [str(m) for m in modalities]
    task = Contrastive(objective, modalities, data.contract, recipe, clips["valid"], record)
    if clips["pretrain"].targets is not None:
        task.add_regression(clips["pretrain"].targets)
    task.to(torch_device)
    if start is not None:
        record["started_from"] = {
            "name": start.name,
            "sha256": start.sha256,
            "simultaneous": start.simultaneous,
        }
        task.initialise_from(start, clips["pretrain"], run)
    if torch_device.type == "cuda":
        task.networks.capture(data.contract, recipe, run)
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
    add_distribution(out, [r for recordings in chosen.values() for r in recordings], cohort.subject)
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
    """Return the regression targets by recording id, or None if the run uses none."""
    if not recipe.physiology and objective != "physiology":
        if recipe.heart_epochs:
            raise TrainingError(
                "heart_epochs regresses known values; use the objective physiology, or physiology "
                "above 0"
            )
        return None
    if data.truth is None:
        raise TrainingError(
            "the training clips have no known values; pass a truth file (--truth), as written by "
            "`simulate --truth`"
        )
    return {
        r.recording_id: targets_of(data.truth.get(r.recording_id, {}), r.stage)
        for recordings in chosen.values()
        for r in recordings
    }


def _modalities(
    recordings: Sequence[CachedRecording], contract: Contract, requested: Sequence[str] | None
) -> tuple[str, ...]:
    known = contract.modalities
    unknown = [m for m in requested or () if m not in known]
    if unknown:
        raise TrainingError(
            f"{contract.name} has no modality {unknown[0]}; choose from {', '.join(known)}"
        )
    available = [m for m in known if any(r.present.get(m, np.False_).any() for r in recordings)]
    usable = tuple(m for m in available if m in (requested or known))
    if len(usable) < 2:
        restriction = f" of {', '.join(requested)}" if requested else ""
        raise TrainingError(
            f"the recordings have {'only ' + usable[0] if usable else 'no modality'}{restriction}; "
            "contrastive training needs two modalities"
        )
    return usable
