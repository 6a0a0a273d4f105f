"""Questions that no asking answers, beside those that are answered: the run goes on, also when it is resumed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ilm_lightning.engine.stages import teach
from ilm_lightning.tasks.teachers.endpoint import NO_ANSWER, REJECTED
from ilm_lightning.tasks.teachers.errors import TeacherError
from ilm_lightning.tasks.teachers.store import AnswerStore
from tasks.teacher_server import ChatServer, Fault, chat_server
from tasks.test_teacher_endpoint import Clock, questions, teacher_at

POLICY = b'{"error": {"message": "content policy"}}'
ASKED = questions(60)
HOPELESS = ASKED[::10]


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnswerStore]:
    with AnswerStore(tmp_path / "answers.sqlite") as opened:
        yield opened


def only(fault: Fault) -> Callable[[dict[str, Any]], Fault | None]:
    contents = {request.content for request in HOPELESS}
    return lambda body: fault if body["messages"][0]["content"] in contents else None


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize(
    ("fault", "reason", "sent"),
    [
        (Fault(400, POLICY), REJECTED, 6),
        (Fault(403, POLICY), REJECTED, 6),
        (Fault(500), NO_ANSWER, 12),
        (Fault(200, b"x" * 500, cut=100), NO_ANSWER, 12),
    ],
    ids=["400", "403", "500", "cut"],
)
def test_hopeless_questions_cost_their_own_sending_alone_when_resumed(
    fault: Fault, reason: str, sent: int, concurrency: int, server: ChatServer, store: AnswerStore
) -> None:
    settings: dict[str, Any] = {"attempts": 2, "concurrency": concurrency}
    hopeless = {request.key: reason for request in HOPELESS}
    server.fault_of = only(fault)
    # a 403 counts as the key's until a question was answered, so a hopeless one does not come first
    assert teacher_at(server.url, Clock(), **settings).answer([*ASKED[1:], ASKED[0]], store) == hopeless
    assert len(store) == 54
    for _ in range(2):
        before = len(server.bodies)
        assert teacher_at(server.url, Clock(), **settings).answer(ASKED, store) == hopeless
        again = [content for content in server.questions()[before:] if content not in {r.content for r in HOPELESS}]
        assert len(server.bodies) - before == sent + len(again)
        # what was answered before is asked again: after five failures, and at the first that the key may have caused
        assert len(set(again)) == 1
        assert len(again) <= (2 if fault.status == 403 else 1)
    assert len(store) == 54


def test_the_last_ones_of_a_first_run_may_be_hopeless(server: ChatServer, store: AnswerStore) -> None:
    server.fault_of = only(Fault(500))
    asked = sorted(ASKED, key=HOPELESS.__contains__)
    assert len(teacher_at(server.url, Clock(), attempts=2).answer(asked, store)) == len(HOPELESS)
    assert len(store) == 54


@pytest.mark.parametrize(
    ("fault", "message", "most"),
    [
        # five questions of two attempts each and one that was answered before
        (Fault(500), "5 questions in a row got no answer", 12),
        (Fault(400), "takes no question.*teacher.model", 6),
        (Fault(403), "refuses the API key", 2),
        (Fault(401), "refuses the API key", 1),
    ],
    ids=["500", "400", "403", "401"],
)
@pytest.mark.parametrize("concurrency", [1, 4])
def test_an_endpoint_that_is_really_down_ends_a_resumed_run(
    fault: Fault, message: str, most: int, concurrency: int, server: ChatServer, store: AnswerStore
) -> None:
    teacher_at(server.url, Clock()).answer(ASKED[:30], store)
    before = len(server.bodies)
    server.fault_of = lambda _: fault
    with pytest.raises(TeacherError, match=message):
        teacher_at(server.url, Clock(), attempts=2, concurrency=concurrency).answer(ASKED, store)
    sent = len(server.bodies) - before
    assert sent == most if concurrency == 1 else sent <= most + 2 * concurrency
    assert len(store) == 30


def test_a_key_that_is_taken_back_in_the_middle_is_told(server: ChatServer, store: AnswerStore) -> None:
    server.fault_of = lambda _: Fault(403, POLICY) if len(server.bodies) > 10 else None
    with pytest.raises(TeacherError, match=r"refuses the API key \(HTTP 403: content policy\)"):
        teacher_at(server.url, Clock()).answer(ASKED, store)
    assert len(store) == 10
    assert len(server.bodies) == 10 + 5 + 1


def test_a_first_question_that_is_forbidden_ends_the_run_at_once(server: ChatServer, store: AnswerStore) -> None:
    server.fault_of = only(Fault(403))
    with pytest.raises(TeacherError, match="refuses the API key"):
        teacher_at(server.url, Clock()).answer(ASKED, store)
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("fault", "reason"), [(Fault(400, POLICY), REJECTED), (Fault(403, POLICY), REJECTED), (Fault(500), NO_ANSWER)]
)
def test_a_second_round_may_be_hopeless_where_the_first_is_kept(
    fault: Fault, reason: str, server: ChatServer, store: AnswerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [request for request in ASKED if request not in HOPELESS]
    teacher_at(server.url, Clock()).answer(kept, store)
    monkeypatch.setattr(teach, "_endpoint", lambda _, kept: teacher_at(server.url, Clock(), attempts=2, proof=kept))
    context: Any = SimpleNamespace(config=SimpleNamespace(teacher=SimpleNamespace(kind="endpoint")))
    lazy, before = teach._Lazy(context), len(server.bodies)
    assert lazy.answer(kept, store) == {}
    assert (len(server.bodies), lazy.teacher) == (before, None)
    server.fault_of = only(fault)
    assert lazy.answer(HOPELESS, store) == {request.key: reason for request in HOPELESS}
    assert set(server.questions()[before:]) - {request.content for request in HOPELESS} == {kept[0].content}


@pytest.mark.parametrize("status", [400, 403, 500])
def test_a_second_round_at_an_endpoint_that_is_down_ends_the_run(
    status: int, server: ChatServer, store: AnswerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher_at(server.url, Clock()).answer(ASKED[:30], store)
    monkeypatch.setattr(teach, "_endpoint", lambda _, kept: teacher_at(server.url, Clock(), attempts=2, proof=kept))
    context: Any = SimpleNamespace(config=SimpleNamespace(teacher=SimpleNamespace(kind="endpoint")))
    lazy = teach._Lazy(context)
    assert lazy.answer(ASKED[:30], store) == {}
    server.fault_of = lambda _: Fault(status)
    with pytest.raises(TeacherError):
        lazy.answer(ASKED[30:], store)
