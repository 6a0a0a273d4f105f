"""Tests behind the claims: one row above another, two rows equal; both scorers have to agree (PROTOCOL 6 and 7)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ilm_lightning.evaluation.claims import LEAST_MOVIES, too_few
from ilm_lightning.evaluation.components import Components, needed
from ilm_lightning.reporting.columns import Column
from ilm_lightning.reporting.comparison import Comparison
from ilm_lightning.reporting.groups import Group
from ilm_lightning.reporting.machines import several
from ilm_lightning.reporting.pairing import (
    LEAST_SEEDS,
    Row,
    best_pair,
    candidates,
    differently,
    not_paired,
    own_settings,
    to_run,
)
from ilm_lightning.reporting.protocol import WITHOUT
from ilm_lightning.reporting.scores import ITEM, ITEM_SECOND, SC, SECOND
from ilm_lightning.reporting.tables import measure_name

MARGIN = 0.5
"""Differences below half a point of SC do not matter."""
Reader = Callable[[Group, Column, Column, str], str]


class Verdict(StrEnum):
    """What the runs say of a claim."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Reading:
    """What one scorer says, with its numbers.

    Attributes:
        scorer: the measure's name.
        says: yes, no, open, or of an equality "no veto": no difference was found by a measure without a margin.
        numbers: in words.
        side: of an equality that it contradicts, 1 where the first row lies above and -1 below; else 0.
    """

    scorer: str
    says: str
    numbers: str
    side: int = 0


@dataclass(frozen=True)
class Part:
    """One test of a claim.

    Attributes:
        text: what is tested.
        verdict: of both scorers together.
        readings: one a scorer.
        why: why it is undecided, and what would decide it.
        missing: runs that are not there.
        counted: whether the claim's verdict rests on it.
    """

    text: str
    verdict: Verdict
    readings: tuple[Reading, ...]
    why: str = ""
    missing: tuple[str, ...] = ()
    counted: bool = True


def judge(readings: Sequence[Reading]) -> tuple[Verdict, str]:
    """Take SC and the second measures together.

    Args:
        readings: SC's first, then the second scorer's, or ROUGE-L's and slot accuracy's in its place.

    Returns:
        Confirmed or refuted where SC and at least one second measure say so and none says the contrary; what SC alone
        says is undecided. Where SC supports an equality, a second measure without a margin agrees unless it finds a
        difference; measures that find differences to opposite sides do not agree.
    """
    if len(readings) < 2:
        return Verdict.UNDECIDED, "no second scorer is at hand"
    first, others = readings[0].says, {reading.says for reading in readings[1:]}
    if first == "yes" and others & {"yes", NO_VETO} and "no" not in others:
        return Verdict.CONFIRMED, ""
    opposite = len({reading.side for reading in readings if reading.says == "no"}) > 1
    if first == "no" and "no" in others and "yes" not in others and not opposite:
        return Verdict.REFUTED, ""
    sides = "; ".join(f"{r.scorer} {_SAID[r.says]}{_SIDE[r.side]}" for r in readings)
    open_ = {first, *others} <= {"open", NO_VETO}
    return Verdict.UNDECIDED, "no scorer decides" if open_ else f"the scorers do not agree: {sides}"


NO_VETO = "no veto"
_SAID = {
    "yes": "supports it", "no": "contradicts it", "open": "does not decide", NO_VETO: "does not contradict it",
}  # fmt: skip
_SIDE = {1: ", the first above", 0: "", -1: ", the first below"}


def decide_greater(
    group: Group | None, first: Row, second: Row, measures: tuple[str, ...], counted: bool = True
) -> Part:
    """Whether one row lies above another.

    Yes: both 95 % intervals lie above zero. No: both lie below it, or the two are equal within half a point.
    """
    text = f"{first.label} above {second.label}"
    return _decide(group, first, second, measures, counted, text, greater, margin=None)


