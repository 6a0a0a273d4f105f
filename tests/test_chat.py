"""What chat makes of a line, without any model."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from ilm_lightning import chat
from ilm_lightning.data.tables import ItemCatalog
from ilm_lightning.engine.config import Config
from ilm_lightning.engine.loaded import LoadedRun
from ilm_lightning.lm import Collator

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


@dataclass
class Vectors:
    """Sources of a new item's vectors, by name."""

    dims: dict[str, int]

    def tensors(self) -> dict[str, torch.Tensor]:
        return {name: torch.zeros(1, size) for name, size in self.dims.items()}


BOTH = {"behavioral": 4, "semantic": 4}
STANDS_IN = "the mean of the training items stands in for it"


@pytest.mark.parametrize(
    ("dims", "fields", "described", "notes"),
    [
        (
            BOTH,
            ["title", "genres"],
            "Heat 2 (2025); cast=Tom; users=1,999",
            [
                "behavioral: folded in from 1 of 2 raters (1 unknown to this run)",
                "cast: not read; this run's items were encoded from title, genres",
            ],
        ),
        (BOTH, ["title", "genres"], "Heat 2 (2025); genres=Crime; users=1", []),
        (
            BOTH,
            ["title", "genres"],
            "Heat 2; genres=horor, Crime, Western; users=1",
            ["genres: no item of this run has Western, horor (did you mean Horror?); encoded as given"],
        ),
        (
            BOTH,
            ["title"],
            "Heat 2; genres=Horor; users=1",
            ["genres: not read; this run's items were encoded from title"],
        ),
        (BOTH, ["title"], "Heat 2", [f"behavioral: no ratings given; {STANDS_IN}"]),
        (
            BOTH,
            ["genres"],
            "Heat 2 (2025); genres=Crime; users=1",
            ["title, year: not read; this run's items were encoded from genres"],
        ),
        (
            {"behavioral": 4},
            ["title"],
            "Heat 2 (2025); genres=Crime; text=A duel.; users=1",
            ["title, year, text, genres: not read; this run reads ratings only"],
        ),
    ],
)
def test_what_a_new_items_vectors_do_not_hold_is_told(
    dims: dict[str, int],
    fields: list[str],
    described: str,
    notes: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "items").mkdir()
    pl.DataFrame({"user": ["1", "7"]}).write_parquet(tmp_path / "items" / "users.parquet")
    config = Config()
    config.encoder.text_fields = fields
    run = LoadedRun(tmp_path, config, CATALOG, ["train", "test"])
    monkeypatch.setattr(LoadedRun, "vectors", Vectors(dims))
    monkeypatch.setattr(chat, "vectors_of", lambda *_: Vectors(dims))
    made = chat.Chat(run, Collator({name: torch.zeros(2, size) for name, size in dims.items()}))
    monkeypatch.setattr(chat.Chat, "answer", lambda self, question: f"asked {self.prompt(question)[0]}")
    label = "Heat 2 (2025)" if "2025" in described else "Heat 2"
    *told, answer = chat.reply(made, f"Pitch [new: {described}].")
    assert told == [f"  note: [{label}] {note}" for note in notes]
    assert answer == "asked Pitch {item}."
    # said of the question that names it alone
    assert chat.reply(made, "Pitch [Heat].") == ["  [Heat (1995)], held out of training", "asked Pitch {item}."]
    monkeypatch.setattr(chat, "open_chat", lambda *_: made)
    assert chat.main([f"ask=Pitch [new: {described}]."]) == 0
    out, err = capsys.readouterr()
    assert out == "asked Pitch {item}.\n"
    assert err == "".join(f"note: [{label}] {note}\n" for note in notes)


def test_a_pipe_of_any_bytes_is_answered_line_by_line(
    opened: chat.Chat, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = "Pitch [Amélie].\n".encode("latin-1") + b"Pitch [Heat].\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines), encoding="utf-8"))
    assert chat.main([]) == 0
    out = capsys.readouterr().out
    assert "error: no item is called" in out
    assert "[Heat (1995)], held out of training\nasked Pitch {item}." in out


@pytest.mark.parametrize("last", ["", "quit", "Exit "])
def test_a_word_or_an_empty_line_ends_the_chat(
    last: str, opened: chat.Chat, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"Pitch [Heat].\n{last}\nPitch [REC].\n"))
    assert chat.main([]) == 0
    out = capsys.readouterr().out
    assert "? shows how, quit ends." in out
    assert out.count("asked Pitch {item}.") == 1
    assert "error" not in out


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("Pitch [Heat (1995).", "is not closed in 'Pitch"),
        ("Is [Heat] like [[REC]?", "is not closed"),
        ("words [Heat", "is not closed"),
        ("Pitch Heat].", "was not opened"),
        ("Pitch [].", "name an item in square brackets, for instance"),
    ],
)
def test_a_bracket_without_partner_is_told(opened: chat.Chat, question: str, message: str) -> None:
    with pytest.raises(chat.ChatError, match=message):
        chat.reply(opened, question)


def test_ctrl_c_during_an_answer_ends_the_chat(opened: chat.Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(chat.Chat, "answer", stopped)
    monkeypatch.setattr("sys.stdin", io.StringIO("Pitch [Heat].\n"))
    assert chat.main([]) == 0
