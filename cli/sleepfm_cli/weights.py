"""``sleepfm-index weights``: the available weights and their origin."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sleepfm_cli.as_built import AsBuiltOption, choices_of
from sleepfm_cli.groups import Grouped
from sleepfm_cli.options import (
    ChannelsOption,
    CodingOption,
    EpochSecondsOption,
    Format,
    FormatOption,
    GridOption,
    SubstituteOption,
)
from sleepfm_cli.outputs import expect_output
from sleepfm_cli.render import progress, say, show_json, show_table

if TYPE_CHECKING:
    from sleepfm.encoders.external import ExternalWeights
    from sleepfm.encoders.weights import WeightsInfo

weights = typer.Typer(
    cls=Grouped,
    help="List, show, fetch, convert and import weights; describe their training set.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

NameOrPath = Annotated[str, typer.Argument(help="Name or file of the weights.")]


@weights.command("list")
def list_weights(format: FormatOption = Format.table) -> None:  # noqa: A002
    """List the weights on this machine and those that can be fetched."""
    from sleepfm.encoders import cache
    from sleepfm.encoders.external import external_names
    from sleepfm.encoders.fetch import PUBLISHED

    known = cache.available()
    rows = [("untrained", "built in", "seeded random initialisation, for trials")]
    for name, path in known.items():
        where = "shipped" if path.parent == cache.SHIPPED else "in the cache"
        rows.append((name, where, _origin(path)))
    rows += [(n, "another package", _registered(n)) for n in external_names() if n not in known]
    for name, source in PUBLISHED.items():
        if name not in known:
            rows.append((name, "to fetch", f"{source.page} ({source.licence})"))
    if format is Format.json:
        show_json([dict(zip(("name", "where", "what"), row, strict=True)) for row in rows])
    else:
        show_table(rows, ("name", "where", "what"))


@weights.command()
def show(name: NameOrPath, format: FormatOption = Format.table) -> None:  # noqa: A002
    """Show the identity, contract and training record of weights."""
    from sleepfm.encoders.external import external_names, find_external
    from sleepfm.encoders.seen import Seen

    if name in external_names() and not _is_known(name):
        _show_external(find_external(name), format)
        return
    info = _info(name)
    facts = {
        "name": info.name,
        "trained": info.trained,
        "sha256": info.sha256,
        "modalities": [str(m) for m in info.modalities],
        "temperature": info.temperature,
        "contract": info.contract.to_json(),
        "record": info.record,
        "training_distribution": info.distribution,
    }
    if format is Format.json:
        show_json(facts)
        return
    rows = [(k, v) for k, v in facts.items() if not isinstance(v, dict)]
    rows += [(f"contract {k}", v) for k, v in info.contract.to_json().items()]
    rows += [(f"record {k}", v) for k, v in info.record.items() if k not in ("metrics", "people")]
    seen = Seen.of_record(info.record)
    if seen is not None:
        counts = ", ".join(
            f"{len(hashes)} {split}" for split, hashes in sorted(seen.splits.items())
        )
        rows.append(("people seen, as keyed hashes", counts))
    rows.append(("training distribution", _described(info.distribution)))
    knows = info.record
    for part in ("metrics", "valid", "knows"):
        knows = _mapping(knows.get(part))
    for part, measures in knows.items():
        rows += [(f"{part}: {k.replace('_', ' ')}", v) for k, v in _mapping(measures).items()]
    show_table(rows, ("", ""))


@weights.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Name of published weights.")] = "sleepfm-icml2024",
) -> None:
    """Download published weights into the cache and verify their hash."""
    from sleepfm.encoders.fetch import fetch as download
    from sleepfm.encoders.load import load_weights

    path = download(name)
    loaded = load_weights(path)
    say(f"{name} is in the cache (identity {loaded.sha256[:12]}); use it with --weights {name}")


@weights.command()
def convert(
    source: NameOrPath,
    out: Annotated[Path, typer.Argument(help="The safetensors file to write.")],
    half: Annotated[
        bool, typer.Option("--half", help="Store kernels in float16, which halves the file size.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Name in the file; default: unchanged.")] = None,
) -> None:
    """Convert weights or the authors' checkpoint to one safetensors file."""
    from sleepfm.encoders.load import load_weights

    expect_output(out.parent, folder=True)
    if out.exists():
        expect_output(out)
    loaded = load_weights(source)
    if half:
        loaded = loaded.half()
    if name is not None:
        loaded = replace(loaded, name=name, sha256="")
    loaded.save(out)
    say(f"{out}: {loaded.name}, identity {loaded.sha256[:12]}")


