"""A teacher behind an OpenAI-compatible address: many questions at once, paced, repeated after failures."""

import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from ilm_lightning.progress import track
from ilm_lightning.tasks.teachers.errors import TeacherError
from ilm_lightning.tasks.teachers.pace import Pace, backoff
from ilm_lightning.tasks.teachers.request import Answer, Request
from ilm_lightning.tasks.teachers.store import AnswerStore
from ilm_lightning.tasks.teachers.wire import ForbiddenError, PassingError, RejectedError, Wire, completions_url

log = logging.getLogger("ilm_lightning")
LONGEST_WAIT_S = 900.0
"""An endpoint that asks for a longer wait has a daily limit: the run ends and says so."""
PATIENCE_S = 120.0
"""An endpoint that only says for so long that it is asked too often has more than a limit per minute."""
UNANSWERED_IN_A_ROW = 5
"""Questions that fail after every attempt, one after the other, before the endpoint itself is doubted."""
NO_ANSWER = "no answer"
ASKED_TOO_OFTEN = "no answer (asked too often; set teacher.requests_per_minute)"
REJECTED = "rejected by the endpoint"


class _StoppedError(Exception):
    """Another question has ended the run."""


@dataclass
class _Failures:
    """What befell one question.

    Attributes:
        broken: failures other than 429.
        busy: times that the endpoint was asked too often (429).
        busy_from: when the first of these was.
    """

    broken: int = 0
    busy: int = 0
    busy_from: float = 0.0

    def count(self, failure: PassingError, now: float) -> int:
        """Count a failure; returns how many of its sort there were."""
        if not failure.busy:
            self.broken += 1
            return self.broken
        self.busy_from = self.busy_from if self.busy else now
        self.busy += 1
        return self.busy


