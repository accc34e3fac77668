"""``sleepfm-index pretrain``: train the encoders on recordings."""

from __future__ import annotations

import enum
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sleepfm_cli.options import listed
from sleepfm_cli.render import progress, say

if TYPE_CHECKING:
    from rich.progress import Progress

    from sleepfm.training.clipcache import Prepared
    from sleepfm.training.pretrain import Watch
    from sleepfm.training.splits import Split, Splits


class Objective(enum.StrEnum):
    """What is contrasted with what."""

    pairwise = "pairwise"
    leave_one_out = "leave-one-out"


class RecipeName(enum.StrEnum):
    """Settings to start from."""

    authors = "authors"
    short = "short"


class Precision(enum.StrEnum):
    """In which numbers the networks run."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


def pretrain(
    paths: Annotated[
        list[Path], typer.Argument(help="Recordings, folders, globs or cohort lists.")
    ],
    out: Annotated[Path, typer.Option(help="The weights file; log and splits lie beside it.")],
    objective: Annotated[Objective, typer.Option()] = Objective.leave_one_out,
    on: Annotated[
        str | None, typer.Option(help="Only these modalities, e.g. bas,ecg; default all there are.")
    ] = None,
    recipe: Annotated[
        RecipeName,
        typer.Option(help="authors: SGD, step decay, batch 32. short: AdamW, cosine, 4 epochs."),
    ] = RecipeName.authors,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the clips; default the recipe's.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=2, help="Clips a step; default the recipe's.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Highest learning rate; default the recipe's.")
    ] = None,
    dropout: Annotated[float | None, typer.Option(help="Default the recipe's.")] = None,
    together: Annotated[
        int | None, typer.Option(min=1, help="Clips of one night in a batch together.")
    ] = None,
    crop_s: Annotated[
        float | None,
        typer.Option(min=1, help="Train on windows of this many seconds; default the recipe's."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of weights, splits and order; default 0.")
    ] = None,
    subjects: Annotated[
        Path | None,
        typer.Option(help="subjects.csv: recording_id, subject_id; else each is its own."),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            help="Shares of the subjects: pretrain, train, valid, test. Those of train and test "
            "are left for what comes after."
        ),
    ] = "0.7,0.1,0.1,0.1",
    contract: Annotated[str, typer.Option(help="How clips are prepared.")] = "sleepfm-index-robust",
    substitute: Annotated[
        bool, typer.Option("--substitute", help="Fill slots from other derivations or sensors.")
    ] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of prepared clips; default beside the weights.")
    ] = None,
    describe: Annotated[
        str, typer.Option(help="What the data is, for the record inside the weights.")
    ] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[Precision, typer.Option()] = Precision.auto,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; default all cores.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
) -> None:
    """Train the three encoders so that a clip's signals find each other.

    The best epoch is in --out; a run that was stopped goes on with --resume, to the same numbers.
    """
    from sleepfm.contract import CONTRACTS
    from sleepfm.encoders.inference import choose_device
    from sleepfm.modality import Modality
    from sleepfm.training.pretrain import Data
    from sleepfm.training.pretrain import pretrain as train
    from sleepfm.training.recipe import RECIPES
    from sleepfm.training.task import choose_precision

    if contract not in CONTRACTS:
        raise typer.BadParameter(f"--contract is one of {', '.join(CONTRACTS)}")
    asked: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "dropout": dropout,
        "together": together,
        "crop_s": crop_s,
        "seed": seed,
    }
    settings = replace(RECIPES[recipe.value], **{k: v for k, v in asked.items() if v is not None})
    data = Data(
        paths=paths,
        subjects=subjects,
        fractions=_fractions(split),
        contract=CONTRACTS[contract],
        cache=cache,
        substitute=substitute,
        description=describe,
    )
    known = [m.value for m in Modality]
    if any(name not in known for name in listed(on) or ()):
        raise typer.BadParameter(f"--on takes some of {', '.join(known)}, parted by commas")
    place = choose_device(device)
    numbers = str(choose_precision(place, precision.value)).removeprefix("torch.")
    say(f"training {objective.value} on {place.type} in {numbers}, recipe {recipe.value}")
    if subjects is None:
        say("no --subjects: every recording counts as a person of its own", "yellow")
    begun = time.monotonic()
    with progress("preparing clips") as bar:
        history = train(
            data,
            out,
            objective.value,
            settings,
            modalities=[Modality(name) for name in listed(on) or known],
            device=device,
            precision=precision.value,
            threads=threads,
            resume=resume,
            watch=_watch(bar, settings.epochs),
        )
    _conclude(out, history, time.monotonic() - begun)


def _conclude(out: Path, history: list[dict[str, Any]], seconds: float) -> None:
    """Say which epoch the weights are of, where everything is, and how to use it."""
    from sleepfm.training.curves import can_draw

    best = min(history, key=lambda h: h["valid"]["loss"])
    say(
        f"{out}: epoch {best['epoch']} of {len(history)}, the lowest validation loss "
        f"({best['valid']['loss']:.3f}); {seconds / 60:.1f} min"
    )
    drawn = f"{out.stem}.curves.png, " if can_draw() else ""
    say(f"beside it: {out.stem}.log.jsonl, {drawn}{out.stem}.splits.json, {out.stem}.checkpoint.pt")
    if not drawn:
        say("no curves drawn, matplotlib is missing: pip install 'sleepfm-index[eval]'", "yellow")
    say(f"use it: sleepfm-index build RECORDINGS --weights {out}")


def _fractions(text: str) -> dict[Split, float]:
    from sleepfm.training.splits import SPLITS

    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if len(shares) != len(SPLITS) or min(shares) < 0 or not (shares[0] and shares[2]):
        raise typer.BadParameter(
            "--split takes four shares, pretrain,train,valid,test; pretrain and valid above 0"
        )
    return dict(zip(SPLITS, shares, strict=True))


def _watch(bar: Progress, epochs: int) -> Watch:
    """Move the bar, and print what an epoch brought."""
    from sleepfm.training.pretrain import Watch

    task = bar.task_ids[0]

    def prepared(clips: Prepared, splits: Splits) -> None:
        for name, reason in clips.left_out:
            say(f"left out: {name}: {reason}", "yellow")
        sizes = ", ".join(f"{len(splits.subjects(s))} {s}" for s in _split_names())
        count = sum(r.count for r in clips.recordings)
        say(f"{len(clips.recordings)} recordings, {count:,} clips; subjects: {sizes}")

    def step(epoch: int, done: int, total: int, loss: float) -> None:
        bar.update(task, description=f"epoch {epoch}  loss {loss:.3f}", completed=done, total=total)

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
        top1 = ", ".join(f"{k} {v:.2f}" for k, v in metrics["top1_in_batch"].items())
        say(f"  top-1 in batch: {top1}")

    return Watch(
        preparing=lambda done, total: bar.update(task, completed=done, total=total),
        prepared=prepared,
        training=step,
        epoch=epoch,
    )


def _split_names() -> tuple[Split, ...]:
    from sleepfm.training.splits import SPLITS

    return SPLITS
