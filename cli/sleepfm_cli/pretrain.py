"""``sleepfm-index pretrain``: train the encoders on recordings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sleepfm.choices import Objective, Precision, RecipeName
from sleepfm_cli.as_built import AsBuiltOption, choices_of
from sleepfm_cli.options import (
    ChannelsOption,
    CodingOption,
    EpochSecondsOption,
    GridOption,
    SubstituteOption,
    contract_of,
    listed,
)
from sleepfm_cli.outputs import expect_output, load_matplotlib
from sleepfm_cli.render import messages, progress, say

if TYPE_CHECKING:
    from rich.progress import Progress

    from sleepfm.training.clipcache import Prepared
    from sleepfm.training.pretrain import TrainingCallbacks
    from sleepfm.training.splits import Split, Splits

_SILENCE_S = 60.0
"""Time after which a run without a terminal, which shows no bar, says where it is."""


def pretrain(
    paths: Annotated[
        list[Path], typer.Argument(help="Recordings, folders, globs or cohort lists.")
    ],
    out: Annotated[
        Path, typer.Option(help="Weights file to write; log and splits are written next to it.")
    ],
    objective: Annotated[
        Objective,
        typer.Option(help="Training objective; physiology predicts --truth without contrast."),
    ] = "leave-one-out",
    start: Annotated[
        str | None, typer.Option("--from", help="Initial weights, by name or path.")
    ] = None,
    truth: Annotated[
        list[Path] | None,
        typer.Option(help="Parquet of known values per clip (simulate --truth); repeatable."),
    ] = None,
    on: Annotated[
        str | None, typer.Option(help="Modalities to train, e.g. bas,ecg; default: all.")
    ] = None,
    recipe: Annotated[
        RecipeName,
        typer.Option(
            help="authors: SGD, step decay, batch 32. short: AdamW, cosine, 4 epochs. warm-up and "
            "body: the two steps of docs/training.md; fine-tuning: trained weights on your "
            "own recordings; mixed: the same with simulated nights among them, for a GPU."
        ),
    ] = "authors",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Number of epochs; default: from the recipe.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=2, help="Clips per step; default: from the recipe.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Maximum learning rate; default: from the recipe.")
    ] = None,
    dropout: Annotated[float | None, typer.Option(help="Default: from the recipe.")] = None,
    together: Annotated[
        int | None, typer.Option(min=1, help="Clips of the same night in a batch.")
    ] = None,
    together_end: Annotated[
        int | None, typer.Option(min=1, help="The same in the last epoch, reached gradually.")
    ] = None,
    crop_s: Annotated[
        float | None,
        typer.Option(
            min=1, help="Window of each clip per step, in seconds; default: from the recipe."
        ),
    ] = None,
    jitter_s: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="How far apart, in seconds, the windows of a clip may start in two modalities; 0: "
            "the same window. Needs --crop-s or a recipe with windows; default: from the recipe.",
        ),
    ] = None,
    physiology: Annotated[
        float | None,
        typer.Option(min=0, help="Weight of predicting --truth in addition to the objective."),
    ] = None,
    within: Annotated[
        float | None, typer.Option(min=0, help="Weight of SimCLR between the halves of a clip.")
    ] = None,
    masked: Annotated[
        float | None, typer.Option(min=0, help="Weight of masked reconstruction of spectra.")
    ] = None,
    covariance: Annotated[
        float | None, typer.Option(min=0, help="Weight of the covariance term of VICReg.")
    ] = None,
    memory: Annotated[
        int | None,
        typer.Option(min=0, help="Number of vectors of earlier steps used as negatives."),
    ] = None,
    slot_dropout: Annotated[
        float | None, typer.Option(min=0, max=1, help="Fraction of clips with dropped slots.")
    ] = None,
    vary: Annotated[
        bool | None,
        typer.Option(
            "--vary/--as-recorded", help="Vary gain, polarity, leads and noise at random."
        ),
    ] = None,
    heart_field: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Fraction of clips whose ECG is added to the EEG, at a random size."
        ),
    ] = None,
    heart_epochs: Annotated[
        int | None,
        typer.Option(
            min=0, help="First epochs, in which the EEG learns heart rate alone; needs --truth."
        ),
    ] = None,
    average: Annotated[
        float | None,
        typer.Option(min=0, help="Decay of the moving average of the weights; 0: none."),
    ] = None,
    epoch_clips: Annotated[
        int | None, typer.Option(min=2, help="Clips between validations; default: the recipe's.")
    ] = None,
    repeat: Annotated[
        list[str] | None,
        typer.Option(help="PATH=N: use the recordings under PATH N times per epoch; repeatable."),
    ] = None,
    sample_rate: Annotated[
        int | None,
        typer.Option(min=8, help="Sampling rate in Hz; default: from the contract."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Random seed of weights, splits and order; default 0.")
    ] = None,
    subjects: Annotated[
        Path | None,
        typer.Option(
            help="subjects.csv with recording_id and subject_id; default: one subject per file."
        ),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            help="Fractions of the subjects for pretrain, train, valid and test; train and test "
            "are reserved for evaluation."
        ),
    ] = "0.7,0.1,0.1,0.1",
    contract: Annotated[
        str | None,
        typer.Option(
            help="Signals and preparation of the clips: a name or a JSON file; default: that of "
            "--from, or sleepfm-index-robust."
        ),
    ] = None,
    substitute: SubstituteOption = None,
    channels: ChannelsOption = None,
    coding: CodingOption = None,
    epoch_seconds: EpochSecondsOption = None,
    grid: GridOption = None,
    store: AsBuiltOption = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of the clip cache; default: next to the weights.")
    ] = None,
    describe: Annotated[
        str, typer.Option(help="Description of the data, stored in the weights.")
    ] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[
        Precision,
        typer.Option(help="Precision of matrix products; auto: depends on the device."),
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; default: all cores.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the checkpoint.")] = False,
    checkpoint_minutes: Annotated[
        float, typer.Option(min=0.01, help="Minutes between checkpoints.")
    ] = 5.0,
) -> None:
    """Pretrain encoders by contrastive learning.

    --out contains the best epoch. --resume continues an interrupted run, with identical results.
    """
    from sleepfm.encoders.inference import choose_device
    from sleepfm.encoders.load import load_weights
    from sleepfm.training.pretrain import Data
    from sleepfm.training.pretrain import pretrain as train
    from sleepfm.training.recipe import RECIPES
    from sleepfm.training.task import choose_precision
    from sleepfm_index.truth import read_truth

    expect_output(out.parent, folder=True)
    load_matplotlib()  # for the learning curves
    if out.exists() and not resume:
        expect_output(out)
    initial = None if start is None else load_weights(start)
    if initial is not None and contract in (None, initial.contract.name):
        chosen = initial.contract
    else:
        chosen = contract_of(contract or "sleepfm-index-robust")
    if sample_rate is not None and sample_rate != chosen.sample_rate:
        chosen = replace(chosen, name=f"{chosen.name}-{sample_rate}hz", sample_rate=sample_rate)
    overrides: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "dropout": dropout,
        "together": together,
        "together_end": together_end,
        "physiology": physiology,
        "within": within,
        "masked": masked,
        "covariance": covariance,
        "memory": memory,
        "slot_dropout": slot_dropout,
        "vary": vary,
        "heart_field": heart_field,
        "heart_epochs": heart_epochs,
        "average": average,
        "epoch_clips": epoch_clips,
        "crop_s": crop_s,
        "jitter_s": jitter_s,
        "seed": seed,
    }
    settings = replace(RECIPES[recipe], **{k: v for k, v in overrides.items() if v is not None})
    data = Data(
        paths=paths,
        subjects=subjects,
        fractions=_fractions(split),
        contract=chosen,
        cache=cache,
        choices=choices_of(store).updated(
            chosen,
            substitute=substitute,
            channels=channels,
            coding=coding,
            epoch_s=epoch_seconds,
            grid=grid,
        ),
        description=describe,
        truth={k: v for path in truth for k, v in read_truth(path).items()} if truth else None,
        repeats=_repeats(repeat or ()),
    )
    known = chosen.modalities
    if any(name not in known for name in listed(on) or ()):
        raise typer.BadParameter(f"--on takes a comma-separated list of {', '.join(known)}")
    torch_device = choose_device(device)
    dtype = str(choose_precision(torch_device, precision)).removeprefix("torch.")
    say(f"training {objective} on {torch_device.type} in {dtype}, recipe {recipe}")
    if subjects is None:
        say("no --subjects: every recording counts as a separate subject", "yellow")
    started = time.monotonic()
    with progress("preparing clips") as bar:
        history = train(
            data,
            out,
            objective,
            settings,
            modalities=listed(on),
            device=device,
            precision=precision,
            threads=threads,
            resume=resume,
            start=initial,
            checkpoint_minutes=checkpoint_minutes,
            callbacks=_callbacks(bar, settings.epochs),
        )
    _conclude(out, history, time.monotonic() - started)


def _conclude(out: Path, history: list[dict[str, Any]], seconds: float) -> None:
    """Report the selected epoch, the files and how to use the weights."""
    from sleepfm.encoders.training_distribution import MIN_PEOPLE
    from sleepfm.encoders.weights import read_info
    from sleepfm.training.curves import can_draw

    best = min(history, key=lambda h: h["valid"]["loss"])
    say(
        f"{out}: epoch {best['epoch']} of {len(history)}, the lowest validation loss "
        f"({best['valid']['loss']:.3f}); {seconds / 60:.1f} min"
    )
    drawn = f"{out.stem}.curves.png, " if can_draw() else ""
    say(
        f"next to it: {out.stem}.log.jsonl, {drawn}{out.stem}.splits.json, {out.stem}.checkpoint.pt"
    )
    if not drawn:
        say("no curves drawn, matplotlib is missing: pip install 'sleepfm-index[eval]'", "yellow")
    if not read_info(out).distribution:
        say(
            "the weights have no training distribution, so builds cannot warn of recordings unlike "
            f"the training set; it needs recordings of at least {MIN_PEOPLE} people",
            "yellow",
        )
    say(f"use it: sleepfm-index build RECORDINGS --weights {out}")


def _repeats(options: Sequence[str]) -> dict[str, int]:
    """Parse PATH=N: uses per epoch of each recording under a path."""
    from sleepfm.recordings import find_recordings

    repeats: dict[str, int] = {}
    for text in options:
        path, _, times = text.rpartition("=")
        if not path or not times.isdecimal() or not int(times):
            raise typer.BadParameter(f"--repeat takes PATH=N with N at least 1, got {text}")
        repeats |= {file.stem: int(times) for file in find_recordings([path]).recordings}
    return repeats


def _fractions(text: str) -> dict[Split, float]:
    from sleepfm.training.splits import SPLITS

    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if len(shares) != len(SPLITS) or min(shares) < 0 or not (shares[0] and shares[2]):
        raise typer.BadParameter(
            "--split takes four fractions, pretrain,train,valid,test; pretrain and valid above 0"
        )
    return dict(zip(SPLITS, shares, strict=True))


def _callbacks(bar: Progress, epochs: int) -> TrainingCallbacks:
    """Move the bar and print the metrics of each epoch."""
    from sleepfm.training.pretrain import TrainingCallbacks

    task = bar.task_ids[0]
    spoken = time.monotonic()

    def prepared(clips: Prepared, splits: Splits) -> None:
        for name, reason in clips.left_out:
            say(f"left out: {name}: {reason}", "yellow")
        sizes = ", ".join(f"{len(splits.subjects(s))} {s}" for s in _split_names())
        count = sum(r.count for r in clips.recordings)
        say(f"{len(clips.recordings)} recordings, {count:,} clips; subjects: {sizes}")

    def step(epoch: int, done: int, total: int, loss: float) -> None:
        nonlocal spoken
        bar.update(task, description=f"epoch {epoch}  loss {loss:.3f}", completed=done, total=total)
        if not messages.is_terminal and done < total and time.monotonic() - spoken >= _SILENCE_S:
            spoken = time.monotonic()
            say(f"epoch {epoch} of {epochs}: step {done} of {total}, loss {loss:.3f}")

    def epoch(metrics: dict[str, Any]) -> None:
        valid = metrics["valid"]
        size = max(g["gallery"] for g in valid["gallery"].values())
        say(
            f"epoch {metrics['epoch']} of {epochs}: loss {metrics['loss']:.3f}, validation "
            f"{valid['loss']:.3f}, {metrics['clips_per_s']:.0f} clips/s"
        )
        say(
            f"  recall@1 {valid['mean_recall_at_1']:.4f} among {size:,} clips (chance "
            f"{1 / size:.4f}), temperature {metrics['temperature']:.2f}"
        )
        if metrics["top1_in_batch"]:
            top1 = ", ".join(f"{k} {v:.2f}" for k, v in metrics["top1_in_batch"].items())
            say(f"  top-1 in batch: {top1}")
        for name, facts in valid["knows"].items():
            if facts:
                measures = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in facts.items())
                say(f"  {name}: {measures}")

    return TrainingCallbacks(
        preparing=lambda done, total: bar.update(task, completed=done, total=total),
        prepared=prepared,
        training=step,
        epoch=epoch,
    )


def _split_names() -> tuple[Split, ...]:
    from sleepfm.training.splits import SPLITS

    return SPLITS
