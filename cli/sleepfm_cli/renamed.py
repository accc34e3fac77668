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
"""Per verb: earlier name -> name."""
VALUES: Final = {"--kind": {"classes": "classification", "number": "regression"}}
"""Per earlier name: earlier value -> value."""


def present_names(words: list[str]) -> list[str]:
    """Replace earlier names of options, with a message for each.

    Parameters
    ----------
    words : list of str
        The command line, without the name of the command.

    Returns
    -------
    list of str
        The command line that the verbs understand.
    """
    verb = next((word for word in words if word in RENAMED), None)
    if verb is None:
        return words
    found, before = [], ""
    for word in words:
        found.append(VALUES.get(before, {}).get(word) or _present(word, RENAMED[verb]))
        before = word
    return found


def _present(word: str, renamed: dict[str, str]) -> str:
    name, equals, value = word.partition("=")
    if name not in renamed:
        return word
    say(f"{name} is renamed to {renamed[name]}; the earlier name is removed in the next release")
    return f"{renamed[name]}{equals}{VALUES.get(name, {}).get(value, value)}"