def decide_equal(group: Group | None, first: Row, second: Row, measures: tuple[str, ...], counted: bool = True) -> Part:
    """Whether two rows are equal within half a point.

    Yes: both 90 % intervals lie within the margin. No: both 95 % intervals lie beyond it, on the same side by all
    measures. A measure without a margin cannot show an equality: it contradicts one by a difference beyond noise.
    """
    text = f"{first.label} equals {second.label} within {MARGIN}"
    return _decide(group, first, second, measures, counted, text, equal, margin=MARGIN)


def greater(group: Group, first: Column, second: Column, measure: str) -> str:
    """One scorer's reading: yes, no or open."""
    found = group.compare(first, second, measure)
    assert found is not None
    if found.low > 0:
        return "yes"
    return "no" if not_above(group, found, measure) else "open"


def not_above(group: Group, found: Comparison, measure: str) -> bool:
    """Whether a difference lies below 0, or within the margin where it is one: half a point is of SC alone."""
    return found.high < 0 or (has_margin(group, measure) and found.within(MARGIN))


def has_margin(group: Group, measure: str) -> bool:
    """Whether half a point of a measure is known to matter: of SC, by either scorer."""
    return measure in (SC, ITEM) or (measure in (SECOND, ITEM_SECOND) and group.protocol.second_scorer != WITHOUT)


def equal(group: Group, first: Column, second: Column, measure: str) -> str:
    """One scorer's reading: yes, no, open, or no veto where the measure has no margin."""
    found = group.compare(first, second, measure)
    assert found is not None
    known = has_margin(group, measure)
    if known and found.within(MARGIN):
        return "yes"
    margin = MARGIN if known else 0.0
    if found.low > margin or found.high < -margin:
        return "no"
    return "open" if known else NO_VETO


def _decide(
    group: Group | None,
    first: Row,
    second: Row,
    measures: tuple[str, ...],
    counted: bool,
    text: str,
    read: Reader,
    margin: float | None,
) -> Part:
    missing = tuple(
        to_run(group, row, other) for row, other in ((first, second), (second, first)) if not candidates(group, row)
    )
    if missing or group is None:
        return Part(text, Verdict.UNDECIDED, (), "these runs are missing", missing, counted)
    pair = best_pair(group, first, second, measures[0])
    if pair is None:
        why, missing = not_paired(group, first, second, measures[0])
        return Part(text, Verdict.UNDECIDED, (), why, missing, counted)
    a, b = pair
    text += "".join(map(own_settings, pair)) + other_machines(group, (first, a), (second, b), measures[0])
    if why := differently(a, b):
        return Part(text, Verdict.UNDECIDED, _readings(group, a, b, measures, read), why, (), counted)
    readings = _readings(group, a, b, measures, read)
    verdict, why = judge(readings)
    found = group.compare(a, b, measures[0])
    assert found is not None
    if len(found.seeds) < LEAST_SEEDS:
        verdict, why = Verdict.UNDECIDED, few_seeds(len(found.seeds))
    if few := too_few(found.difference.n_movies):
        verdict, why = Verdict.UNDECIDED, few
    if verdict is Verdict.UNDECIDED:
        compared = {measure_name(group, measure): group.compare(a, b, measure) for measure in measures}
        waited = [(name, one) for name in to_move(readings) if (one := compared[name]) and len(one.seeds) > 1]
        margins = {measure_name(group, measure): margin if has_margin(group, measure) else None for measure in measures}
        why = "; ".join([why, *(f"{name}: {what_it_takes(one, margins[name])}" for name, one in waited)])
    return Part(text, verdict, readings, why, (), counted)


def other_machines(group: Group, ours: tuple[Row, Column], theirs: tuple[Row, Column], measure: str) -> str:
    """What a reader has to know where what is compared comes from several processors."""
    found = group.compare(ours[1], theirs[1], measure)
    seeds = () if found is None else found.seeds
    told = several([(row.label, column.only(seeds).runs) for row, column in (ours, theirs)])
    return f"; on several processors: {told}" if told else ""


