"""The user's task file: its guide's example, every mistake by line, and the examples that it gives."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ilm_lightning.data.tables import ItemCatalog
from ilm_lightning.tasks.elm import build_examples
from ilm_lightning.tasks.elm.facts import CatalogContext, Film
from ilm_lightning.tasks.elm.own import COLUMNS, PIECES, OwnTasks, TaskFileError, read_own_tasks
from ilm_lightning.tasks.elm.own_examples import column_text, own_examples, ready_targets, with_phrasings

GUIDE = (Path(__file__).parents[2] / "docs" / "your-own-tasks.md").read_text(encoding="utf-8")
EXAMPLE = re.findall(r"```yaml\n(.*?)```", GUIDE, flags=re.DOTALL)[0]
POSTERS = re.findall(r"```csv\n(.*?)```", GUIDE, flags=re.DOTALL)[0]
SIZE = 60
RICH = {
    "genres": ["Crime", "Drama"],
    "tags": ["bleak"],
    "genome_tags": ["noir"],
    "directors": ["Ann Lee"],
    "writers": ["Bob Ray"],
    "cast": ["Cy Dean", "Di Poe"],
    "countries": ["France"],
    "languages": ["French"],
    "studios": ["Gaumont"],
    "runtime": 99,
    "critic_score": 88,
    "n_reviews": 40,
    "oscars_won": 1,
    "oscar_nominations": 2,
    "certificate": "R",
    "text": "A duel.",
    "n_ratings": 12,
}


@pytest.fixture(scope="module")
def catalog() -> ItemCatalog:
    rows = [{"item_id": f"m{i}", "title": f"Film {i}", "year": 1950 + i, **RICH} for i in range(SIZE)]
    # no genres, no people
    rows[5] |= {"genres": [], "cast": [], "directors": []}
    rows[6] |= {"title": "", "cast": [], "countries": [], "directors": []}
    return ItemCatalog.from_rows(rows)


@pytest.fixture(scope="module")
def split() -> np.ndarray:
    return np.array(["test" if i % 5 == 0 else "train" for i in range(SIZE)])


def write(folder: Path, text: str, posters: str = POSTERS) -> Path:
    (folder / "posters.csv").write_text(posters, encoding="utf-8")
    path = folder / "my_tasks.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def own(tmp_path: Path) -> OwnTasks:
    return read_own_tasks(write(tmp_path, EXAMPLE))


def neighbours(split: np.ndarray) -> np.ndarray:
    return np.array([next(j for j in range(SIZE) if j != i and split[j] == split[i]) for i in range(SIZE)])


def test_the_guides_example(own: OwnTasks, catalog: ItemCatalog, split: np.ndarray) -> None:
    frame, report = own_examples(own, catalog, split, neighbours(split))
    target = {(row["task"], row["items"][0]): row["target"] for row in frame.iter_rows(named=True)}
    assert target["tagline", 3] == "A 1950s French crime drama with Cy Dean and Di Poe."
    # without cast the second alternative, without a country a shorter card
    assert target["tagline", 6].startswith("A 1950s crime drama, made for a ")
    assert target["facts_in_brief", 3] == (
        "Film 3 (1953) is a crime drama from France. It was directed by Ann Lee. It runs 99 minutes."
    )
    other = int(neighbours(split)[3])
    assert target["double_bill", 3] == f"Tonight Film 3, a crime drama, and then Film {other}, a crime drama."
    assert target["poster", 1] == "A lonely road at night."
    assert report["examples"] == {"tagline": 59, "facts_in_brief": 58, "double_bill": 57, "poster": 2}
    assert report["left_out"]["tagline"] == {"lacks what the target's first sentence needs": 1}
    assert report["left_out"]["poster"] == {"no target in the file": 58}
    assert frame["example_id"].n_unique() == len(frame)
    for row in frame.iter_rows(named=True):
        assert row["prompt"].count("{item}") == len(row["slots"])
        assert {split[item] for item in row["items"]} == {row["split"]}
        # one phrasing for all that is scored: another movie's text is then its own text
        assert row["split"] == "train" or row["phrasing"] == 0
    phrasings = frame.filter((pl.col("task") == "tagline") & (pl.col("split") == "train"))["phrasing"]
    assert set(phrasings) == {0, 1}


@pytest.mark.parametrize(
    ("target", "with_runtime", "without"),
    [
        ('["[It runs {minutes}.]", "It is {a label}."]', "It runs 99 minutes. It is a crime drama.", None),
        (
            '["It is {a label}.", "[It runs {minutes}.]"]',
            "It is a crime drama. It runs 99 minutes.",
            "It is a crime drama.",
        ),
        ('"[{minutes}] | {name}"', "99 minutes.", "Film 1 (1951)."),
        ('"[{minutes}] [{runtime}]"', "99 minutes 99.", None),
        ('"[It runs {minutes}]."', "It runs 99 minutes.", None),
        ('"[{minutes}], [{runtime}]! | {name}"', "99 minutes, 99!", "Film 1 (1951)."),
        ('["It is {a label}.", "([{minutes}])"]', "It is a crime drama. (99 minutes).", "It is a crime drama."),
    ],
)
def test_a_sentence_that_comes_out_empty_is_not_filled(
    target: str, with_runtime: str, without: str | None, tmp_path: Path
) -> None:
    text = f"tasks:\n  tagline:\n    phrasings: ['Pitch {{item}}.']\n    target: {target}\n"
    rows = [{"item_id": f"m{i}", "title": f"Film {i}", "year": 1950 + i, **RICH} for i in range(2)]
    rows[1]["runtime"] = None
    frame, report = own_examples(
        read_own_tasks(write(tmp_path, text)), ItemCatalog.from_rows(rows), ["train", "train"], None
    )
    assert frame["target"].to_list() == [with_runtime, *([without] if without else [])]
    assert sum(report["left_out"]["tagline"].values()) == (without is None)


@pytest.mark.parametrize(
    ("target", "written"),
    [
        ("'{title}'", "Wait for it..."),
        ("'{title}: {text}'", "Wait for it...: She waits... and waits no more."),
        ("'{title}.'", "Wait for it..."),
        ("['We say {title}', 'By {directors}']", "We say Wait for it... By Cy Dean Jr."),
        ("['By {directors}.', 'It is {title}!']", "By Cy Dean Jr. It is Wait for it...!"),
    ],
)
def test_an_ellipsis_stays_and_a_name_ends_its_sentence(target: str, written: str, tmp_path: Path) -> None:
    row = {"item_id": "m1", "title": "Wait for it...", "year": 1990, **RICH, "directors": ["Cy Dean Jr."]}
    row["text"] = "She waits... and waits no more."
    text = f"tasks:\n  tagline:\n    phrasings: ['Pitch {{item}}.']\n    target: {target}\n"
    frame, _ = own_examples(read_own_tasks(write(tmp_path, text)), ItemCatalog.from_rows([row]), ["train"], None)
    assert frame["target"].to_list() == [written]


def test_every_documented_slot_can_be_filled(catalog: ItemCatalog) -> None:
    item = catalog[3]
    film = Film.of(item, CatalogContext.from_items(catalog))
    assert [name for name in COLUMNS if column_text(item, name) is None] == []
    assert [name for name in PIECES if name not in film.pieces] == []
    for name in (*COLUMNS, *PIECES):
        assert f"`{name}`" in GUIDE


def test_phrasings_join_in_training_alone(own: OwnTasks, catalog: ItemCatalog, split: np.ndarray) -> None:
    frame, _ = build_examples(catalog, split, None, tasks=["summary", "pitch"])
    mixed = with_phrasings(frame, own)
    new = mixed.filter(pl.col("prompt") == "Tell me about {item} in brief.")
    assert 3 <= len(new) <= 25
    assert set(new["split"]) == {"train"}
    assert set(new["phrasing"]) == {3}
    assert mixed.filter(pl.col("task") == "pitch").equals(frame.filter(pl.col("task") == "pitch"))
    assert with_phrasings(frame, own).equals(mixed)


def test_names_and_splits_of_their_own(own: OwnTasks, catalog: ItemCatalog, split: np.ndarray) -> None:
    labels = {"tagline": np.full(SIZE, "validation")}
    frame, report = own_examples(own, catalog, split, None, names=["tagline", "summary"], labels=labels)
    assert set(report["examples"]) == {"tagline"}
    assert set(frame["split"]) == {"validation"}


def test_two_items_with_ready_targets(tmp_path: Path, catalog: ItemCatalog, split: np.ndarray) -> None:
    text = "tasks:\n  versus:\n    items: 2\n    phrasings: ['{item} or {item}?']\n    targets: posters.csv\n"
    table = "Item,Other,Target\nm1,m2,The first.\nm3,m5,Crossing.\nm4,nowhere,x\nm6,m6,x\nm7,m8,\n"
    own = read_own_tasks(write(tmp_path, text, table))
    frame, report = own_examples(own, catalog, split, None)
    assert frame.select("items", "target", "prompt").rows() == [([1, 2], "The first.", "{item} or {item}?")]
    assert report["left_out"]["versus"]["the two items lie in different splits"] == 1
    assert report["left_out"]["versus"]["no other movie in its split"] == 2


@pytest.mark.parametrize(
    ("posters", "message"),
    [
        (
            "item,target\nm1,y\nm2,x\nm1,z\n",
            "item 'm1' has more than one target, in rows 2 and 4, the header being row 1; keep one row per item",
        ),
        ("item,target\nm1,\n", "the column 'target' is empty in every row (1); fill it"),
        ("item,target\n", "there is no row below the header; give one row per item"),
        ("item,target\nm1,a\nm2,b,c\n", "line 3 has 3 columns, the header 2; put texts that hold ',' in double quotes"),
        ("item,target\nm1,a\nm2\n", "line 3 has 1 column, the header 2; correct it"),
        ('item,target\nm1,"a\nb"\nm2,"c\nd\n', "line 4 opens a quote that is not closed"),
        (b"item,target\nm1,a\nm2,\xe9t\xe9\n", "line 3 is not UTF-8; save the file as UTF-8"),
    ],
)
def test_ready_targets_that_cannot_be_used_are_told_at_once(posters: str | bytes, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, EXAMPLE)
    (tmp_path / "posters.csv").write_bytes(posters if isinstance(posters, bytes) else posters.encode())
    with pytest.raises(TaskFileError) as error:
        read_own_tasks(path)
    told = str(error.value)
    line = EXAMPLE.split("\n").index("    targets: posters.csv") + 1
    assert told.startswith(f"tasks.file={path}: line {line}, task 'poster': {tmp_path / 'posters.csv'}: {message}")


def test_ids_of_ready_targets_that_name_no_item_are_told(
    tmp_path: Path, catalog: ItemCatalog, split: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    own = read_own_tasks(write(tmp_path, EXAMPLE, "item,target\nx,y\n"))
    with pytest.raises(ValueError, match=re.escape("no item of it is in the catalogue ('x' there, 'm0' here)")):
        own_examples(own, catalog, split, neighbours(split), names=["poster"])
    own = read_own_tasks(write(tmp_path, EXAMPLE, "item,target\nm1,y\nx,y\nz,y\n"))
    frame, report = own_examples(own, catalog, split, neighbours(split), names=["poster"])
    assert (len(frame), report["unknown_ids"]) == (1, {"poster": 2})
    assert "own task poster: 2 of the ids in posters.csv name no item of this run's catalogue ('x', ...)" in caplog.text


def test_parquet_targets_with_numbers_as_ids(tmp_path: Path) -> None:
    path = write(tmp_path, EXAMPLE.replace("posters.csv", "posters.parquet"))
    pl.DataFrame({"item": [1.0, 2.0], "target": ["a", None]}).write_parquet(tmp_path / "posters.parquet")
    assert ready_targets(read_own_tasks(path).tasks["poster"]) == {"1": (None, "a")}


def test_another_file_is_another_digest(tmp_path: Path) -> None:
    first = read_own_tasks(write(tmp_path, EXAMPLE)).digest
    assert read_own_tasks(write(tmp_path, EXAMPLE)).digest == first
    assert read_own_tasks(write(tmp_path, EXAMPLE, POSTERS.replace("dog", "cat"))).digest != first
    assert read_own_tasks(write(tmp_path, EXAMPLE + "# more\n")).digest != first


def one(body: str, name: str = "tagline") -> str:
    return f"tasks:\n  {name}:\n" + "".join(f"    {line}\n" for line in body.split("\n"))


GOOD = "phrasings: ['Pitch {item}.']\ntarget: '{title}'"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the file is empty"),
        ("{}", "line 1: the file holds neither a task nor a phrasing"),
        ("- a", "line 1: the file must hold 'key: value' lines, not a list"),
        ("task:\n  a: 1\n", "line 1: unknown key 'task' (did you mean tasks?)"),
        ("tasks: [a]\n", "line 1: tasks must hold 'key: value' lines, not a list"),
        ("tasks:\n  a: b: c\n", "line 2: not readable as YAML (mapping values are not allowed here)"),
        (one("phrasings: ['Pitch {item}.']\ntarget: {title} it is"), "line 4: not readable as YAML"),
        (
            one("phrasings: ['Pitch {item}.']\ntarget: {title}"),
            "line 4, task 'tagline': target must be text, not a mapp",
        ),
        (one(GOOD, "summary"), "line 2, task 'summary': one of the 24 tasks is called so"),
        (
            one(GOOD, "rating"),
            "line 2, task 'rating': long_summary, genome_tags, rating, next_item, user_profile, all na",
        ),
        (one(GOOD, "all"), "line 2, task 'all': long_summary,"),
        (one(GOOD, "My-Task"), "line 2, task 'My-Task': a name is lower-case letters"),
        (one(GOOD, "5"), "line 2: a key of tasks must be text, not 5; put it in quotes"),
        (one(GOOD) + one(GOOD).removeprefix("tasks:\n"), "line 5: 'tagline' is there twice, first in line 2"),
        (one(GOOD + "\ntarget: x"), "line 5, task 'tagline': 'target' is there twice"),
        (one("target: x"), "line 2, task 'tagline': phrasings are missing"),
        (one("phrasings: ['Pitch {item}.']"), "line 2, task 'tagline': the target is missing: target is a template"),
        (one(GOOD + "\ntargets: posters.csv"), "line 2, task 'tagline': target and targets are both there"),
        (one(GOOD + "\npartnr: random"), "line 5, task 'tagline': unknown key 'partnr' (did you mean partner?)"),
        (one(GOOD + "\npartner: random"), "line 5, task 'tagline': partner is for tasks with 'items: 2'"),
        (one(GOOD + "\nitems: 3"), "line 5, task 'tagline': items is 3; choose 1 or 2"),
        (one(GOOD + "\nitems: [1]"), "line 5, task 'tagline': items is a list; choose 1 or 2"),
        (
            one(GOOD + "\nitems: 2"),
            "line 3, task 'tagline': 'Pitch {item}.' holds {item} 1 times; this task needs it 2",
        ),
        (one("phrasings: ['Pitch {itm}.']\ntarget: x"), "line 3, task 'tagline': a phrasing knows no slot {itm}"),
        (
            one("phrasings: ['{title}: {item}.']\ntarget: x"),
            "a phrasing knows no slot {title}; the model sees each item",
        ),
        (one("phrasings: ['Pitch it.']\ntarget: x"), "'Pitch it.' holds {item} 0 times"),
        (one("phrasings: []\ntarget: x"), "line 3, task 'tagline': phrasings is an empty list"),
        (one("phrasings: [3]\ntarget: x"), "line 3, task 'tagline': an entry of phrasings must be text, not 3"),
        (one("phrasings:\ntarget: x"), "line 3, task 'tagline': phrasings must be text, not nothing"),
        (one("phrasings:\n- a {item}\n- a {item}\ntarget: x"), "line 5, task 'tagline': 'a {item}' is there twice"),
        (
            one("phrasings: 'a {item}'\ntarget: '{titel}'"),
            "line 4, task 'tagline': unknown slot {titel} (did you mean title?)",
        ),
        (
            one("phrasings: 'a {item}'\ntarget:\n- x\n- '{1.title}'"),
            "line 6, task 'tagline': {1.title} is for tasks with 'items: 2'",
        ),
        (
            one("phrasings: '{item} {item}'\nitems: 2\ntarget: '{title}'"),
            "line 5, task 'tagline': {title} of which item? Write {1.title} or {2.title}",
        ),
        (one("phrasings: 'a {item}'\ntarget: '{title'"), "line 4, task 'tagline': a brace of '{title' has no partner"),
        (one("phrasings: 'a {item}'\ntarget: 'a [b'"), "a square bracket of 'a [b' has no partner"),
        (
            one("phrasings: 'a {item}'\ntarget: '{title}[ from {countries} | in {languages}].'"),
            "line 4, task 'tagline': a square bracket of '{title}[ from {countries}' has no partner; brackets hold "
            "what may be left out, and each alternative of ' | ' closes its own",
        ),
        (one("phrasings: 'a {item}'\ntarget: ' | '"), "line 4, task 'tagline': an alternative of ' | ' is empty"),
        (
            one("phrasings: 'a {item}'\ntarget:\n- x\n- 'a |'"),
            "line 6, task 'tagline': an alternative of 'a |' is empty",
        ),
        (one("phrasings: 'a {item}'\ntarget: '| a'"), "an alternative of '| a' is empty; write a text on either side"),
        ("tasks: " + "[" * 3000, "line 1: nested too deeply"),
        ("tasks:\n  a:" + "\n    [" * 3000, "line 10: nested too deeply"),
        ("\n".join(" " * depth + "a:" for depth in range(3000)), "line 10: nested too deeply"),
        (one("phrasings: 'a {item}'\ntarget: ''"), "line 4, task 'tagline': target is empty"),
        (one("phrasings: 'a {item}'\ntarget: 1999"), "target must be text, not 1999; put it in quotes"),
        (one("phrasings: 'a {item}'\ntargets: nowhere.csv"), "line 4, task 'tagline': there is no file"),
        (one("phrasings: 'a {item}'\ntargets: x.txt"), "give a .csv, .tsv or .parquet file"),
        (
            one("items: 2\nphrasings: '{item} {item}'\ntargets: posters.csv"),
            "line 5, task 'tagline': {folder}/posters.csv: column 'other' is missing; the file has item, target",
        ),
        (
            one("phrasings: 'a {item}'\ntargets: ~no-such-user/x.csv"),
            "line 4, task 'tagline': targets=~no-such-user/x.csv: there is no such user's folder; write the whole path",
        ),
        ("phrasings:\n  sumary: ['a {item}']\n", "line 2: 'sumary' is none of the 24 tasks (did you mean summary?)"),
        ("phrasings:\n  tagline: ['a {item}']\n" + one(GOOD), "line 2: 'tagline' is none of the 24 tasks; write its"),
        ("phrasings:\n  summary: ['a']\n", "line 2, task 'summary': 'a' holds {item} 0 times; this task needs it 1"),
        ("phrasings:\n  similarities: ['a {item}']\n", "'a {item}' holds {item} 1 times; this task needs it 2 times"),
    ],
)
def test_mistakes_are_told_by_file_line_and_task(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(TaskFileError) as error:
        read_own_tasks(path)
    told = str(error.value)
    assert told.startswith(f"tasks.file={path}: line ")
    assert message.replace("{folder}", str(tmp_path)) in told
    assert "\n" not in told


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(TaskFileError, match=r"tasks\.file=.*: No such file"):
        read_own_tasks(tmp_path / "nothing.yaml")
    (tmp_path / "latin.yaml").write_bytes("tasks:\n  # é\n".encode("latin-1"))
    with pytest.raises(TaskFileError, match="not UTF-8"):
        read_own_tasks(tmp_path / "latin.yaml")
    (tmp_path / "control.yaml").write_bytes(b"tasks: \x07\n")
    with pytest.raises(TaskFileError, match="not readable as YAML"):
        read_own_tasks(tmp_path / "control.yaml")


def test_a_runs_copy_is_read_without_its_targets(tmp_path: Path) -> None:
    path = tmp_path / "tasks.yaml"
    path.write_text(EXAMPLE)
    with pytest.raises(TaskFileError, match="there is no file"):
        read_own_tasks(path)
    assert set(read_own_tasks(path, check_targets=False).tasks) == {
        "tagline",
        "facts_in_brief",
        "double_bill",
        "poster",
    }
