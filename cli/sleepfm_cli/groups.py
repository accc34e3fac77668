"""Grouping of commands in the help, ``--store`` before a command, and plain errors of options."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_SUMMARY = 1000
"""Length at which summaries would be truncated; in a narrow terminal they are wrapped."""

_SENTENCES: Final = {
    "int_parsing": "must be a whole number, got {input!r}",
    "int_from_float": "must be a whole number, got {input!r}",
    "float_parsing": "must be a number, got {input!r}",
    "finite_number": "must be a finite number, got {input!r}",
    "greater_than_equal": "must be at least {ge}, got {input}",
    "greater_than": "must be above {gt}, got {input}",
    "less_than_equal": "must be at most {le}, got {input}",
    "less_than": "must be below {lt}, got {input}",
}
"""Errors of the values of options, by the type of error of pydantic."""


class Grouped(TyperGroup):
    """A command group whose help lists its commands under headings.

    The heading of a command is its ``rich_help_panel``. A ``--store`` before the command is passed
    on to it; one after the command takes precedence.
    """

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Parse the options before the command; errors are in plain words."""
        with _plain_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        """Parse the options of the command and run it; errors are in plain words."""
        with _plain_errors():
            return super().invoke(ctx)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, one section per heading."""
        width = max(map(len, self.commands))
        for heading, names in self.headings():
            with formatter.section(heading):
                formatter.write_dl(
                    [
                        (name.ljust(width), self.commands[name].get_short_help_str(_MAX_SUMMARY))
                        for name in names
                    ]
                )

    def headings(self) -> Iterator[tuple[str, list[str]]]:
        """Yield headings with the names of their commands, in the order of definition."""
        by_heading: dict[str, list[str]] = {}
        for name, command in self.commands.items():
            if not command.hidden:
                heading = getattr(command, "rich_help_panel", None) or "Commands"
                by_heading.setdefault(str(heading), []).append(name)
        yield from by_heading.items()

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command, and move a ``--store`` before it to its own arguments."""
        name, command, remaining = super().resolve_command(ctx, args)
        store = ctx.params.get("store")
        if store is None or command is None:
            return name, command, remaining
        if not any("--store" in parameter.opts for parameter in command.params):
            ctx.fail(f"{name} works on no store; leave out --store")
        return name, command, ["--store", str(store), *remaining]


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Reword errors of options that typer takes from pydantic."""
    try:
        yield
    except typer.BadParameter as error:
        details: list[dict[str, Any]] = getattr(error.__cause__, "errors", list)()
        if len(details) == 1:
            detail = details[0]
            sentence = _SENTENCES.get(detail["type"])
            if sentence is not None:
                error.message = sentence.format(input=detail["input"], **detail.get("ctx", {}))
        error.message = error.message.removeprefix("Value error, ")
        raise
