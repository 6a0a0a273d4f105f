"""From drafts of examples to targets: which are asked for, in how many rounds, and what became of each."""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ilm_lightning.data.item import Item
from ilm_lightning.progress import clock
from ilm_lightning.tasks.elm.build import Draft
from ilm_lightning.tasks.teachers.errors import TeacherError
from ilm_lightning.tasks.teachers.prompts import PROMPT_VERSION, teacher_prompt
from ilm_lightning.tasks.teachers.request import Answer, Request
from ilm_lightning.tasks.teachers.rules import RULES_VERSION, note_on, target_of
from ilm_lightning.tasks.teachers.store import AnswerStore

log = logging.getLogger("ilm_lightning")
NOT_ASKED = "not asked for (teacher.max_*_examples)"
NOTHING_KNOWN = "neither title nor description"


class Teacher(Protocol):
    """Answers questions."""

    def answer(self, requests: Sequence[Request], store: AnswerStore) -> dict[str, str]:
        """Put the answers to all questions into the store; returns key -> why of those without one."""


@dataclass(frozen=True)
class Lesson:
    """How targets are asked for.

    Attributes:
        model: what is asked, as `Request.model`.
        settings: what determines an answer, as `Request.settings`.
        tries: how often an example is asked for, the first time included, while its answers are unfit.
        allow_title: whether a target may name the title.
        slack: by which share the asked numbers of words may be missed.
        max_requests: end before a round that would send more than this in all; None: no limit.
        max_left_out_share: end where a larger share of the examples got no target.
        requests_per_minute: for the forecast; 0 where unlimited.
    """

    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    tries: int = 2
    allow_title: bool = False
    slack: float = 0.25
    max_requests: int | None = None
    max_left_out_share: float = 0.2
    requests_per_minute: float = 0


@dataclass
class Outcome:
    """What became of one example.

    Attributes:
        target: the text, or None where it is left out.
        reason: why it is left out.
        faults: what was wrong with its answers, in order.
        key: hash of the question whose answer was taken.
    """

    target: str | None = None
    reason: str | None = None
    faults: list[str] = field(default_factory=list)
    key: str | None = None


def needed(
    drafts: Sequence[Draft],
    items: Sequence[Item],
    most: Mapping[str, int | None],
    movie_order: Callable[[int], str],
) -> list[Draft]:
    """Choose the examples that are asked for.

    Args:
        drafts: all examples that could be made.
        items: the catalogue.
        most: per split how many examples a task; None for all.
        movie_order: sort key of catalogue rows. Held-out examples take the first movies, so that all tasks are scored
            on the same ones; training examples take other movies for each task, so that many movies are seen.

    Returns:
        The chosen drafts, in the order of `drafts`.
    """
    places: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for place, draft in enumerate(drafts):
        known = [items[row] for row in draft.rows]
        if not all(item.title or item.text for item in known):
            continue
        key = _hash(f"{draft.task}:{known[0].item_id}") if draft.split == "train" else movie_order(draft.row)
        places.setdefault((draft.task, draft.split), []).append((key, place))
    chosen = [place for (_, part), found in places.items() for _, place in sorted(found)[: most.get(part)]]
    return [drafts[place] for place in sorted(chosen)]


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def teach(
    drafts: Sequence[Draft], items: Sequence[Item], teacher: Teacher, store: AnswerStore, lesson: Lesson
) -> tuple[dict[str, Outcome], dict[str, Any]]:
    """Get a target for each draft.

    An unfit answer (see `rules`) is asked for again with a note on what was wrong, up to ``lesson.tries`` times; then
    the example is left out and counted.

    Args:
        drafts: the examples that are asked for.
        items: the catalogue.
        teacher: answers.
        store: keeps the answers; what it holds already is not asked.
        lesson: how.

    Returns:
        Outcome per example id, and a report of counts.

    Raises:
        TeacherError: the teacher cannot go on, more requests than ``max_requests`` would be sent, or too many examples
            got no target.
    """
    outcomes = {draft.example_id(items): Outcome() for draft in drafts}
    open_drafts, sent = list(drafts), 0
    usage: Counter[str] = Counter()
    served: Counter[str] = Counter()
    for turn in range(1, lesson.tries + 1):
        requests = {draft.example_id(items): _request(draft, items, outcomes, lesson) for draft in open_drafts}
        # duplicates of a film may give one question
        unique = list({request.key: request for request in requests.values()}.values())
        sent = _forecast(unique, store, lesson, turn, sent)
        failures = teacher.answer(unique, store)
        remaining = []
        for draft in open_drafts:
            name = draft.example_id(items)
            request, outcome = requests[name], outcomes[name]
            answer = store.get(request)
            if answer is None:
                outcome.reason = failures.get(request.key, "no answer")
                continue
            _count(answer, usage, served)
            about = tuple(items[row] for row in draft.rows)
            text, fault = target_of(draft.task, answer, about, lesson.allow_title, lesson.slack)
            if fault is None:
                outcome.target, outcome.key, outcome.reason = text, request.key, None
                continue
            outcome.faults.append(fault)
            outcome.reason = fault
            remaining.append(draft)
        open_drafts = remaining
        if not open_drafts:
            break
    report = _report(outcomes, usage, served)
    _check_share(report, lesson, store)
    return outcomes, report


