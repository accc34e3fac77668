"""Options under their earlier names: still understood in this release, shown by no ``--help``."""

from __future__ import annotations

from typing import Final

import click
from typer.core import TyperCommand

from sleepfm_cli.render import say

RENAMED: Final = {
    ("query", "--spread"): "--min-gap",
    ("evaluate", "--among"): "--gallery-scope",
    ("knn", "--equal"): "--unweighted",
    ("probe", "--beside"): "--compare-with",
    ("probe", "--kind"): "--task",
    ("knn", "--kind"): "--task",
    ("supervise", "--kind"): "--task",
}
"""(verb, earlier name) -> name."""


class Verb(TyperCommand):
    """A verb that understands the earlier names of its options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Replace earlier names before they are parsed, and tell the user of it."""
        return super().parse_args(ctx, [self._renamed(word) for word in args])

    def _renamed(self, word: str) -> str:
        name, equals, value = word.partition("=")
        later = RENAMED.get((str(self.name), name))
        if later is None:
            return word
        say(f"{name} is called {later}; the earlier name will go with the next release")
        return f"{later}{equals}{value}"
