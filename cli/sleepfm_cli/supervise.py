"""``sleepfm-index supervise``: supervised baseline on the split of the probe."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from sleepfm.atomic_write import check_writable
from sleepfm.choices import Precision, RecipeName
from sleepfm_cli.options import (
    DEFAULT_STORE,
    ChannelsOption,
    ClassesOption,
    IncludeSeenOption,
    LabelOption,
    SdbRuleOption,
    StoreOption,
    SubstituteOption,
    TaskOption,
    TestStoreOption,
    TestWhereOption,
    TrainWhereOption,
    WhereOption,
    by_sdb_rule,
    listed,
)
from sleepfm_cli.probe import show_few_shot, whole_numbers
from sleepfm_cli.render import progress, say


def supervise(
    label: LabelOption,
    out: Annotated[Path, typer.Option(help="Parquet file for the predictions.")],
    on: Annotated[
        str | None,
        typer.Option(help="Modalities whose channels are stacked, e.g. bas+ecg; default: all."),
    ] = None,
    sdb_rule: SdbRuleOption = None,
    where: WhereOption = None,
    task: TaskOption = "auto",
    classes: ClassesOption = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds of subjects, one network each.")] = 5,
    train_where: TrainWhereOption = None,
    test_where: TestWhereOption = None,
    test_store: TestStoreOption = None,
    shots: Annotated[
        str | None,
        typer.Option(
            help="Train on these numbers of subjects, e.g. 1,2,4,8; --out is the learning curve."
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="For --shots: draws of subjects.")] = 3,
    recipe: Annotated[
        RecipeName,
        typer.Option(help="short: AdamW, cosine, 4 epochs. authors: SGD, step decay, batch 32."),
    ] = "short",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Number of epochs; default: from the recipe.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=2, help="Clips per step; default: from the recipe.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Maximum learning rate; default: from the recipe.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of folds, weights and order.")] = 0,
    substitute: SubstituteOption = None,
    channels: ChannelsOption = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[
        Precision,
        typer.Option(help="Precision of matrix products; auto: depends on the device."),
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; default: all cores.")
    ] = None,
    include_seen: IncludeSeenOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Train a supervised CNN baseline on the probe's split.

    Then: sleepfm-index probe --label stage --compare-with cnn.parquet, with the same label,
    conditions, folds and seed. Repeat a stopped command to continue it.
    """
    import sleepfm_index
    from sleepfm.training.recipe import RECIPES
    from sleepfm_index.evaluation.labels.splits import Split
    from sleepfm_index.evaluation.models.few_shot_network import supervise_few_shot
    from sleepfm_index.evaluation.models.supervised_baseline import Training
    from sleepfm_index.evaluation.models.supervised_baseline import supervise as train

    label = by_sdb_rule(label, sdb_rule)
    given: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed}
    settings = replace(RECIPES[recipe], **{k: v for k, v in given.items() if v is not None})
    training = Training(settings, substitute, channels, device, precision, threads)
    check_writable(out)  # an existing file is continued
    with ExitStack() as stack:
        opened = stack.enter_context(sleepfm_index.open(store))
        tested = stack.enter_context(sleepfm_index.open(test_store)) if test_store else None
        bar = stack.enter_context(progress("supervised baseline"))
        options: dict[str, Any] = {
            "features": on,
            "seed": seed,
            "where": where,
            "task": task,
            "classes": listed(classes),
            "split": Split(folds, train_where, test_where, tested, include_seen),
            "progress": lambda done, total: bar.update(
                bar.task_ids[0], completed=done, total=total
            ),
            "notice": say,
        }
        if shots is not None:
            curve = supervise_few_shot(
                opened, label, whole_numbers(shots), out, training, repeats=repeats, **options
            )
        else:
            result = train(opened, label, out, training, **options)
    if shots is not None:
        say(curve.note)
        show_few_shot(curve)
        say(f"the curve is in {out}; compare: probe --shots {shots} --compare-with {out}")
        return
    say(result.note)
    say(f"{len(result):,} predictions in {out}; compare: sleepfm-index probe --compare-with {out}")
