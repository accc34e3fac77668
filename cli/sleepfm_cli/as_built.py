"""``--store`` of verbs that read recordings as the last build of a store did."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sleepfm_cli.options import DEFAULT_STORE
from sleepfm_cli.render import say

if TYPE_CHECKING:
    from sleepfm.cohort_choices import Choices

AsBuiltOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Read recordings with the options of this store's last build; default: SLEEPFM_STORE, "
        f"else {DEFAULT_STORE} if it exists; `none`: use no store.",
    ),
]


def choices_of(store: Path | None) -> Choices:
    """Return the options with which a store was last built, and print them.

    Parameters
    ----------
    store : Path or None
        Folder of an existing store; ``none`` for no store. None stands for the store of the
        environment variable or the default store, which may be missing.

    Returns
    -------
    Choices
        Options of the last build; defaults without a store.
    """
    from sleepfm.cohort_choices import NO_CHOICES

    if store is None:
        store = Path(os.environ.get("SLEEPFM_STORE") or DEFAULT_STORE)
        if not (store / "manifest.json").exists():
            return NO_CHOICES
    if str(store) == "none":
        return NO_CHOICES
    import sleepfm_index

    with sleepfm_index.open(store) as opened:
        choices = opened.manifest.choices
    if choices != NO_CHOICES:
        say(f"recordings are read as the last build of {store} did: {_described(choices)}")
    return choices


def _described(choices: Choices) -> str:
    parts = []
    if choices.channels is not None:
        parts.append("its --channels")
    if choices.substitute:
        parts.append("--substitute")
    if choices.coding is not None:
        parts.append(f"--coding {choices.coding}")
    if choices.epoch_s is not None:
        parts.append(f"--epoch-seconds {choices.epoch_s:g}")
    if choices.grid != "scoring":
        parts.append(f"--grid {choices.grid}")
    return ", ".join(parts)
