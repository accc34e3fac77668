"""What `--help` shows: verbs under headings, nothing cut, nothing wider than the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stores import drawn_store
from typer.main import get_command
from typer.testing import CliRunner, Result

from sleepfm_cli.main import VERBS, app

COMMAND: Any = get_command(app)
NAMES = sorted(COMMAND.commands)


def helped(command: Any, width: int = 80) -> str:
    context = command.context_class(
        command, info_name=command.name, terminal_width=width, help_option_names=["-h", "--help"]
    )
    return str(command.get_help(context))


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_every_verb_stands_under_one_heading() -> None:
    text = helped(COMMAND)
    at = [text.index(f"\n{heading}:\n") for heading in VERBS]
    assert at == sorted(at)
    for name in NAMES:
        assert text.count(f"\n  {name} ") == 1, name
    assert "\nCommands:\n" not in text


@pytest.mark.parametrize("width", [80, 60])
@pytest.mark.parametrize("verb", ["", *NAMES])
def test_help_fits_the_terminal_and_is_not_cut(verb: str, width: int) -> None:
    command = COMMAND.commands[verb] if verb else COMMAND
    text = helped(command, width)
    # An option and its choices are one word that no terminal can break.
    wide = [line for line in text.splitlines() if len(line) > width and " <" not in line]
    assert not wide
    if verb in ("", "weights"):
        assert "..." not in text.partition("Options:")[2]


@pytest.mark.parametrize("verb", NAMES)
def test_every_option_says_what_it_does(verb: str) -> None:
    shown = [p for p in COMMAND.commands[verb].params if not getattr(p, "hidden", False)]
    assert not [p.name for p in shown if not getattr(p, "help", None)]


def test_a_mistyped_verb_or_option_is_answered_by_the_nearest() -> None:
    wrong = run("querry")
    assert wrong.exit_code == 2 and "Did you mean 'query'?" in wrong.output
    wrong = run("query", "--modalty", "ecg")
    assert wrong.exit_code == 2 and "--modality" in wrong.output


def test_the_store_may_be_named_before_the_verb_or_behind_it(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 4}, index=False)
    before = run("--store", str(path), "info", "--format", "json").stdout
    behind = run("info", "--format", "json", "--store", str(path)).stdout
    assert before == behind and '"clips": 4' in before
    both = run("--store", "elsewhere", "info", "--format", "json", "--store", str(path))
    assert both.stdout == behind


def test_a_verb_without_a_store_refuses_one() -> None:
    done = run("--store", "s", "simulate", "nights")
    assert done.exit_code == 2 and "simulate works on no store" in done.output


def test_completion_can_be_installed() -> None:
    text = helped(COMMAND)
    assert "--install-completion" in text and "--show-completion" in text
