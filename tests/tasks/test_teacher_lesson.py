"""Which examples are asked for, what happens to unfit answers, and the store that loses nothing."""

import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ilm_lightning.data.item import Item
from ilm_lightning.tasks.elm.build import Draft
from ilm_lightning.tasks.teachers.errors import TeacherError
from ilm_lightning.tasks.teachers.lesson import Lesson, needed, teach
from ilm_lightning.tasks.teachers.request import Answer, Request
from ilm_lightning.tasks.teachers.store import AnswerStore, store_path
from tasks.teacher_server import LIST, TEXT

ITEMS = [Item(n, f"m{n}", f"Odd Title {n}", 1950 + n, ("Drama",)) for n in range(30)]
SETTINGS = {"max_tokens": 100, "temperature": 0.0}


SPLIT = ["train"] * 20 + ["validation"] * 5 + ["test"] * 5


def drafts(*tasks: str) -> list[Draft]:
    seconds = {task: [(row + 1) % 30 if "similar" in task else None for row in range(30)] for task in tasks}
    return [Draft(task, row, seconds[task][row], SPLIT[row]) for task in tasks for row in range(30)]


@dataclass
class Scripted:
    """Answers by a function of the question; counts what it is asked."""

    reply: Callable[[Request], Answer | None] = lambda _: Answer(TEXT)
    asked: list[Request] = field(default_factory=list)

    def answer(self, requests: Sequence[Request], store: AnswerStore) -> dict[str, str]:
        pending = [request for request in requests if request not in store]
        self.asked += pending
        found = [(request, self.reply(request)) for request in pending]
        store.put((request, answer) for request, answer in found if answer)
        return {request.key: "no answer" for request, answer in found if answer is None}


@pytest.fixture
def store(tmp_path: Path) -> AnswerStore:
    return AnswerStore(tmp_path / "deep" / "answers.sqlite")


def test_only_needed_examples_are_chosen_and_held_out_tasks_share_their_movies() -> None:
    made = drafts("summary", "pitch", "similarities")
    order = [f"{(row * 7) % 30:02d}" for row in range(30)]
    chosen = needed(made, ITEMS, {"train": 6, "validation": None, "test": 2}, order.__getitem__)
    assert chosen == [draft for draft in made if draft in chosen]
    rows = {task: {d.row for d in chosen if d.task == task} for task in ("summary", "pitch", "similarities")}
    tests = sorted(range(25, 30), key=order.__getitem__)[:2]
    for found in rows.values():
        assert len(found & set(range(20))) == 6
        assert set(range(20, 25)) <= found
        assert found & set(range(25, 30)) == set(tests)
    assert rows["summary"] & set(range(20)) != rows["pitch"] & set(range(20))
    # a film of which nothing is known is not asked about
    bare = [Item(0, "m0", ""), *ITEMS[1:]]
    assert all(0 not in draft.rows for draft in needed(made, bare, {}, order.__getitem__))
    # a larger number keeps what a smaller one had, which is paid for
    more = needed(made, ITEMS, {"train": 9, "validation": None, "test": 3}, order.__getitem__)
    assert set(chosen) < set(more)


def test_targets_come_back_with_a_report(store: AnswerStore, caplog: pytest.LogCaptureFixture) -> None:
    teacher = Scripted(lambda _: Answer(TEXT, prompt_tokens=90, answer_tokens=40, served_by="tiny-7", source="here"))
    with caplog.at_level(logging.INFO, "ilm_lightning"):
        outcomes, report = teach(
            drafts("summary"), ITEMS, teacher, store, Lesson("m", SETTINGS, requests_per_minute=10)
        )
    assert {outcome.target for outcome in outcomes.values()} == {TEXT}
    assert report["targets"] == report["asked"] == 30
    assert report["usage"] == {"answers": 30, "prompt_tokens": 2700, "answer_tokens": 1200}
    assert report["served_by"] == {"tiny-7 at here": 30}
    assert report["prompts"].startswith("prompts-")
    # the forecast comes before the first request
    assert "30 questions, 0 answered before, 30 to be sent: about" in caplog.text
    assert "at most 3,000 answer tokens, at least 3m00s" in caplog.text


def test_unfit_answers_are_asked_again_with_a_note_then_left_out(store: AnswerStore) -> None:
    def reply(request: Request) -> Answer | None:
        number = int(request.content.split("Odd Title ")[1].split(" ")[0])
        again = "An earlier answer" in request.content
        if number < 3:
            return Answer("I cannot write that." if not again else TEXT)
        if number == 3:
            return Answer("Too short.")
        return None if number == 4 else Answer(TEXT)

    teacher = Scripted(reply)
    outcomes, report = teach(drafts("summary"), ITEMS, teacher, store, Lesson("m", SETTINGS, tries=3))
    assert report["unfit_answers"] == {"refused": 3, "too short": 3}
    assert report["left_out"] == {"no answer": 1, "too short": 1}
    assert (outcomes["summary:m1"].target, outcomes["summary:m1"].faults) == (TEXT, ["refused"])
    assert (outcomes["summary:m3"].target, outcomes["summary:m3"].reason) == (None, "too short")
    assert outcomes["summary:m4"].reason == "no answer"
    assert len(teacher.asked) == len({request.key for request in teacher.asked}) == 30 + 4 + 1
    # once more: only the unanswered question goes out, and the outcome is the same
    again = Scripted(reply)
    second, _ = teach(drafts("summary"), ITEMS, again, store, Lesson("m", SETTINGS, tries=3))
    assert [request.example_id for request in again.asked] == ["summary:m4"]
    assert second == outcomes


