"""The verbs in groups, and ``--store`` before a verb."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Iterator

_WHOLE = 1000
"""Summaries are wrapped, not cut, where the terminal is narrow."""


class Grouped(TyperGroup):
    """A command whose help lists its verbs under headings.

    The heading of a verb is its ``rich_help_panel``. A ``--store`` before the verb is handed to it
    as its own; one that stands behind the verb too counts.
    """

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the verbs, one section for each heading."""
        width = max(map(len, self.commands))
        for heading, names in self.headings():
            with formatter.section(heading):
                formatter.write_dl(
                    [
                        (name.ljust(width), self.commands[name].get_short_help_str(_WHOLE))
                        for name in names
                    ]
                )

    def headings(self) -> Iterator[tuple[str, list[str]]]:
        """Headings with the names of their verbs, in the order in which they were added."""
        found: dict[str, list[str]] = {}
        for name, command in self.commands.items():
            if not command.hidden:
                heading = getattr(command, "rich_help_panel", None) or "Commands"
                found.setdefault(str(heading), []).append(name)
        yield from found.items()

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the verb, and put a ``--store`` that stands before it behind it."""
        word = str(args[0])
        if self.get_command(ctx, word) is None:
            alike = difflib.get_close_matches(word, self.list_commands(ctx))
            meant = f"; did you mean {' or '.join(alike)}?" if alike else ""
            ctx.fail(f"no such command {word!r}{meant}")
        name, command, rest = super().resolve_command(ctx, args)
        store = ctx.params.get("store")
        if store is None or command is None:
            return name, command, rest
        if not any("--store" in parameter.opts for parameter in command.params):
            ctx.fail(f"{name} works on no store; leave out --store")
        return name, command, ["--store", str(store), *rest]