@weights.command()
def reference(
    source: NameOrPath,
    paths: Annotated[
        list[Path],
        typer.Argument(help="Recordings, folders, globs or cohort lists, as trained on."),
    ],
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
    subjects: Annotated[
        Path | None,
        typer.Option(
            help="subjects.csv with recording_id and subject_id; default: one subject per file."
        ),
    ] = None,
    substitute: SubstituteOption = None,
    channels: ChannelsOption = None,
    coding: CodingOption = None,
    epoch_seconds: EpochSecondsOption = None,
    grid: GridOption = None,
    store: AsBuiltOption = None,
    name: Annotated[str | None, typer.Option(help="Name in the file; default: unchanged.")] = None,
) -> None:
    """Describe the training set in weights, so that builds warn of recordings unlike it.

    Needs recordings of at least 24 people, from the training set or similar ones; of more than 400
    people, 400 are used. The encoders do not change, but the hash of the weights does, so do this
    before building a store with them. `pretrain` does it automatically.
    """
    from sleepfm.encoders.load import load_weights
    from sleepfm.training.distribution import with_distribution

    expect_output(out.parent, folder=True)
    if out.exists():
        expect_output(out)
    loaded = load_weights(source)
    if name is not None:
        loaded = replace(loaded, name=name)
    choices = choices_of(store).updated(
        loaded.contract,
        substitute=substitute,
        channels=channels,
        coding=coding,
        epoch_s=epoch_seconds,
        grid=grid,
    )
    with progress("measuring recordings") as bar:
        loaded, left_out = with_distribution(
            loaded,
            paths,
            subjects,
            choices=choices,
            progress=lambda done, total: bar.update(bar.task_ids[0], completed=done, total=total),
        )
    for file, reason in left_out:
        say(f"left out: {file}: {reason}", "yellow")
    loaded.save(out)
    counts = _described(loaded.info.distribution)
    say(f"{out}: {loaded.name}, identity {loaded.sha256[:12]}; training distribution: {counts}")


@weights.command("import")
def import_file(
    source: Annotated[Path, typer.Argument(help="A safetensors file or the authors' checkpoint.")],
    name: Annotated[
        str | None, typer.Option(help="Name in the cache; default: the name in the file.")
    ] = None,
) -> None:
    """Copy weights into the cache, so that they can be used by name."""
    from sleepfm.encoders.fetch import import_weights

    loaded = import_weights(source, name)
    say(f"use them with --weights {name or loaded.name}")


def _mapping(part: Any) -> dict[str, Any]:
    # The record is what training wrote, and other programs may write other things.
    return part if isinstance(part, dict) else {}


def _described(counts: dict[str, int]) -> str:
    if not counts:
        return "none: builds cannot tell recordings that are unlike it"
    return (
        f"{counts['people']:,} people, and {counts['calibrating']:,} others for the limit, "
        f"{counts['clips']:,} clips"
    )


def _is_known(name: str) -> bool:
    from sleepfm.encoders import cache

    return Path(name).is_file() or name in cache.available()


def _registered(name: str) -> str:
    from sleepfm.encoders.external import describe
    from sleepfm.errors import WeightsError

    try:
        return describe(name)
    except WeightsError as error:
        return f"unusable: {error}"


def _show_external(external: ExternalWeights, form: Format) -> None:
    facts = {
        "name": external.name,
        "package": external.package,
        "sha256": external.sha256,
        "modalities": list(external.modalities),
        "dimensions": external.dimensions,
        "contract": external.contract.to_json(),
    }
    if form is Format.json:
        show_json(facts)
        return
    rows = [(k, v) for k, v in facts.items() if k != "contract"]
    rows += [(f"contract {k}", v) for k, v in external.contract.to_json().items()]
    show_table(rows, ("", ""))


def _info(name: str) -> WeightsInfo:
    from sleepfm.encoders import cache
    from sleepfm.encoders.load import load_weights
    from sleepfm.encoders.weights import read_info

    if not name.startswith("untrained"):
        path = cache.locate(name)
        if path.suffix == ".safetensors":
            return read_info(path)
    return load_weights(name).info


def _origin(path: Path) -> str:
    from sleepfm.errors import WeightsError

    if path.suffix != ".safetensors":
        return "checkpoint of the authors"
    try:
        record = _info(str(path)).record
    except WeightsError as error:
        return f"unusable: {error}"
    return str(record.get("data") or record.get("source") or "")