@dataclass
class EndpointTeacher:
    """Asks an endpoint.

    Attributes:
        wire: the address.
        concurrency: questions under way at the same time.
        pace: the limits per minute.
        attempts: how often a question is sent before it counts as unanswered; where it is asked too often
            (429), as long as others are answered and for two minutes more.
        sleep: how to wait; None: a wait that ends when the run does.
        draw: random numbers from 0 to 1, for jitter.
        proof: a question that was answered before, asked again when the endpoint is doubted; None until one is known.
    """

    wire: Wire
    concurrency: int = 8
    pace: Pace = field(default_factory=Pace)
    attempts: int = 6
    sleep: Callable[[float], None] | None = None
    draw: Callable[[], float] = field(default_factory=lambda: random.Random().random)
    proof: Request | None = None
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _proving: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _failed_in_a_row: int = 0
    _answered: int = 0

    def answer(self, requests: Sequence[Request], store: AnswerStore) -> dict[str, str]:
        """Ask all that the store does not hold; each answer is kept the moment it comes.

        Args:
            requests: the questions.
            store: where answers are kept.

        Returns:
            Key of each question without an answer -> why.

        Raises:
            TeacherError: no use going on: the endpoint is down, refuses the key, or wants a long wait.
        """
        pending = [request for request in requests if request not in store]
        if not pending:
            return {}
        self.wire.check()
        self._stop.clear()
        self._failed_in_a_row = 0
        missing = {request.key for request in pending}
        self.proof = next((request for request in requests if request.key not in missing), self.proof)
        failures: dict[str, str] = {}
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="teacher")
        try:
            asked: dict[Future[str | None], Request] = {pool.submit(self._one, r, store): r for r in pending}
            for done in track(as_completed(asked), len(asked), "asking the teacher"):
                try:
                    reason = done.result()
                except _StoppedError:
                    # the one that ended the run comes as well, perhaps later
                    continue
                if reason is not None:
                    failures[asked[done].key] = reason
        except KeyboardInterrupt:
            log.warning("waiting for the answers under way, which are paid for; interrupt again to leave them")
            raise
        finally:
            # what is under way is waited for and kept; what has not been sent is not sent
            self._stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
        return failures

    def _one(self, request: Request, store: AnswerStore) -> str | None:
        """Ask one question until it is answered or given up; returns why it was given up."""
        try:
            return self._ask(request, store)
        except BaseException:
            # the others end as well
            self._stop.set()
            raise

    def _ask(self, request: Request, store: AnswerStore) -> str | None:
        try:
            answer = self._send(request)
        except RejectedError as rejection:
            return self._rejected(rejection)
        except PassingError as failure:
            return self._unanswered(failure)
        store.put([(request, answer)])
        self._succeeded(request)
        return None

    def _send(self, request: Request) -> Answer:
        """Send one question, again after failures that pass, and raise the last of them."""
        tokens = request.prompt_tokens + int(request.settings.get("max_tokens") or 0)
        failed = _Failures()
        while True:
            self._wait(self.pace.reserve(tokens))
            # once the run ends no wait takes time, so the pause would not pass here
            while (held := self.pace.held()) > 0 and not self._stop.is_set():
                self._wait(held)
            if self._stop.is_set():
                raise _StoppedError
            try:
                answer = self.wire.ask(body_of(request))
            except PassingError as failure:
                times = failed.count(failure, self.pace.now())
                if self._hopeless(failed, failure):
                    raise
                self._before_next(times, failure)
                continue
            used = (answer.prompt_tokens or 0) + (answer.answer_tokens or 0)
            self.pace.correct(tokens, used or tokens)
            self.pace.answered()
            return answer

    def _hopeless(self, failed: _Failures, failure: PassingError) -> bool:
        """Whether a question has failed often enough to be given up."""
        if not failure.busy:
            return failed.broken >= self.attempts
        seconds, times = self.pace.busy_for()
        if times >= self.attempts and seconds >= PATIENCE_S:
            return True
        # others are answered: it may be this one's turn next, or it alone may be above the endpoint's limit
        return failed.busy >= self.attempts and self.pace.now() - failed.busy_from >= LONGEST_WAIT_S

    def _succeeded(self, request: Request) -> None:
        with self._lock:
            self._failed_in_a_row = 0
            self._answered += 1
            self.proof = request

    def _before_next(self, times: int, failure: PassingError) -> None:
        """Wait as long as asked, or longer each time; where the endpoint is asked too often, with all others."""
        jitter = backoff(times, self.draw())
        if failure.wait is not None and failure.wait > LONGEST_WAIT_S:
            raise TeacherError(
                f"the teacher's endpoint {self.wire.url} asks to wait {failure.wait / 60:.0f} minutes ({failure}); "
                "all answers so far are kept: give the same command again then"
            )
        log.debug("%s; failure %d of this question", failure, times)
        # all wait, and never less than asked; the jitter comes on top
        if failure.busy:
            self.pace.busy(failure.wait, self.draw())
        elif failure.wait is not None:
            self.pace.pause(failure.wait)
        self._wait((failure.wait or 0.0) + jitter)

    def _unanswered(self, failure: PassingError) -> str:
        failed, _ = self._failed()
        if failed >= UNANSWERED_IN_A_ROW and not self._still_answers():
            many = f"{failed} questions in a row got no answer, the last one: {failure}"
            raise TeacherError(self.wire.down(many) if not failure.busy else self.wire.asked_too_often(many))
        return ASKED_TOO_OFTEN if failure.busy else NO_ANSWER

    def _rejected(self, rejection: RejectedError) -> str:
        failed, answered = self._failed()
        many = failed >= UNANSWERED_IN_A_ROW
        if isinstance(rejection, ForbiddenError):
            if (many or not answered) and not self._still_answers():
                raise TeacherError(str(rejection))
        elif many and not answered and not self._still_answers():
            raise TeacherError(
                f"the teacher's endpoint {self.wire.url} takes no question ({rejection}); check teacher.model, "
                "teacher.max_answer_tokens and teacher.body"
            )
        log.debug("a question was rejected: %s", rejection)
        return REJECTED

    def _failed(self) -> tuple[int, int]:
        """Count a question without an answer; returns how many came in a row, and how many were answered."""
        with self._lock:
            self._failed_in_a_row += 1
            return self._failed_in_a_row, self._answered

    def _still_answers(self) -> bool:
        """Ask again what was answered before, in this run or an earlier one: is the endpoint at fault?"""
        with self._proving:
            if not self._failed_in_a_row:
                # another question was answered meanwhile
                return True
            if self.proof is None:
                return False
            try:
                self._send(self.proof)
            except (RejectedError, PassingError):
                return False
            self._succeeded(self.proof)
            return True

    def _wait(self, seconds: float) -> None:
        if seconds <= 0:
            return
        if self.sleep is not None:
            self.sleep(seconds)
        else:
            self._stop.wait(seconds)


def body_of(request: Request) -> dict[str, Any]:
    """The JSON that is sent: model, messages and settings; a setting of null is left out."""
    settings: Mapping[str, Any] = request.settings
    return {
        "model": request.model,
        "messages": request.messages,
        **{key: value for key, value in settings.items() if value is not None},
    }


def endpoint_teacher(
    url: str,
    key: str | None,
    *,
    concurrency: int = 8,
    requests_per_minute: float = 0,
    tokens_per_minute: float = 0,
    timeout: float = 120,
    attempts: int = 6,
    proof: Request | None = None,
) -> EndpointTeacher:
    """Set up an endpoint with the real clock.

    Args:
        url: the address, whole or in short.
        key: the API key or None.
        concurrency: questions under way at the same time.
        requests_per_minute: 0 for no limit.
        tokens_per_minute: 0 for no limit.
        timeout: seconds for one answer.
        attempts: sendings of one question.
        proof: a question that was answered before, where one is known.

    Raises:
        TeacherError: an address that cannot be used.
    """
    wire = Wire(completions_url(url), key, timeout)
    if key and wire.url.startswith("http://") and not wire.local:
        log.warning("the API key goes unencrypted to %s: use https where you can", wire.url)
    return EndpointTeacher(wire, concurrency, Pace(requests_per_minute, tokens_per_minute), attempts, proof=proof)
