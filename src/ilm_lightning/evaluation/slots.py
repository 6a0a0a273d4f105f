"""Slot accuracy: which facts of the item a generated text gets right, kind by kind."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

Facts = Mapping[str, Collection[str]]
Mentions = Callable[[str], Facts]

# numbers count as right within this distance; "within 2 years" is PROTOCOL 6, the others are ours
TOLERANCE = {"years": 2, "minutes": 10, "scores": 10}
ROLES = ("directors", "writers", "cast")


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
    if len(generated) != len(targets) or (truth is not None and len(truth) != len(targets)):
        raise ValueError(f"{len(generated)} texts, {len(targets)} targets: give one target and one truth per text")
    found: dict[str, list[tuple[float, bool]]] = {}
    for row, (text, target) in enumerate(zip(generated, targets, strict=True)):
        asked, named = _complete(mentions(target)), _complete(mentions(text))
        facts = asked if truth is None else _complete(truth[row])
        for kind, wanted in asked.items():
            goal = facts.get(kind) or wanted
            if wanted:
                own = named.get(kind, ())
                found.setdefault(kind, []).append((slot_score(kind, own, goal), bool(own)))
    kinds = {
        kind: SlotScore(sum(s for s, _ in rows) / len(rows), sum(n for _, n in rows) / len(rows), len(rows))
        for kind, rows in sorted(found.items())
    }
    return SlotReport(kinds, _mean_of(kinds, seen, True), _mean_of(kinds, seen, False))


def with_people(mentions: Mentions, names: Collection[str]) -> Mentions:
    """Let a vocabulary find people too.

    Args:
        mentions: finds the other kinds of facts.
        names: everybody in the catalogue.

    Returns:
        The same function with "people": the names that a text holds, up to five words long.

    >>> found = with_people(lambda text: {}, {"Al Pacino", "Robert Downey Jr."})
    >>> sorted(found("With Al Pacino, and Robert Downey Jr.")["people"])
    ['Al Pacino', 'Robert Downey Jr.']
    """
    known = frozenset(names)

    def find(text: str) -> Facts:
        words = text.split()
        runs = (
            " ".join(words[at:end]) for at in range(len(words)) for end in range(at + 1, min(at + 5, len(words)) + 1)
        )
        # the mark after a name may belong to it or to the sentence
        forms = {
            form for run in runs for form in (run.strip("()\"',;:!?"), run.strip("()\"',;:!?.").removesuffix("'s"))
        }
        return {**mentions(text), "people": known & forms}

    return find


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