def _check_share(report: Mapping[str, Any], lesson: Lesson, store: AnswerStore) -> None:
    missing = report["asked"] - report["targets"]
    if missing > lesson.max_left_out_share * report["asked"]:
        raise TeacherError(
            f"{missing:,} of {report['asked']:,} examples got no target ({report['left_out']}), more than "
            f"teacher.max_left_out_share={lesson.max_left_out_share:g}; all answers are kept in {store.path}: look at "
            "them, then raise the share, teacher.tries or teacher.length_slack, or take another model"
        )


def _request(draft: Draft, items: Sequence[Item], outcomes: Mapping[str, Outcome], lesson: Lesson) -> Request:
    name = draft.example_id(items)
    faults = outcomes[name].faults
    note = note_on(faults[-1], draft.task) if faults else ""
    # the second time the same note would give the same question, and a sure teacher the same answer
    note += f" This is attempt {len(faults) + 1}." if len(faults) > 1 else ""
    partner = None if draft.other is None else items[draft.other]
    content = teacher_prompt(draft.task, items[draft.row], partner, lesson.allow_title, note)
    return Request(lesson.model, content, lesson.settings, name)


def _forecast(requests: Sequence[Request], store: AnswerStore, lesson: Lesson, turn: int, sent: int) -> int:
    """Say what will be asked, and stop where that is more than the user allowed; returns what is sent by then."""
    pending = [request for request in requests if request not in store]
    prompt = sum(request.prompt_tokens for request in pending)
    most = len(pending) * int(lesson.settings.get("max_tokens") or 0)
    line = f"teacher {lesson.model}: {len(requests):,} questions" + (f", try {turn}" if turn > 1 else "")
    line += f", {len(requests) - len(pending):,} answered before, {len(pending):,} to be sent"
    if pending:
        line += (
            f": about {prompt:,} prompt tokens, at most {most:,} answer tokens"
            if most
            else f": about {prompt:,} tokens"
        )
    if pending and lesson.requests_per_minute:
        line += f", at least {clock(60 * len(pending) / lesson.requests_per_minute)}"
    log.info("%s", line)
    sent += len(pending)
    if lesson.max_requests is not None and sent > lesson.max_requests:
        raise TeacherError(
            f"{sent:,} requests to the teacher would be sent, teacher.max_requests={lesson.max_requests}: raise "
            "it, or lower teacher.max_train_examples, max_validation_examples or max_test_examples"
        )
    return sent


def _count(answer: Answer, usage: Counter[str], served: Counter[str]) -> None:
    usage["answers"] += 1
    usage["prompt_tokens"] += answer.prompt_tokens or 0
    usage["answer_tokens"] += answer.answer_tokens or 0
    served[" at ".join(part for part in (answer.served_by, answer.source) if part)] += 1


def _report(outcomes: Mapping[str, Outcome], usage: Counter[str], served: Counter[str]) -> dict[str, Any]:
    faults = Counter(fault for outcome in outcomes.values() for fault in outcome.faults)
    left_out = Counter(outcome.reason for outcome in outcomes.values() if outcome.target is None)
    return {
        "prompts": PROMPT_VERSION,
        "rules": RULES_VERSION,
        "asked": len(outcomes),
        "targets": sum(outcome.target is not None for outcome in outcomes.values()),
        "unfit_answers": dict(sorted(faults.items())),
        "left_out": {str(reason): count for reason, count in sorted(left_out.items(), key=lambda pair: str(pair[0]))},
        "usage": dict(usage),
        "served_by": dict(served.most_common()),
    }
