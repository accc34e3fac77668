"""Hidden aliases of renamed options, accepted in this release."""

from __future__ import annotations

from typing import Final

from sleepfm_cli.render import say

RENAMED: Final[dict[str, dict[str, str]]] = {
    "evaluate": {"--among": "--gallery-scope"},
    "probe": {"--kind": "--task", "--beside": "--compare-with"},
    "knn": {"--kind": "--task", "--equal": "--unweighted"},
    "query": {"--spread": "--min-gap"},
    "supervise": {"--kind": "--task"},
}
"""Earlier and current names of options, by command."""
VALUES: Final = {"--kind": {"classes": "classification", "number": "regression"}}
"""Earlier and current values, by earlier name of the option."""


def present_names(words: list[str]) -> list[str]:
    """Replace earlier names of options, with a message for each.

    Parameters
    ----------
    words : list of str
        Command-line arguments.

    Returns
    -------
    list of str
        Arguments with current names and values.
    """
    verb = next((word for word in words if word in RENAMED), None)
    if verb is None:
        return words
    replaced, previous = [], ""
    for word in words:
        replaced.append(VALUES.get(previous, {}).get(word) or _present(word, RENAMED[verb]))
        previous = word
    return replaced


def _present(word: str, renamed: dict[str, str]) -> str:
    name, equals, value = word.partition("=")
    if name not in renamed:
        return word
    say(f"{name} is renamed to {renamed[name]}; the earlier name is removed in the next release")
    return f"{renamed[name]}{equals}{VALUES.get(name, {}).get(value, value)}"