def to_move(readings: Sequence[Reading]) -> list[str]:
    """Scorers that a verdict waits for: those still open, but for second measures where one of them has spoken.

    None where two contradict each other: larger samples do not mend that.
    """
    said = {reading.says for reading in readings} - {"open", NO_VETO}
    if len(said) > 1:
        return []
    # who casts no veto against an equality has agreed to it, but not to a difference
    spoken = {"yes", "no"} if "no" in said else {"yes", "no", NO_VETO}
    waited = readings[:1] if any(reading.says in spoken for reading in readings[1:]) else readings
    return [reading.scorer for reading in waited if reading.says not in spoken]


def few_seeds(seeds: int) -> str:
    """Why so few seeds decide nothing."""
    return f"{seeds} seed{'s' if seeds > 1 else ''} of at least {LEAST_SEEDS}: the spread over trainings is not known"


def _readings(group: Group, a: Column, b: Column, measures: tuple[str, ...], read: Reader) -> tuple[Reading, ...]:
    readings = []
    for measure in measures:
        if (found := group.compare(a, b, measure)) is not None:
            says = read(group, a, b, measure)
            # a claim of more has one side alone
            side = (1 if found.difference.mean > 0 else -1) if read is equal and says == "no" else 0
            readings.append(Reading(measure_name(group, measure), says, numbers(group, a, b, measure), side))
    return tuple(readings)


def numbers(group: Group, a: Column, b: Column, measure: str) -> str:
    """Difference, intervals, tasks and seeds in words."""
    found = group.compare(a, b, measure)
    assert found is not None
    d, (low, high) = found.difference, found.student
    return (
        f"{d.mean:+.2f} [{d.low:+.2f}, {d.high:+.2f}], Student's [{low:+.2f}, {high:+.2f}]; above 0 in {found.better} "
        f"of {len(d.tasks)} tasks, beyond noise {found.significant(1)} above and {found.significant(-1)} below; "
        f"{d.n_movies} movies, seeds {', '.join(map(str, found.seeds))}"
    )


def what_it_takes(found: Comparison, margin: float | None, alpha: float = 0.05) -> str:
    """How many movies or seeds would decide at a level, with a power of 80 %."""
    mean, parts = found.difference.mean, found.parts
    if margin is not None:
        texts = [f"to show an equality within {margin}, were the truth 0: {sizes(parts, 0.0, margin, alpha=alpha)}"]
        beyond = abs(mean) - margin
        if beyond >= 0.005:
            told = f"to tell the measured {mean:+.2f} from an equality within {margin}"
            texts.insert(0, f"{told}: {sizes(parts, beyond, None, alpha=alpha)}")
        elif beyond < 0:
            told = f"to show an equality within {margin} at the measured {mean:+.2f}"
            texts.insert(0, f"{told}: {sizes(parts, mean, margin, alpha=alpha)}")
        return "; ".join(texts)
    texts = [f"to tell a difference of {MARGIN} from 0: {sizes(parts, MARGIN, None, alpha=alpha)}"]
    if abs(mean) >= 0.005:
        texts.insert(0, f"to tell the measured {mean:+.2f} from 0: {sizes(parts, mean, None, alpha=alpha)}")
    return "; ".join(texts)


def sizes(parts: Components, effect: float, margin: float | None, unit: str = "movies", alpha: float = 0.05) -> str:
    """Numbers of units and of seeds at which a test would decide, in words; see ``components.needed``.

    Only such as a verdict may rest on: at least ``LEAST_SEEDS`` seeds and ``LEAST_MOVIES`` units. For two runs or more:
    one tells nothing of the spread over trainings.
    """
    ready = replace(parts, n_runs=max(parts.n_runs, LEAST_SEEDS), n_movies=max(parts.n_movies, LEAST_MOVIES))
    found = needed(ready, effect, margin, alpha)
    runs = "no number of seeds" if found.runs is None else f"about {max(found.runs, LEAST_SEEDS):,} seeds"
    seeds = f"{runs} with {ready.n_movies:,} {unit}"
    if parts.n_runs < LEAST_SEEDS and found.runs is not None:
        return seeds
    units = f"no number of {unit}" if found.movies is None else f"about {max(found.movies, LEAST_MOVIES):,} {unit}"
    return f"{units} with {ready.n_runs} seeds, or {seeds}"
