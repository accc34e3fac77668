"""Options shared by several commands."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sleepfm.choices import Coding, Grid
from sleepfm_index.choices import BuildEngine, SdbRule, StoreMode, Task

if TYPE_CHECKING:
    from sleepfm.contract import Contract

StoreOption = Annotated[
    Path, typer.Option("--store", envvar="SLEEPFM_STORE", help="Folder of the store.")
]
DEFAULT_STORE: Final = Path("sleepfm-store")
DEFAULT_WEIGHTS: Final = "demo"


class Format(enum.StrEnum):
    """Output format on stdout."""

    table = "table"
    json = "json"
    csv = "csv"
    parquet = "parquet"


FormatOption = Annotated[Format, typer.Option("--format", help="Output format.")]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Write the answer to a file: .csv, .json or .parquet."),
]


def condition(text: str | None) -> str | None:
    """Return an SQL condition, read from a file if given as ``@file``."""
    if text is None or not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8-sig").strip().removesuffix(";")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise typer.BadParameter(f"cannot read the condition in {text[1:]}: {reason}") from error


WhereOption = Annotated[
    str | None,
    typer.Option(
        "--where",
        callback=condition,
        help="SQL condition over the clips, e.g. \"stage = 'N3'\"; or @FILE with one.",
    ),
]


IndexOption = Annotated[
    str | None,
    typer.Option(
        "--index", help="Kind of index for every target: exact, IVF4096,TC96x4fs, HNSW32 ..."
    ),
]
UriOption = Annotated[
    str,
    typer.Option(
        "--uri",
        envvar="SLEEPFM_MILVUS_URI",
        help="http://host:19530, or a file ending in .db for milvus-lite.",
    ),
]
CollectionOption = Annotated[str, typer.Option(help="Name of the collection.")]


BuildEngineOption = Annotated[
    BuildEngine, typer.Option("--engine", help="Where to run: this machine, or a Dask cluster.")
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler", help="For dask, e.g. tcp://host:8786; default: processes on this machine."
    ),
]


CodingOption = Annotated[
    Coding | None,
    typer.Option("--coding", help="Stage coding of integer hypnograms."),
]


ModeOption = Annotated[
    StoreMode | None,
    typer.Option(
        "--mode", help="Who may read the store: its owner (default), or the group as well."
    ),
]
AllowIdentifyingOption = Annotated[
    bool,
    typer.Option(
        "--allow-identifying", help="Accept columns that look like names, dates or addresses."
    ),
]
SubstituteOption = Annotated[
    bool | None,
    typer.Option(
        "--substitute/--no-substitute", help="Fill slots from other derivations or sensors."
    ),
]
ChannelsOption = Annotated[
    str | None,
    typer.Option(
        "--channels", help="File that maps slots to channels, one 'slot: label' per line; or none."
    ),
]
EpochSecondsOption = Annotated[
    float | None,
    typer.Option(
        "--epoch-seconds",
        min=0.5,
        max=120,
        help="Epoch length, if the scoring does not specify it.",
    ),
]
GridOption = Annotated[
    Grid | None,
    typer.Option(
        "--grid",
        help="Start clips on the scorer's epochs if they share one offset, or at the start of the "
        "recording.",
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Random seed.")]
ReplicatesOption = Annotated[int | None, typer.Option("--replicates", min=0, hidden=True)]
"""No effect, because intervals are not resampled; accepted for one release."""
WideOption = Annotated[bool, typer.Option("--wide", help="Show all columns of the table.")]
PlotOption = Annotated[
    Path | None, typer.Option("--plot", help="Also draw a figure: out.png or out.svg.")
]
DpiOption = Annotated[
    int, typer.Option("--dpi", min=30, max=1200, help="For --plot: dots per inch of a PNG.")
]
StyleOption = Annotated[
    str | None,
    typer.Option("--style", help="For --plot: a matplotlib style, or an .mplstyle file."),
]
LabelOption = Annotated[
    str, typer.Option("--label", help="stage, sdb, age, sex, bmi, or any column of clips.")
]
TaskOption = Annotated[
    Task, typer.Option(help="Classification or regression, e.g. --label age --task regression.")
]
ClassesOption = Annotated[
    str | None, typer.Option("--classes", help="Only these classes, e.g. W,N3.")
]
TrainWhereOption = Annotated[str | None, typer.Option(help="SQL condition for the training clips.")]
AgainstOption = Annotated[
    Path | None,
    typer.Option(help="Another store of the same recordings; report paired differences."),
]
TestWhereOption = Annotated[str | None, typer.Option(help="SQL condition for the test clips.")]
TestStoreOption = Annotated[
    Path | None, typer.Option(help="Test on another store with the same weights.")
]


IncludeSeenOption = Annotated[
    bool,
    typer.Option(
        "--include-seen",
        help="Include people of the weights' training set, who are excluded by default.",
    ),
]


SdbRuleOption = Annotated[
    SdbRule | None,
    typer.Option(
        "--sdb-rule",
        help="For --label sdb. clip: at least 10 s of apnea or hypopnea in the clip. event: the "
        "clip contains the middle of an event of at least 10 s, even if it crosses a boundary.",
    ),
]


def by_sdb_rule(label: str, rule: SdbRule | None) -> str:
    """Return the label for a rule of sleep-disordered breathing.

    Parameters
    ----------
    label : str
        Value of ``--label``.
    rule : {"clip", "event"}, optional
        Value of ``--sdb-rule``.

    Returns
    -------
    str
        Name of the label.

    Raises
    ------
    typer.BadParameter
        If a rule is given for another label.
    """
    if rule is None:
        return label
    if label != "sdb":
        raise typer.BadParameter(f"--sdb-rule goes with --label sdb, not {label}")
    return "sdb_event" if rule == "event" else label


def listed(text: str | None) -> list[str] | None:
    """Split ``a,b,c``; None stays None."""
    return [part.strip() for part in text.split(",") if part.strip()] if text else None


def contract_of(name_or_path: str) -> Contract:
    """Load the contract named by an option; an error is a usage error.

    Parameters
    ----------
    name_or_path : str
        Name or path, as for :func:`sleepfm.contract.load_contract`.

    Returns
    -------
    Contract
        The contract.
    """
    from sleepfm.contract import load_contract
    from sleepfm.errors import WeightsError

    try:
        return load_contract(name_or_path)
    except WeightsError as error:
        raise typer.BadParameter(str(error)) from error
