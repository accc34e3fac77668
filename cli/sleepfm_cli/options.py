"""Options that several verbs share."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

StoreOption = Annotated[
    Path, typer.Option("--store", envvar="SLEEPFM_STORE", help="Folder of the store.")
]
DEFAULT_STORE = Path("sleepfm-store")


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


class Ids(enum.StrEnum):
    """How recordings are named in the store."""

    stem = "stem"
    hash = "hash"


class Coding(enum.StrEnum):
    """What integer sleep stages mean."""

    yasa = "yasa"
    profusion = "profusion"
    rk = "rk"
    ucddb = "ucddb"


CodingOption = Annotated[
    Coding | None,
    typer.Option(
        "--coding", help="What integers mean in hypnograms that are nothing but integers."
    ),
]
