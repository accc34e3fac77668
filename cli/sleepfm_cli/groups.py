"""Grouping of commands in the help, and ``--store`` before a command."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_SUMMARY = 1000
"""Length at which summaries would be truncated; in a narrow terminal they are wrapped."""


class Grouped(TyperGroup):
    """A command group whose help lists its commands under headings.

    The heading of a command is its ``rich_help_panel``. A ``--store`` before the command is passed
    on to it; one after the command takes precedence.
    """

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
        word = str(args[0])
        if self.get_command(ctx, word) is None:
            similar = difflib.get_close_matches(word, self.list_commands(ctx))
            suggestion = f"; did you mean {' or '.join(similar)}?" if similar else ""
            ctx.fail(f"no such command {word!r}{suggestion}")
        name, command, remaining = super().resolve_command(ctx, args)
        store = ctx.params.get("store")
        if store is None or command is None:
            return name, command, remaining
        if not any("--store" in parameter.opts for parameter in command.params):
            ctx.fail(f"{name} works on no store; leave out --store")
        return name, command, ["--store", str(store), *remaining]
