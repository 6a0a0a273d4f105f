"""New items through the embed command and the chat of a finished run."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file
from test_pipeline import run

from ilm_lightning.chat import open_chat, reply
from ilm_lightning.embed import main
from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.engine.loaded import find_run, open_run, parse_arguments, task_prompts

QUICK = ["evaluation.conditions=[own]", "evaluation.losses=false"]


@pytest.fixture(scope="module")
def finished(shared_overrides: list[str]) -> Path:
    return run(["experiment=ilm_mlp", *shared_overrides, *QUICK])[1]


def raters(own_data: tuple[Path, Path], item: str) -> list[str]:
    return pl.read_csv(own_data[0]).filter(pl.col("item") == item)["user"].to_list()


def test_an_item_of_the_run_described_anew_lands_on_itself(
    finished: Path, own_data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = open_run(finished)
    row = known.catalog.find("m3")
    item = known.catalog[row]
    ratings = tmp_path / "ratings.csv"
    ratings.write_text("User;rating\n" + "".join(f"{user};4,5\n" for user in raters(own_data, "m3")) + "stranger;1\n")
    facts = [f"title={item.label}", f"genres={'|'.join(item.genres)}", f"ratings={ratings}"]
    tasks = ["tasks=[summary,similarities,interpolation]", "other=Film number 5", "max_new_tokens=4"]
    assert main([f"run={finished}", *facts, *tasks, f"out={tmp_path / 'new'}"]) == 0
    made = ItemVectors.load(tmp_path / "new", expect_dims=known.vectors.dims)
    for name, vectors in made.sources.items():
        np.testing.assert_allclose(vectors[0], known.vectors.sources[name][row], atol=0.02, err_msg=name)
    soft = load_file(tmp_path / "new" / "soft_tokens.safetensors")["soft_tokens"]
    assert soft.shape[:2] == (1, 2)
    report = json.loads((tmp_path / "new" / "report.json").read_text())["items"][0]
    assert (report["has_text"], report["has_ratings"], len(report["nearest_words"])) == (True, True, 2)
    assert report["nearest_items"]["behavioral"][0][0] == item.label
    answers = pl.read_parquet(tmp_path / "new" / "answers.parquet")
    assert answers["task"].to_list() == ["summary", "similarities", "interpolation"]
    assert answers["prompt"][0] == task_prompts(known)["summary"]
    screen = capsys.readouterr().out
    count = len(raters(own_data, "m3"))
    assert f"folded in from {count} of {count + 1} raters (1 unknown to this run)" in screen


def test_soft_tokens_of_the_same_item_are_those_of_the_run(finished: Path, own_data: tuple[Path, Path]) -> None:
    chat = open_chat(finished, max_new_tokens=3)
    item = chat.catalog[chat.catalog.find("m4")]
    users = ",".join(raters(own_data, "m4"))
    _, slots = chat.prompt(
        f"Compare [m4] with [new: {item.label}; genres={','.join(item.genres)}; users={users}] and [new: Other]."
    )
    soft = chat.model.soft_tokens(chat.collator.slot_sources([tuple(slot) for slot in slots])).detach().float()
    same, other = (soft[0] - soft[1]).abs().max(), (soft[0] - soft[2]).abs().max()
    assert same < 0.1 * other
    assert chat.label(slots[1][0]) == item.label


def test_a_source_that_is_not_given_is_told(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(finished), "title=Heat 2 (2025)", "directors=Somebody", "text=A duel."]) == 0
    screen = capsys.readouterr().out
    assert "Heat 2 (2025)" in screen
    assert "no ratings given; the mean of the training items stands in for it" in screen
    assert "from 2 texts: Heat 2 (2025); A duel." in screen
    assert "directors: not read; this run's items were encoded from title, genres" in screen
    assert main([str(finished), "title=Heat 2", "genres=Drma", "users=u1"]) == 0
    screen = capsys.readouterr().out
    assert "from 2 texts: Heat 2; " in screen
    assert "note: genres: no item of this run has Drma (did you mean Drama?); encoded as given" in screen
    assert main([str(finished), "title=Heat 2", "users=u1"]) == 0
    assert "from 1 text: Heat 2\n" in capsys.readouterr().out
    assert main([f"run={finished}", "users=u1|u2|nobody"]) == 0
    assert "no text given; the mean" in capsys.readouterr().out


def test_several_items_from_files(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items, ratings = tmp_path / "items.csv", tmp_path / "ratings.csv"
    items.write_text("item,title,year,genres\na,Heat,1995,Crime|Drama\nb,Other,,\n")
    ratings.write_text("user,item\nu1,a\nu2,a\nu2,a\nu3,c\n")
    out = tmp_path / "out"
    wish = [f"items={items}", f"ratings={ratings}", f"out={out}", "tasks=all", "max_new_tokens=2"]
    assert main([f"run={finished}", *wish]) == 0
    vectors = ItemVectors.load(out)
    assert vectors.has_text.tolist() == [True, True, False]
    assert vectors.has_ratings.tolist() == [True, False, True]
    answers = pl.read_parquet(out / "answers.parquet")
    assert answers["item"].unique(maintain_order=True).to_list() == ["a", "b", "c"]
    # tasks about two items need a second one
    assert "similarities" not in answers["task"].to_list()
    assert "folded in from 2 of 2 raters" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["titel=x"], "did you mean title="),
        (["title=x", "tasks=sumary"], "did you mean summary?"),
        (["title=x", "tasks=similarities"], "is about two items; name the second one: other="),
        (["title=x", "tasks=similarities", "other=Film numbr 3"], "the nearest are"),
        (["directors=Somebody"], "nothing is said that this run reads; it reads ratings or text (title, genres"),
        (["users=nobody"], "none of the 1 raters is a user of this run"),
        (["ratings=nowhere.csv"], "ratings=nowhere.csv: there is no such file"),
        (["ratings=~no-such-user/x.csv"], "ratings=~no-such-user/x.csv: there is no such user's folder"),
        (["users=u1", "ratings=x.csv"], "give one of them"),
        (["title=x", "items=x.csv"], "leave out title="),
        (["items=x.csv", "users=u1"], "with items=FILE give ratings=FILE"),
        (["users="], "users= names nobody; give ids"),
        (["title=x", "users=,"], "users= names nobody; give ids"),
        (["title=x", "year=soon"], "year=soon is no year; give up to four digits"),
        (["title=x", "year=99999999999"], "year=99999999999 is no year"),
        (["title=x", "year=²"], "year=² is no year"),
        (["tasks=summary"], "say something of the new item"),
        (["title=x", "max_new_tokens=0"], "no number above 0"),
        (["title=x", "max_new_tokens=²"], "max_new_tokens=² is no number above 0"),
        (["title=x", "max_new_tokens=9999999999"], "is no number above 0 of at most nine digits"),
        (["title=x", f"out={__file__}"], "it is a file; choose another folder"),
        (["title=x", "out=/proc/nowhere/out"], "out=/proc/nowhere/out cannot be written: /proc: "),
    ],
)
def test_what_cannot_be_used_is_told_before_the_model_is_loaded(
    arguments: list[str],
    message: str,
    finished: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ilm_lightning.engine.loaded.LoadedRun.load_model", lambda _: pytest.fail("model was loaded"))
    assert main([f"run={finished}", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_files_with_faults_are_named(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.csv"
    path.write_text("person\nu1\n")
    assert main([f"run={finished}", f"ratings={path}"]) == 1
    assert (
        "r.csv: column 'user' is missing; the file has person; rename the one that holds it to 'user'"
        in capsys.readouterr().err
    )
    path.write_text("user\n")
    assert main([f"run={finished}", f"ratings={path}"]) == 1
    assert "no ratings" in capsys.readouterr().err
    (finished / "items" / "users.parquet").rename(tmp_path / "users.parquet")
    try:
        assert main([f"run={finished}", "users=u1"]) == 1
    finally:
        (tmp_path / "users.parquet").rename(finished / "items" / "users.parquet")
    assert "run the training command of this run again" in capsys.readouterr().err


def test_an_unknown_title_is_told_before_torch_is_loaded(finished: Path) -> None:
    code = (
        "import sys; from ilm_lightning.chat import main; "
        "status = main(sys.argv[1:]); sys.exit(9 if 'torch' in sys.modules else status)"
    )
    asked = [f"run={finished}", "ask=Pitch [Film numbr 3]."]
    done = subprocess.run([sys.executable, "-c", code, *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "no item is called 'Film numbr 3'; the nearest are Film number 3" in done.stderr


def test_the_run_that_was_finished_last_is_taken(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished.parent.parent)
    assert find_run(None).name in {path.name for path in finished.parent.iterdir()}
    assert find_run(finished.name) == Path("outputs") / finished.name
    with pytest.raises(ValueError, match="there is no such folder; finished are outputs/"):
        find_run("nowhere")
    assert parse_arguments(["outputs/x"], ["run"], "") == {"run": "outputs/x"}


def test_chat_commands(finished: Path) -> None:
    chat = open_chat(finished, max_new_tokens=3)
    assert any("Summarize the movie [Film number" in line for line in reply(chat, "?"))
    assert reply(chat, "find number 12") == [
        "Film number 12 (" + str(chat.catalog[chat.catalog.find("m12")].year) + ")"
    ]
    assert reply(chat, "find nothing at all") == ["no title holds 'nothing at all'"]
    assert reply(chat, "words [m3] [m4]")[1].startswith(chat.catalog[chat.catalog.find("m4")].label)
    about, _ = reply(chat, "Pitch [m3].")
    part = chat.run.split[chat.catalog.find("m3")]
    assert about.endswith("in training" if part == "train" else "held out of training")
    note, _ = reply(chat, "Pitch [new: Heat 2 (2025); genres=Thriller, Drama].")
    assert note == (
        "  note: [Heat 2 (2025)] behavioral: no ratings given; the mean of the training items stands in for it"
    )
    assert len(reply(chat, "Pitch [m3].")) == 2
    with pytest.raises(ValueError, match=r"in square brackets: Pitch \[Film number 3\] now"):
        reply(chat, "Pitch Film number 3 now")
    with pytest.raises(ValueError, match="of a new item one can say"):
        reply(chat, "Pitch [new: Heat 2; mood=grim].")
