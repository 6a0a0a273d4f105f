"""What chat makes of a line, without any model."""

import io
from pathlib import Path
from typing import Any

import pytest

from ilm_lightning import chat
from ilm_lightning.data.tables import ItemCatalog
from ilm_lightning.engine.config import Config
from ilm_lightning.engine.loaded import LoadedRun

CATALOG = ItemCatalog.from_rows(
    [
        {"item_id": "1", "title": "[REC]", "year": 2007, "genres": ["Horror"], "n_ratings": 5},
        {"item_id": "2", "title": "Heat", "year": 1995, "genres": ["Crime"], "n_ratings": 9},
    ]
)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> chat.Chat:
    run = LoadedRun(Path("run"), Config(), CATALOG, ["train", "test"])
    made = chat.Chat(run, None)
    monkeypatch.setattr(chat, "open_chat", lambda *_: made)
    monkeypatch.setattr(chat.Chat, "answer", lambda self, question: f"asked {self.prompt(question)[0]}")
    return made


@pytest.mark.parametrize(
    ("question", "prompt", "slots"),
    [
        ("Pitch [[REC] (2007)].", "Pitch {item}.", [[0]]),
        ("Pitch [REC].", "Pitch {item}.", [[0]]),
        ("Is [Heat (1995)] like [[REC] (2007)]?", "Is {item} like {item}?", [[1], [0]]),
        ("Pitch [[Heat]].", "Pitch {item}.", [[1]]),
    ],
)
def test_a_title_may_hold_brackets(opened: chat.Chat, question: str, prompt: str, slots: list[list[int]]) -> None:
    assert opened.prompt(question) == (prompt, [[row] for [row] in slots])


def test_a_pipe_of_any_bytes_is_answered_line_by_line(
    opened: chat.Chat, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = "Pitch [Amélie].\n".encode("latin-1") + b"Pitch [Heat].\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines), encoding="utf-8"))
    assert chat.main([]) == 0
    out = capsys.readouterr().out
    assert "error: no item is called" in out
    assert "[Heat (1995)], held out of training\nasked Pitch {item}." in out


def test_ctrl_c_during_an_answer_ends_the_chat(opened: chat.Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(chat.Chat, "answer", stopped)
    monkeypatch.setattr("sys.stdin", io.StringIO("Pitch [Heat].\n"))
    assert chat.main([]) == 0
