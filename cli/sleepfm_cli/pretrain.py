"""``sleepfm-index pretrain``: train the encoders on recordings."""

from __future__ import annotations

import enum
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sleepfm_cli.render import messages, progress, say

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
    recipe: Annotated[
        RecipeName, typer.Option(help="authors: SGD, step decay, batch 32. short: CPU hours.")
    ] = RecipeName.authors,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(min=2)] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    dropout: Annotated[float | None, typer.Option()] = None,
    together: Annotated[
        int | None, typer.Option(min=1, help="Clips of one night in a batch together.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    subjects: Annotated[
        Path | None, typer.Option(help="subjects.csv: recording_id, subject_id.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="Shares of the subjects: pretrain,train,valid,test.")
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
    from sleepfm.training.pretrain import Data
    from sleepfm.training.pretrain import pretrain as train
    from sleepfm.training.recipe import RECIPES

    if contract not in CONTRACTS:
        raise typer.BadParameter(f"--contract is one of {', '.join(CONTRACTS)}")
    asked: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "dropout": dropout,
        "together": together,
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
    with progress("preparing clips") as bar:
        history = train(
            data,
            out,
            objective.value,
            settings,
            device=device,
            precision=precision.value,
            threads=threads,
            resume=resume,
            watch=_watch(bar),
        )
    best = min(history, key=lambda h: h["valid"]["loss"])
    say(
        f"{out}: epoch {best['epoch']} of {len(history)}, mean recall@1 "
        f"{best['valid']['mean_recall_at_1']:.3f} on the validation subjects"
    )


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


def _watch(bar: Progress) -> Watch:
    """Move the bar, and print one line an epoch."""
    from sleepfm.training.pretrain import Watch

    task = bar.task_ids[0]

    def prepared(clips: Prepared, splits: Splits) -> None:
        for name, reason in clips.left_out:
            say(f"left out: {name}: {reason}", "yellow")
        sizes = ", ".join(f"{len(splits.subjects(s))} {s}" for s in _split_names())
        say(f"{len(clips.recordings)} recordings; subjects: {sizes}")

    def step(epoch: int, done: int, total: int, loss: float) -> None:
        bar.update(task, description=f"epoch {epoch}  loss {loss:.3f}", completed=done, total=total)

    def epoch(metrics: dict[str, Any]) -> None:
        valid = metrics["valid"]
        top1 = sum(metrics["top1_in_batch"].values()) / len(metrics["top1_in_batch"])
        size = max(g["gallery"] for g in valid["gallery"].values())
        messages.print(
            f"epoch {metrics['epoch']}: loss {metrics['loss']:.3f} (valid {valid['loss']:.3f}), "
            f"top-1 in batch {top1:.3f}, recall@1 {valid['mean_recall_at_1']:.3f} of {size:,} "
            f"clips, temperature {metrics['temperature']:.2f}, "
            f"{metrics['clips_per_s']:.0f} clips/s"
        )

    return Watch(
        preparing=lambda done, total: bar.update(task, completed=done, total=total),
        prepared=prepared,
        training=step,
        epoch=epoch,
    )


def _split_names() -> tuple[Split, ...]:
    from sleepfm.training.splits import SPLITS

    return SPLITS
