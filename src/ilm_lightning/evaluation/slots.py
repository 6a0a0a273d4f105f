"""Slot accuracy: which facts of the item a generated text gets right, kind by kind."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Facts = Mapping[str, Collection[str]]
Mentions = Callable[[str], Facts]
Scores = NDArray[np.float64]

# numbers count as right within this distance; "within 2 years" is PROTOCOL 6, the others are ours
TOLERANCE = {"years": 2, "minutes": 10, "scores": 10}
ROLES = ("directors", "writers", "cast")
# words of the longest name that is looked for
NAME_WORDS = 5


@dataclass(frozen=True)
class SlotScore:
    """How one kind of fact came out.

    Attributes:
        score: mean over the texts whose target names a fact of this kind, from 0 to 1; a text naming none counts 0.
        named: share of those texts that name any fact of this kind.
        n: number of those texts.
    """

    score: float
    named: float
    n: int


@dataclass(frozen=True)
class SlotReport:
    """Slot accuracy of a set of texts.

    Attributes:
        kinds: per kind of fact.
        seen: mean over the kinds that the encoder saw; None without any.
        unseen: mean over the kinds that it did not see; None without any.
    """

    kinds: dict[str, SlotScore]
    seen: float | None
    unseen: float | None


def slot_score(kind: str, named: Collection[str], truth: Collection[str]) -> float:
    """Score one text's facts of one kind.

    Args:
        kind: "genres" scores F1; "years", "minutes" and "scores" the share of named numbers near a true one; others
            the share of named facts that are true.
        named: what the text names.
        truth: what is true of the item.

    Returns:
        From 0 to 1; 0 where the text names none.

    >>> slot_score("genres", {"Crime"}, {"Crime", "Drama"}), slot_score("years", {"1994", "1950"}, {"1995"})
    (0.6666666666666666, 0.5)
    """
    if not named or not truth:
        return 0.0
    if kind in TOLERANCE:
        goals = [int(value) for value in truth]
        return sum(min(abs(int(value) - goal) for goal in goals) <= TOLERANCE[kind] for value in named) / len(named)
    right = len(set(named) & set(truth))
    return 2 * right / (len(set(named)) + len(set(truth))) if kind == "genres" else right / len(set(named))


def slot_accuracy(
    generated: Sequence[str],
    targets: Sequence[str],
    mentions: Mentions,
    truth: Sequence[Facts] | None = None,
    seen: Collection[str] = (),
) -> SlotReport:
    """Score the facts in generated texts, over the texts whose target names a fact of that kind.

    Args:
        generated: ``n`` texts.
        targets: their targets; they say which kinds of fact were asked for.
        mentions: finds the facts that a text names, by kind, as strings.
        truth: per text what is true of its item; None takes what the target names.
        seen: kinds that the item's vector was made from.

    Returns:
        Scores per kind, and their means over kinds seen and not seen by the encoder.

    Raises:
        ValueError: lists of different lengths.
    """
    found: dict[str, list[tuple[float, bool]]] = {}
    for judged in _judged(generated, targets, mentions, truth):
        for kind, verdict in judged.items():
            found.setdefault(kind, []).append(verdict)
    kinds = {
        kind: SlotScore(sum(s for s, _ in rows) / len(rows), sum(n for _, n in rows) / len(rows), len(rows))
        for kind, rows in sorted(found.items())
    }
    return SlotReport(kinds, _mean_of(kinds, seen, True), _mean_of(kinds, seen, False))


@dataclass(frozen=True)
class TextSlots:
    """Slot accuracy text by text, times 100; NaN where a target names no fact of the sort.

    Attributes:
        all: ``[n]``, mean over the kinds of fact that the text's target names.
        seen: ``[n]``, over those kinds that the item's vector was made from.
        unseen: ``[n]``, over the others.
    """

    all: Scores
    seen: Scores
    unseen: Scores


def text_slots(
    generated: Sequence[str],
    targets: Sequence[str],
    mentions: Mentions,
    truth: Sequence[Facts] | None = None,
    seen: Collection[str] = (),
) -> TextSlots:
    """Score each text by the facts that its target asks for, so that conditions can be compared example by example.

    Args:
        generated: as for ``slot_accuracy``.
        targets: the same.
        mentions: the same.
        truth: the same.
        seen: the same.

    Returns:
        One score a text. Their mean weighs texts alike, ``slot_accuracy`` weighs kinds alike.

    Raises:
        ValueError: lists of different lengths.

    >>> find = lambda text: {"genres": {"War"} & set(text.split()), "years": {"1995"} & set(text.split())}
    >>> slots = text_slots(["War"], ["War of 1995"], find, seen={"genres"})
    >>> slots.all.tolist(), slots.seen.tolist(), slots.unseen.tolist()
    ([33.333333333333336], [100.0], [0.0])
    """
    rows: list[tuple[float, float, float]] = []
    for judged in _judged(generated, targets, mentions, truth):
        scores = {kind: 100.0 * score for kind, (score, _) in judged.items()}
        known = [score for kind, score in scores.items() if kind in seen]
        other = [score for kind, score in scores.items() if kind not in seen]
        rows.append((_mean([*known, *other]), _mean(known), _mean(other)))
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return TextSlots(table[:, 0], table[:, 1], table[:, 2])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _judged(
    generated: Sequence[str], targets: Sequence[str], mentions: Mentions, truth: Sequence[Facts] | None
) -> Iterator[dict[str, tuple[float, bool]]]:
    """For each text, per kind of fact that its target names: the score, and whether the text names any."""
    if len(generated) != len(targets) or (truth is not None and len(truth) != len(targets)):
        raise ValueError(f"{len(generated)} texts, {len(targets)} targets: give one target and one truth per text")
    for row, (text, target) in enumerate(zip(generated, targets, strict=True)):
        asked, named = _complete(mentions(target)), _complete(mentions(text))
        facts = asked if truth is None else _complete(truth[row])
        judged = {}
        for kind, wanted in asked.items():
            if wanted:
                own = named.get(kind, ())
                judged[kind] = (slot_score(kind, own, facts.get(kind) or wanted), bool(own))
        yield judged


def remembered(mentions: Mentions) -> Mentions:
    """Look into each distinct text once: targets and borrowed texts come again under every condition.

    Args:
        mentions: finds the facts that a text names.

    Returns:
        The same function with a memory.
    """
    known: dict[str, Facts] = {}

    def find(text: str) -> Facts:
        if text not in known:
            known[text] = mentions(text)
        return known[text]

    return find


def with_people(mentions: Mentions, names: Collection[str]) -> Mentions:
    """Let a vocabulary find people too.

    Args:
        mentions: finds the other kinds of facts.
        names: everybody in the catalogue.

    Returns:
        The same function with "people": the names that a text holds, up to five words long. A name inside a longer
        one is not meant; a "name" without a letter is none.

    >>> found = with_people(lambda text: {}, {"Al Pacino", "Robert Downey Jr.", "Robert", "40"})
    >>> sorted(found("40 minutes with Al Pacino, and Robert Downey Jr.")["people"])
    ['Al Pacino', 'Robert Downey Jr.']
    """
    known = frozenset(name for name in names if any(letter.isalpha() for letter in name))

    def find(text: str) -> Facts:
        words = text.split()
        people: set[str] = set()
        place = 0
        while place < len(words):
            for length in range(min(NAME_WORDS, len(words) - place), 0, -1):
                name = _name_in(" ".join(words[place : place + length]), known)
                if name is not None:
                    people.add(name)
                    place += length
                    break
            else:
                place += 1
        return {**mentions(text), "people": people}

    return find


def _name_in(run: str, known: Collection[str]) -> str | None:
    # the mark after a name may belong to it or to the sentence
    bare = run.strip("()\"',;:!?")
    stripped = bare.removesuffix("'s").removesuffix("’s").rstrip(".")
    return next((form for form in (run, bare, stripped, stripped.removesuffix("'s")) if form in known), None)


def _complete(facts: Facts) -> dict[str, Collection[str]]:
    """A year names its decade too; directors, writers and cast are people."""
    full = dict(facts)
    years = full.get("years", ())
    if years or full.get("decades"):
        full["decades"] = set(full.get("decades", ())) | {f"{int(year) // 10 * 10}s" for year in years}
    if "people" not in full and any(full.get(role) for role in ROLES):
        full["people"] = {name for role in ROLES for name in full.get(role, ())}
    return full


def _mean_of(kinds: Mapping[str, SlotScore], seen: Collection[str], wanted: bool) -> float | None:
    scores = [score.score for kind, score in kinds.items() if (kind in seen) == wanted]
    return sum(scores) / len(scores) if scores else None
