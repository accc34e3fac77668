"""Options that several verbs share."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Final

import typer

StoreOption = Annotated[
    Path, typer.Option("--store", envvar="SLEEPFM_STORE", help="Folder of the store.")
]
DEFAULT_STORE: Final = Path("sleepfm-store")
DEFAULT_WEIGHTS: Final = "demo"


class Format(enum.StrEnum):
    """How an answer is written to stdout."""

    table = "table"
    json = "json"
    csv = "csv"
    parquet = "parquet"


FormatOption = Annotated[Format, typer.Option("--format", help="How to write the answer.")]
WhereOption = Annotated[
    str | None,
    typer.Option("--where", help="SQL condition over the clips, e.g. \"stage = 'N3'\"."),
]


IndexOption = Annotated[
    str | None,
    typer.Option("--index", help="A kind of index for every target: exact, IVF4096,TC96x4fs ..."),
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


class Modality(enum.StrEnum):
    """What one can search with."""

    bas = "bas"
    ecg = "ecg"
    resp = "resp"


class Target(enum.StrEnum):
    """What one can search in."""

    bas = "bas"
    ecg = "ecg"
    resp = "resp"
    others = "others"


class Exclusion(enum.StrEnum):
    """Whose clips are left out of an answer."""

    subject = "subject"
    recording = "recording"
    none = "none"


class BuildEngine(enum.StrEnum):
    """Who works on recordings."""

    local = "local"
    dask = "dask"


BuildEngineOption = Annotated[
    BuildEngine, typer.Option("--engine", help="Who works: this machine, or a Dask cluster.")
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler", help="For dask: e.g. tcp://host:8786; default processes of this machine."
    ),
]


class Engine(enum.StrEnum):
    """Who answers."""

    local = "local"
    milvus = "milvus"


class Ids(enum.StrEnum):
    """How recordings are named in the store."""

    stem = "stem"
    folder = "folder"
    hash = "hash"


class Backend(enum.StrEnum):
    """What runs the encoders."""

    auto = "auto"
    torch = "torch"
    openvino = "openvino"


class Coding(enum.StrEnum):
    """What integer sleep stages mean."""

    yasa = "yasa"
    profusion = "profusion"
    rk = "rk"
    ucddb = "ucddb"
    dreams = "dreams"
    bdsp = "bdsp"


CodingOption = Annotated[
    Coding | None,
    typer.Option(
        "--coding", help="What integers mean in hypnograms that are nothing but integers."
    ),
]


class Grid(enum.StrEnum):
    """Where clips begin."""

    scoring = "scoring"
    recording = "recording"


SubstituteOption = Annotated[
    bool | None,
    typer.Option(
        "--substitute/--no-substitute", help="Fill slots from other derivations or sensors."
    ),
]
ChannelsOption = Annotated[
    str | None,
    typer.Option(
        "--channels", help="Channel names of your cohort, a line 'slot: label' each; or none."
    ),
]
EpochSecondsOption = Annotated[
    float | None,
    typer.Option(
        "--epoch-seconds",
        min=0.5,
        max=120,
        help="Seconds of an epoch, if the scoring does not say.",
    ),
]
GridOption = Annotated[
    Grid | None,
    typer.Option(
        "--grid",
        help="Clips begin with the scorer's epochs where all share one offset, or with the "
        "recording.",
    ),
]


class Among(enum.StrEnum):
    """Which clips a query is ranked against."""

    all = "all"
    cross = "cross-recording"
    within = "within-recording"


class Kind(enum.StrEnum):
    """Whether a label is a name or a quantity."""

    auto = "auto"
    classes = "classes"
    number = "number"


SeedOption = Annotated[int, typer.Option(min=0, help="Seed of every draw.")]
ReplicatesOption = Annotated[
    int, typer.Option(min=0, help="Resamples of the subjects behind the 95 % intervals.")
]
PlotOption = Annotated[
    Path | None, typer.Option("--plot", help="Also draw a figure: out.png or out.svg.")
]
LabelOption = Annotated[
    str, typer.Option("--label", help="stage, sdb, age, sex, bmi, or any column of clips.")
]
KindOption = Annotated[
    Kind, typer.Option(help="Names or quantities; e.g. --label age --kind number.")
]
ClassesOption = Annotated[
    str | None, typer.Option("--classes", help="Only these classes, e.g. W,N3.")
]
TrainWhereOption = Annotated[
    str | None, typer.Option(help="SQL condition for the clips to learn from.")
]
TestWhereOption = Annotated[str | None, typer.Option(help="SQL condition for the clips to test.")]
TestStoreOption = Annotated[
    Path | None, typer.Option(help="Test on another store of the same weights.")
]


def listed(text: str | None) -> list[str] | None:
    """Split ``a,b,c``; None stays None."""
    return [part.strip() for part in text.split(",") if part.strip()] if text else None
