"""Broken recommendation data through the command: one clear line that names the place, before anything is trained."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from test_recommendation import run


def edited(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def item_without_index(folder: Path) -> None:
    ids = [f"i{i} {1001 + i}" for i in range(14)]
    (folder / "Shop" / "item_sequential_indexing_original.txt").write_text("\n".join(ids) + "\n")


def index_twice(folder: Path) -> None:
    ids = [f"i{i} {1001 + i % 14}" for i in range(15)]
    (folder / "Shop" / "item_sequential_indexing_original.txt").write_text("\n".join(ids) + "\n")


def item_indexed_twice(folder: Path) -> None:
    ids = [f"i{i % 14} {1001 + i}" for i in range(15)]
    (folder / "Shop" / "item_sequential_indexing_original.txt").write_text("\n".join(ids) + "\n")


def user_index_twice(folder: Path) -> None:
    item_ids = [f"i{i} {1001 + i}" for i in range(15)]
    (folder / "Shop" / "item_sequential_indexing_original.txt").write_text("\n".join(item_ids) + "\n")
    ids = [f"u{u} {u % 19}" for u in range(20)]
    (folder / "Shop" / "user_indexing.txt").write_text("\n".join(ids) + "\n")


def index_in_latin_1(folder: Path) -> None:
    ids = [f"i{i} {1001 + i}" for i in range(15)]
    path = folder / "Shop" / "item_sequential_indexing_original.txt"
    path.write_bytes("\n".join([*ids[:4], "café 1", *ids[4:]]).encode("latin-1"))


def sequences_in_latin_1(folder: Path) -> None:
    path = folder / "Shop" / "user_sequence.txt"
    path.write_bytes(path.read_bytes() + "zoë i1 i2 i3 i4\n".encode("latin-1"))


def index_without_id(folder: Path) -> None:
    ids = [f"i{i} {1001 + i}" for i in range(14)]
    (folder / "Shop" / "item_sequential_indexing_original.txt").write_text("\n".join([*ids, "i14"]) + "\n")


def prompts_in_latin_1(folder: Path) -> None:
    with (folder / "prompt.txt").open("ab") as file:
        file.write("sequential; seen; café {history} ?; {target}\n".encode("latin-1"))


def three_items_each(folder: Path) -> None:
    edited(folder / "Shop" / "user_sequence.txt", lambda lines: [" ".join(line.split()[:4]) for line in lines])


def straightforward_alone(folder: Path) -> None:
    edited(folder / "prompt.txt", lambda lines: [line for line in lines if line.startswith("straightforward")])


def user_with_two_items(folder: Path) -> None:
    edited(folder / "Shop" / "user_sequence.txt", lambda lines: [*lines[:4], "u4 i1 i2", *lines[5:]])


def user_twice(folder: Path) -> None:
    edited(folder / "Shop" / "user_sequence.txt", lambda lines: [*lines, lines[2]])


def empty_line(folder: Path) -> None:
    edited(folder / "Shop" / "user_sequence.txt", lambda lines: [*lines[:2], "", *lines[2:]])


def unseen_without_target(folder: Path) -> None:
    edited(folder / "prompt.txt", lambda lines: [*lines[:2], "sequential; unseen; {history} ?; {dataset} item"])


def no_unseen(folder: Path) -> None:
    edited(folder / "prompt.txt", lambda lines: lines[:2])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (item_without_index, "'i14' occurs in the sequences but has no index (1 such); add its line"),
        (index_twice, "original.txt, lines 1 and 15: item index '1001' is given twice, to 'i0' and 'i14'; every item"),
        (
            user_index_twice,
            "user_indexing.txt, lines 1 and 20: user index '0' is given twice, to 'u0' and 'u19'; every user",
        ),
        (index_in_latin_1, "original.txt, line 5: not UTF-8; save the file as UTF-8"),
        (sequences_in_latin_1, "user_sequence.txt, line 21: not UTF-8; save the file as UTF-8"),
        (index_without_id, "line 15: 'i14' is no pair of item id and index; write both with a space between them"),
        (prompts_in_latin_1, "prompt.txt, line 5: not UTF-8; save the file as UTF-8"),
        (three_items_each, "Shop: every user has 3 items, one each to train, validate and test on"),
        (straightforward_alone, "straightforward prompts alone hold no item, so with a frozen language model"),
        (item_indexed_twice, "line 15: item 'i0' has an index already; keep one line for it"),
        (user_with_two_items, "line 5: user 'u4' has 2 items; each needs at least 3"),
        (user_twice, "line 21: user 'u2' is on line 3 already; join both lines"),
        (empty_line, "line 3: the line is empty; take it out"),
        (unseen_without_target, "line 3: {target} must stand once in the output"),
        (no_unseen, "has no unseen prompt for a task that is trained on: set evaluation.prompt_sets=[seen]"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_the_command_names_what_is_wrong(
    overrides: list[str],
    shop: Path,
    tmp_path: Path,
    damage: Callable[[Path], None],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(shop, folder)
    damage(folder)
    assert run(["experiment=ilm_mlp", *(o.replace(str(shop), str(folder)) for o in overrides)], monkeypatch) == 1
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    # before anything is begun
    assert len(told.splitlines()) == 1


def test_a_task_without_an_unseen_prompt_is_told_and_left_out(
    overrides: list[str],
    shop: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text("\n".join((shop / "prompt.txt").read_text().splitlines()[:3]) + "\n")
    mine = [o for o in overrides if not o.startswith("tasks.prompts")]
    extra = ["experiment=ilm_mlp", "tuning=lora", "tuning.steps=2", "tuning.val_every=2", f"tasks.prompts={path}"]
    assert run([*extra, *mine], monkeypatch) == 0
    assert "no unseen prompt for straightforward in the file: not tested" in capsys.readouterr().err
