"""The command ``sleepfm-index`` and its verbs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from sleepfm.errors import SleepFMError
from sleepfm_cli.annotate import annotate
from sleepfm_cli.build import build
from sleepfm_cli.compact import compact
from sleepfm_cli.delete import delete
from sleepfm_cli.demo import demo
from sleepfm_cli.evaluate import evaluate
from sleepfm_cli.explore import explore
from sleepfm_cli.export import export
from sleepfm_cli.groups import Grouped
from sleepfm_cli.import_vectors import import_
from sleepfm_cli.info import info
from sleepfm_cli.knn import knn
from sleepfm_cli.move_recordings import move_recordings
from sleepfm_cli.plan import plan
from sleepfm_cli.predict import predict
from sleepfm_cli.pretrain import pretrain
from sleepfm_cli.probe import probe
from sleepfm_cli.publish import publish
from sleepfm_cli.query import query
from sleepfm_cli.reindex import reindex
from sleepfm_cli.renamed import present_names
from sleepfm_cli.render import say
from sleepfm_cli.report import report
from sleepfm_cli.review import review
from sleepfm_cli.scan import scan
from sleepfm_cli.simulate import simulate
from sleepfm_cli.snapshots import restore, snapshots
from sleepfm_cli.sql import sql
from sleepfm_cli.supervise import supervise
from sleepfm_cli.survival import survival
from sleepfm_cli.threads import announce
from sleepfm_cli.verify import verify
from sleepfm_cli.weights import weights

app = typer.Typer(
    name="sleepfm-index",
    cls=Grouped,
    help="An embedding store for polysomnography, with search across modalities.",
    epilog="Every verb has --help. To try the tool, run: sleepfm-index demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

VERBS: Final[dict[str, tuple[Callable[..., Any], ...]]] = {
    "Build": (demo, scan, build, annotate, import_, simulate),
    "Search and export": (query, sql, explore, info, export, publish),
    "Evaluate": (evaluate, probe, knn, supervise, survival, predict, report, review),
    "Maintain": (
        verify,
        delete,
        compact,
        snapshots,
        restore,
        plan,
        reindex,
        move_recordings,
    ),
    "Train": (pretrain,),
}
"""Headings of ``--help`` with their verbs."""
for heading, verbs in VERBS.items():
    for verb in verbs:
        name = verb.__name__.rstrip("_").replace("_", "-")
        app.command(name, rich_help_panel=heading)(verb)
app.add_typer(weights, name="weights", rich_help_panel="Train")


def _version(value: bool) -> None:
    if value:
        from sleepfm import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(min=1, envvar="SLEEPFM_THREADS", help="CPU threads; default: all cores."),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", help="Folder of the store; may also follow the verb."),
    ] = None,
) -> None:
    """Embed polysomnography and search it across modalities."""
    if threads is not None:
        # This must happen before numpy, torch, FAISS and DuckDB are loaded.
        announce(threads)


def main() -> None:
    """Run the command; exit with 0, 1 (failure) or 2 (usage) and a one-line error on stderr."""
    try:
        # A comment at the start of a statement is no option.
        words = [f" {word}" if re.match(r"--\s", word) else word for word in sys.argv[1:]]
        app(args=present_names(words))
    except SleepFMError as error:
        from sleepfm_index.errors import QueryError

        say(f"error: {error}", "bold red")
        sys.exit(2 if isinstance(error, QueryError) else 1)
    except KeyboardInterrupt:
        say("stopped; committed work is kept; run the same command to resume")
        sys.exit(130)
    except BrokenPipeError:
        # The program that reads the output (head, less) has ended, which is not a failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        say(f"error: {error.strerror or error}: {error.filename or ''}".rstrip(": "), "bold red")
        sys.exit(1)
    except MemoryError:
        say("error: there is not enough memory for this", "bold red")
        sys.exit(1)
    except Exception as error:
        if os.environ.get("SLEEPFM_TRACEBACK"):
            raise
        say(
            f"error: unexpected {type(error).__name__}: {error}; if `sleepfm-index verify` finds "
            "the store sound, report this with what SLEEPFM_TRACEBACK=1 prints",
            "bold red",
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
