"""Learning curves are drawn from the log."""

import json
from pathlib import Path

import pytest

from sleepfm.errors import TrainingError
from sleepfm.training import curves

HISTORY = [
    {"epoch": e, "loss": 3 / e, "valid": {"loss": 4 / e, "mean_recall_at_1": e / 10}}
    for e in (1, 2, 3)
]


def _log(path: Path) -> Path:
    path.write_text("".join(json.dumps(h) + "\n" for h in HISTORY))
    return path


def test_curves_lie_beside_the_log(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    curves.main([str(_log(tmp_path / "v1.2.log.jsonl"))])
    content = (tmp_path / "v1.2.curves.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    undefined = [{"epoch": 1, "loss": 1.0, "valid": {"loss": 1.0, "accuracy": 0.5, "auroc": None}}]
    assert curves.draw(undefined, tmp_path / "x.png").stat().st_size > 1000


def test_without_matplotlib_a_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "can_draw", lambda: False)
    with pytest.raises(TrainingError, match=r"matplotlib.*pip install 'sleepfm-index\[eval\]'"):
        curves.draw(HISTORY, tmp_path / "x.png")
    with pytest.raises(SystemExit, match="not installed"):
        curves.main([str(_log(tmp_path / "w.log.jsonl"))])


@pytest.mark.parametrize("text", ["", "{}\n", "no log", '{"epoch": 1}\n'])
def test_what_is_no_log_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "w.log.jsonl").write_text(text)
    with pytest.raises(TrainingError, match=r"w\.log\.jsonl is not the log"):
        curves.read_log(tmp_path / "w.log.jsonl")
