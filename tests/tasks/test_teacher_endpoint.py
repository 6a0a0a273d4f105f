"""The endpoint teacher against a server that speaks the protocol and fails in every way; nothing sleeps for real."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ilm_lightning.tasks.teachers.endpoint import (
    ASKED_TOO_OFTEN,
    NO_ANSWER,
    REJECTED,
    EndpointTeacher,
    endpoint_teacher,
)
from ilm_lightning.tasks.teachers.errors import TeacherError
from ilm_lightning.tasks.teachers.pace import Pace
from ilm_lightning.tasks.teachers.request import Request
from ilm_lightning.tasks.teachers.store import AnswerStore
from ilm_lightning.tasks.teachers.wire import Wire, completions_url, read_key
from tasks.teacher_server import TEXT, ChatServer, Fault, chat_server

KEY = "sk-very-secret-0123456789"


@dataclass
class Clock:
    """Time that passes only when somebody sleeps."""

    time: float = 0.0
    slept: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        with self.lock:
            self.time += seconds
            self.slept.append(seconds)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnswerStore]:
    with AnswerStore(tmp_path / "answers.sqlite") as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


def teacher_at(url: str, clock: Clock, **settings: object) -> EndpointTeacher:
    pace = settings.pop("pace", None) or Pace(now=clock.now)
    wire = Wire(completions_url(url), settings.pop("key", None), float(str(settings.pop("timeout", 5.0))), clock.now)
    return EndpointTeacher(wire, pace=pace, sleep=clock.sleep, draw=lambda: 1.0, **({"concurrency": 1} | settings))


def questions(count: int, **settings: object) -> list[Request]:
    return [Request("tiny", f"Question {n}?", {"max_tokens": 64, "temperature": 0.0} | settings) for n in range(count)]


def test_many_questions_at_once_each_asked_and_kept_once(server: ChatServer, store: AnswerStore, clock: Clock) -> None:
    asked = questions(40)
    server.hold_first = True
    assert teacher_at(server.url, clock, concurrency=8).answer(asked, store) == {}
    assert sorted(server.questions()) == sorted(request.content for request in asked)
    assert server.bodies[0].keys() == {"model", "messages", "max_tokens", "temperature"}
    assert 1 < server.most_at_once <= 8
    answer = store.get(asked[7])
    assert answer is not None
    assert (answer.text, answer.finish, answer.prompt_tokens, answer.served_by) == (TEXT, "stop", 100, "tiny-7")
    # asked again: nothing is sent, not even a knock
    knocks = server.knocks
    assert teacher_at(server.url, clock).answer(asked, store) == {}
    assert (len(server.bodies), server.knocks) == (40, knocks)


@pytest.mark.parametrize(
    ("fault", "waits"),
    [
        (Fault(429, headers={"Retry-After": "7"}), [8.0]),
        (Fault(503, headers={"Retry-After": "0"}), [1.0]),
        (Fault(429), [1.0]),
        (Fault(500), [1.0]),
        (Fault(200, b"x" * 500, cut=100), [1.0]),
        (Fault(200, b'{"choices": [{"message"'), [1.0]),
        (Fault(200, b'{"choices": []}'), [1.0]),
        (Fault(200, b"[1, 2]"), [1.0]),
        (Fault(200, b"[" * 100_000), [1.0]),
        (Fault(200, b'{"error": {"code": 502, "message": "upstream"}}'), [1.0]),
        (Fault(200, b"\xff\xfe not text"), [1.0]),
    ],
    ids=["429+wait", "503+0", "429", "500", "cut", "half", "empty", "list", "deep", "error in 200", "bytes"],
)
def test_a_failure_that_passes_is_waited_out(
    fault: Fault, waits: list[float], server: ChatServer, store: AnswerStore, clock: Clock
) -> None:
    server.faults = [fault]
    assert teacher_at(server.url, clock).answer(questions(1), store) == {}
    assert len(server.bodies) == 2
    assert clock.slept == waits
    assert len(store) == 1


def test_a_slow_answer_counts_as_lost_and_is_asked_again(server: ChatServer, store: AnswerStore, clock: Clock) -> None:
    server.faults = [Fault(hang=True)]
    assert teacher_at(server.url, clock, timeout=0.1).answer(questions(1), store) == {}
    assert len(server.bodies) == 2
    assert clock.slept == [1.0]


def test_signs_of_life_without_an_end_do_not_hold_the_run(store: AnswerStore) -> None:
    times = iter(range(0, 1000, 40))
    wire = Wire("http://127.0.0.1:9/v1/chat/completions", None, 120.0, lambda: float(next(times)))

    class Trickle:
        length = None

        def read1(self, _: int) -> bytes:
            return b" "

    with pytest.raises(Exception, match="no whole answer within 120 seconds"):
        wire._read(Trickle(), 0.0)  # type: ignore[arg-type]


def test_waits_double_and_a_hopeless_question_does_not_stop_the_others(
    server: ChatServer, store: AnswerStore, clock: Clock
) -> None:
    server.faults = [Fault(500)] * 4
    asked = questions(3)
    assert teacher_at(server.url, clock, attempts=4).answer(asked, store) == {asked[0].key: NO_ANSWER}
    assert clock.slept == [1.0, 2.0, 4.0]
    assert len(store) == 2
    # the same command asks for the missing one alone
    assert teacher_at(server.url, clock).answer(asked, store) == {}
    assert server.questions()[-1] == asked[0].content
    assert len(server.bodies) == 7


@dataclass
class CrowdClock(Clock):
    """A clock for two askers: the first to sleep sleeps until the other one sleeps too, or has asked all."""

    asleep: threading.Event = field(default_factory=threading.Event)
    awake: threading.Event = field(default_factory=threading.Event)

    def sleep(self, seconds: float) -> None:
        if self.asleep.is_set():
            super().sleep(seconds)
            self.awake.set()
            return
        self.asleep.set()
        assert self.awake.wait(20)
        super().sleep(seconds)


@pytest.mark.parametrize(
    ("headers", "pause"), [({"Retry-After": "30"}, 30.0), ({}, 1.0)], ids=["Retry-After", "without"]
)
def test_a_pause_for_one_asker_holds_everybody(
    headers: dict[str, str], pause: float, server: ChatServer, store: AnswerStore
) -> None:
    clock, came = CrowdClock(), []

    def reply(_: dict[str, object]) -> str:
        # the second question is answered when the first asker has been told to wait
        assert clock.asleep.wait(20)
        came.append(clock.time)
        if len(came) == 5:
            clock.awake.set()
        return TEXT

    server.reply, server.hold_first = reply, True
    server.faults = [Fault(429, headers=headers)]
    # one's sleep passes for the other too, and is no slow answer
    assert teacher_at(server.url, clock, concurrency=2, timeout=1000).answer(questions(6), store) == {}
    # all but the one that was under way already
    assert min(came[1:]) >= pause
    assert (came[0], len(came)) == (0, 6)


def test_a_pause_is_the_same_for_all_places(clock: Clock) -> None:
    pace = Pace(now=clock.now)
    pace.pause(12)
    assert pace.reserve(1) == 12
    assert pace.held() == 12


def test_a_limit_per_minute_costs_no_question(server: ChatServer, store: AnswerStore, clock: Clock) -> None:
    taken: Counter[int] = Counter()

    def limited(_: dict[str, object]) -> Fault | None:
        minute = int(clock.time // 60)
        taken[minute] += 1
        return Fault(429) if taken[minute] > 20 else None

    server.fault_of = limited
    asked = questions(60)
    assert teacher_at(server.url, clock).answer(asked, store) == {}
    assert len(store) == 60
    assert clock.time >= 120


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "1"}], ids=["without", "Retry-After"])
def test_an_endpoint_that_is_always_asked_too_often_ends_the_run_after_two_minutes(
    headers: dict[str, str], server: ChatServer, store: AnswerStore, clock: Clock
) -> None:
    server.fault_of = lambda _: Fault(429, headers=headers)
    with pytest.raises(TeacherError, match=r"is asked too often.*HTTP 429.*set teacher\.requests_per_minute") as told:
        teacher_at(server.url, clock).answer(questions(9), store)
    assert "start the server" not in str(told.value)
    assert server.questions().count("Question 0?") > 6
    # the first one's patience is that of all
    assert [server.questions().count(f"Question {n}?") for n in range(1, 9)] == [1, 1, 1, 1, 0, 0, 0, 0]
    assert 120 <= clock.time < 300


def test_one_question_that_is_always_too_much_is_left_out(server: ChatServer, store: AnswerStore, clock: Clock) -> None:
    asked = questions(40)
    server.fault_of = lambda body: Fault(429) if body["messages"][0]["content"] == asked[3].content else None
    assert teacher_at(server.url, clock, attempts=2).answer(asked, store) == {asked[3].key: ASKED_TOO_OFTEN}
    assert len(store) == 39


def test_other_failures_count_apart_from_being_asked_too_often(
    server: ChatServer, store: AnswerStore, clock: Clock
) -> None:
    server.faults = [Fault(429)] * 5 + [Fault(500), Fault(429)]
    assert teacher_at(server.url, clock, attempts=2).answer(questions(1), store) == {}
    assert clock.slept == [1.0, 2.0, 4.0, 8.0, 16.0, 1.0, 32.0]


def test_a_daily_limit_ends_the_run_with_all_answers_kept(server: ChatServer, store: AnswerStore, clock: Clock) -> None:
    asked = questions(5)
    teacher_at(server.url, clock).answer(asked[:2], store)
    server.faults = [Fault(429, headers={"Retry-After": "7200"})]
    with pytest.raises(TeacherError, match=r"wait 120 minutes.*kept"):
        teacher_at(server.url, clock).answer(asked, store)
    assert len(store) == 2
    assert clock.slept == []


def test_server_gone_for_good_is_told_with_url_and_what_to_do(
    server: ChatServer, store: AnswerStore, clock: Clock
) -> None:
    server.faults = [Fault(500)] * 100
    with pytest.raises(TeacherError, match=f"{server.url}.*5 questions in a row.*start the server") as told:
        teacher_at(server.url, clock, attempts=2).answer(questions(20), store)
    assert "something broke" in str(told.value)
    assert len(server.bodies) == 10


def test_endpoint_down_is_told_in_the_first_second(
    store: AnswerStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    start = time.monotonic()
    with pytest.raises(TeacherError, match=f"{url}/v1/chat/completions cannot be reached: Connection refused.*start"):
        teacher_at(url, clock).answer(questions(1), store)
    assert time.monotonic() - start < 1

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(TeacherError, match="host not found"):
        teacher_at("http://no-such-host.invalid", clock).wire.check()


@pytest.mark.parametrize("where", ["models", "chat"])
def test_wrong_key_is_not_retried_and_never_shown(
    where: str, server: ChatServer, store: AnswerStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    echo = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}, or sk-ver****6789."}}).encode()
    server.models_status = 401 if where == "models" else 404
    server.faults = [Fault(401, echo)] * 9
    with caplog.at_level(logging.DEBUG), pytest.raises(TeacherError, match="refuses the API key") as told:
        teacher_at(server.url, clock, key=KEY).answer(questions(9), store)
    assert len(server.bodies) == (0 if where == "models" else 1)
    assert clock.slept == []
    assert "teacher.api_key_env" in str(told.value)
    assert (
        "secret" not in f"{told.value!r}{told.value.__cause__!r}{caplog.text}{teacher_at(server.url, clock, key=KEY)}"
    )
    assert "6789" not in str(told.value)


def test_the_key_goes_to_the_endpoint_and_nowhere_else(server: ChatServer, tmp_path: Path, clock: Clock) -> None:
    with AnswerStore(tmp_path / "a.sqlite") as store:
        teacher_at(server.url, clock, key=KEY).answer(questions(2), store)
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert all(b"secret" not in path.read_bytes() for path in tmp_path.iterdir())


def test_a_redirect_is_told_and_not_followed(server: ChatServer, store: AnswerStore, clock: Clock) -> None:
    with chat_server() as elsewhere:
        server.faults = [Fault(307, headers={"Location": f"{elsewhere.url}/v1/chat/completions"})]
        with pytest.raises(TeacherError, match=r"moved to http://127.0.0.1"):
            teacher_at(server.url, clock, key=KEY).answer(questions(1), store)
        assert elsewhere.bodies == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            Fault(404, b'{"error": {"message": "model tiny does not exist"}}'),
            "model tiny does not exist.*teacher.model",
        ),
        (Fault(402), "wants payment"),
        (Fault(429, b'{"error": {"message": "pay", "code": "insufficient_quota"}}'), "wants payment"),
    ],
)
def test_what_no_waiting_mends_ends_at_once(
    fault: Fault, message: str, server: ChatServer, store: AnswerStore, clock: Clock
) -> None:
    server.faults = [fault]
    with pytest.raises(TeacherError, match=message):
        teacher_at(server.url, clock).answer(questions(3), store)
    assert len(server.bodies) == 1


def test_rejected_questions_are_left_out_unless_all_are(server: ChatServer, store: AnswerStore, clock: Clock) -> None:
    asked = questions(4)
    server.faults = [Fault(400, b'{"error": {"message": "content policy"}}')]
    assert teacher_at(server.url, clock).answer(asked, store) == {asked[0].key: REJECTED}
    server.faults = [Fault(400, b'{"error": "max_tokens is not known"}')] * 9
    with pytest.raises(TeacherError, match=r"takes no question.*max_tokens is not known"):
        teacher_at(server.url, clock).answer(questions(9, seed=1), store)


def test_one_failure_ends_a_crowd_and_what_was_under_way_is_kept(
    server: ChatServer, store: AnswerStore, clock: Clock
) -> None:
    server.faults = [Fault(401)]
    with pytest.raises(TeacherError, match="refuses the API key"):
        teacher_at(server.url, clock, concurrency=4).answer(questions(200), store)
    assert len(server.bodies) < 100
    assert len(store) == len(server.bodies) - 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("teacher")]


def test_a_run_that_ends_does_not_sit_out_a_pause(server: ChatServer, store: AnswerStore) -> None:
    # the first is told to wait when the second is under way, which ends the run; real waits, none of which is sat out
    server.hold_first = True
    server.faults = [Fault(429, headers={"Retry-After": "20"}), Fault(401)]
    start = time.monotonic()
    with pytest.raises(TeacherError, match="refuses the API key"):
        endpoint_teacher(server.url, None, concurrency=2).answer(questions(8), store)
    assert time.monotonic() - start < 10
    assert len(server.bodies) == 2


def test_interrupt_keeps_what_was_under_way(
    server: ChatServer, store: AnswerStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(found: object, *_: object) -> Iterator[object]:
        yield next(iter(found))  # type: ignore[call-overload]
        raise KeyboardInterrupt

    monkeypatch.setattr("ilm_lightning.tasks.teachers.endpoint.track", interrupted)
    with pytest.raises(KeyboardInterrupt):
        teacher_at(server.url, clock, concurrency=3).answer(questions(300), store)
    assert len(store) == len(server.bodies) < 300


def test_limits_per_minute_space_the_questions(server: ChatServer, store: AnswerStore, clock: Clock) -> None:
    teacher_at(server.url, clock, pace=Pace(30, 0, clock.now)).answer(questions(5), store)
    assert clock.slept == [2.0] * 4
    # 4 + 64 tokens are reserved a question, the endpoint tells that it used 150
    slow = Clock()
    teacher_at(server.url, slow, pace=Pace(0, 300, slow.now)).answer(questions(3, seed=2), store)
    assert slow.slept == [pytest.approx(30.0)] * 2


def test_settings_of_null_leave_the_request(server: ChatServer, store: AnswerStore, clock: Clock) -> None:
    asked = questions(1, max_tokens=None, max_completion_tokens=80, reasoning={"effort": "low"})
    teacher_at(server.url, clock).answer(asked, store)
    assert server.bodies[0] == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Question 0?"}],
        "temperature": 0.0,
        "max_completion_tokens": 80,
        "reasoning": {"effort": "low"},
    }


@pytest.mark.parametrize(
    ("message", "text", "finish"),
    [
        ({"content": [{"type": "text", "text": "In "}, {"type": "text", "text": "parts."}]}, "In parts.", "stop"),
        ({"content": None, "refusal": "No."}, "", "content_filter"),
        ({"content": 7}, "", "stop"),
    ],
)
def test_other_shapes_of_answers_are_understood(message: object, text: str, finish: str, server: ChatServer) -> None:
    body = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": None}
    server.faults = [Fault(200, json.dumps(body).encode())]
    answer = Wire(completions_url(server.url)).ask({"messages": [{"content": ""}]})
    assert (answer.text, answer.finish, answer.prompt_tokens) == (text, finish, None)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://user:sk-pass@host/v1", "holds a secret"),
        ("https://host/v1?api-key=sk-pass", "holds a secret"),
        ("ftp://host/v1", "no http or https"),
        ("host:8000", "no http or https"),
        ("http://host:port/v1", "no address|not an address"),
        ("http://a..b/v1", r"teacher.url=http://a\.\.b/v1: 'a\.\.b' is no host's name .*; correct it"),
        (f"http://{'x' * 70}.com/v1", "is no host's name"),
        ("http://host/v 1", "holds spaces or signs that no address has"),
        ("http://host/\u00e9/v1", "holds spaces or signs that no address has"),
    ],
)
def test_unusable_addresses_are_refused_without_their_secret(url: str, message: str) -> None:
    with pytest.raises(TeacherError, match=message) as told:
        completions_url(url)
    assert "sk-pass" not in str(told.value)


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    assert read_key(None) is None
    with pytest.raises(TeacherError, match=r"TEACHER_KEY.*not set"):
        read_key("TEACHER_KEY")
    monkeypatch.setenv("TEACHER_KEY", f" {KEY}\n")
    assert read_key("TEACHER_KEY") == KEY
    monkeypatch.setenv("TEACHER_KEY", "two lines\nsecret")
    with pytest.raises(TeacherError, match="TEACHER_KEY") as told:
        read_key("TEACHER_KEY")
    assert "secret" not in str(told.value)


def test_a_key_over_plain_http_to_elsewhere_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    endpoint_teacher("http://example.invalid/v1", KEY)
    assert "unencrypted" in caplog.text
    assert KEY not in caplog.text
    caplog.clear()
    endpoint_teacher("http://127.0.0.1:8000", KEY)
    endpoint_teacher("https://example.invalid/v1", KEY)
    assert caplog.text == ""


ASK = """
import sys
from pathlib import Path
from ilm_lightning.tasks.teachers.endpoint import endpoint_teacher
from ilm_lightning.tasks.teachers.request import Request
from ilm_lightning.tasks.teachers.store import AnswerStore
url, path, count = sys.argv[1:]
asked = [Request("tiny", f"Question {n}?", {"max_tokens": 64}) for n in range(int(count))]
with AnswerStore(Path(path)) as store:
    endpoint_teacher(url, None, concurrency=4).answer(asked, store)
"""


def test_killed_in_the_middle_nothing_answered_is_asked_twice(server: ChatServer, tmp_path: Path) -> None:
    path, count = tmp_path / "answers.sqlite", 60
    arguments = [sys.executable, "-c", ASK, server.url, str(path), str(count)]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE)
    half = threading.Event()

    def reply(body: dict[str, object]) -> str:
        if len(server.bodies) >= count // 2:
            half.set()
            # the killed asker never sees this one
            server.closing.wait(0.2)
        return TEXT

    server.reply = reply
    assert half.wait(20)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with AnswerStore(path) as store:
        kept = len(store)
        assert 0 < kept < count
        answered = {n for n in range(count) if Request("tiny", f"Question {n}?", {"max_tokens": 64}) in store}
    first = len(server.bodies)
    server.reply = lambda _: TEXT
    subprocess.run(arguments, check=True)
    again = {int(text.split()[1][:-1]) for text in server.questions()[first:]}
    assert again == set(range(count)) - answered
    assert len(server.bodies) - first == len(again)