def test_pair_tasks_show_both_films_and_lists_keep_lines(store: AnswerStore) -> None:
    teacher = Scripted(lambda request: Answer(LIST if "numbered" in request.content else TEXT))
    made = drafts("similarities", "five_positive_characteristics")
    outcomes, _ = teach(made, ITEMS, teacher, store, Lesson("m", SETTINGS))
    assert "Odd Title 4" in teacher.asked[3].content
    assert "Odd Title 3" in teacher.asked[3].content
    assert outcomes["five_positive_characteristics:m0"].target == LIST


def test_equal_questions_are_asked_once(store: AnswerStore) -> None:
    twins = [*ITEMS, Item(30, "twin", "Odd Title 0", 1950, ("Drama",))]
    teacher = Scripted()
    outcomes, _ = teach(
        [Draft("summary", 0, None, "train"), Draft("summary", 30, None, "train")], twins, teacher, store, Lesson("m")
    )
    assert len(teacher.asked) == 1
    assert outcomes["summary:twin"].target == outcomes["summary:m0"].target == TEXT


def test_a_limit_of_requests_ends_before_the_first(store: AnswerStore) -> None:
    teacher = Scripted()
    with pytest.raises(TeacherError, match=r"30 requests.*teacher.max_requests=0"):
        teach(drafts("summary"), ITEMS, teacher, store, Lesson("m", SETTINGS, max_requests=0))
    assert teacher.asked == []
    bad = Scripted(lambda _: Answer(""))
    with pytest.raises(TeacherError, match=r"60 requests.*teacher.max_requests=40"):
        teach(drafts("summary"), ITEMS, bad, store, Lesson("m", SETTINGS, max_requests=40))
    assert len(bad.asked) == 30


def test_too_many_left_out_is_an_error_that_costs_nothing_to_mend(store: AnswerStore) -> None:
    teacher = Scripted(lambda _: Answer("Brief."))
    with pytest.raises(TeacherError, match=r"30 of 30 examples got no target.*too short.*max_left_out_share"):
        teach(drafts("summary"), ITEMS, teacher, store, Lesson("m", SETTINGS))
    sent = len(teacher.asked)
    outcomes, _ = teach(drafts("summary"), ITEMS, teacher, store, Lesson("m", SETTINGS, slack=1.0))
    assert outcomes["summary:m0"].target == "Brief."
    assert len(teacher.asked) == sent


def test_a_question_is_named_by_all_that_determines_its_answer() -> None:
    one = Request("m", "Hello", {"temperature": 0.0, "seed": 1}, "summary:1")
    assert len(one.key) == 64
    assert one.key == Request("m", "Hello", {"seed": 1, "temperature": 0.0}, "pitch:2").key
    others = [Request("n", "Hello", one.settings), Request("m", "Hallo", one.settings), Request("m", "Hello", {})]
    assert len({one.key, *(other.key for other in others)}) == 4


def test_the_store_keeps_the_first_answer_and_all_signs(tmp_path: Path) -> None:
    path = store_path(tmp_path, "org/../Model: 7B")
    assert path.parent == tmp_path
    request = Request("m", "Frage \ud800 „é“\n", {}, "x")
    with AnswerStore(path) as store, AnswerStore(path) as other:
        store.put([(request, Answer("eins \u2028 日本", "stop", 1, 2, "s", "u", 0.5))])
        other.put([(request, Answer("zwei"))])
        assert other.get(request) == Answer("eins \u2028 日本", "stop", 1, 2, "s", "u", 0.5)
        assert request in other
        assert len(other) == 1
        assert other.get(Request("m", "else", {})) is None


def test_a_kill_in_the_middle_of_a_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    code = f"""
import os, signal
from pathlib import Path
from ilm_lightning.tasks.teachers.request import Answer, Request
from ilm_lightning.tasks.teachers.store import AnswerStore
store = AnswerStore(Path({str(path)!r}))
store.put([(Request("m", "one", {{}}), Answer("kept"))])
def dying():
    yield Request("m", "two", {{}}), Answer("x" * 1_000_000)
    yield Request("m", "three", {{}}), Answer("x" * 1_000_000)
rows = list(dying())
store._connection.execute("BEGIN IMMEDIATE")
store._connection.execute("PRAGMA cache_spill=1")
for request, answer in rows:
    store._connection.execute("INSERT INTO answers VALUES (?, ?)", (request.key, answer.text))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -9
    with AnswerStore(path) as store:
        assert len(store) == 1
        assert store.get(Request("m", "one", {})) == Answer("kept")
        store.put([(Request("m", "two", {}), Answer("now"))])
        assert len(store) == 2


def test_unusable_stores_are_named_with_a_way_out(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(b"no database at all " * 100)
    with pytest.raises(TeacherError, match=r"damaged.sqlite.*move it away"):
        AnswerStore(damaged)
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(TeacherError, match="ILM_CACHE"):
        AnswerStore(blocked / "answers.sqlite")
    path = tmp_path / "odd.sqlite"
    with AnswerStore(path) as store:
        store.put([(Request("m", "q", {}), Answer("a"))])
        store._connection.execute("UPDATE answers SET record = '[]'")
        assert store.get(Request("m", "q", {})) is None


def test_two_processes_write_into_one_store(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    code = """
import sys
from pathlib import Path
from ilm_lightning.tasks.teachers.request import Answer, Request
from ilm_lightning.tasks.teachers.store import AnswerStore
with AnswerStore(Path(sys.argv[1])) as store:
    for n in range(40):
        store.put([(Request(sys.argv[2], f"{n}", {}), Answer("a"))])
"""
    running = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in "ab"]
    assert [process.wait(30) for process in running] == [0, 0]
    with AnswerStore(path) as store:
        assert len(store) == 80
