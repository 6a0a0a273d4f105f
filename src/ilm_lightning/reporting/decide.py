"""Tests behind the claims: one row above another, two rows equal; both scorers have to agree (PROTOCOL 6 and 7)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ilm_lightning.evaluation.claims import too_few
from ilm_lightning.reporting.columns import Column, copies
from ilm_lightning.reporting.comparison import Comparison
from ilm_lightning.reporting.controls import Controls
from ilm_lightning.reporting.groups import Group
from ilm_lightning.reporting.machines import several
from ilm_lightning.reporting.pairing import (
    ASKED_SEEDS,
    LEAST_SEEDS,
    Row,
    best_pair,
    candidates,
    differently,
    elsewhere,
    not_paired,
    not_there,
    own_settings,
    short_of_seeds,
)
from ilm_lightning.reporting.protocol import WITHOUT
from ilm_lightning.reporting.scores import ITEM, ITEM_SECOND, SC, SECOND
from ilm_lightning.reporting.sizes import MARGIN, what_it_takes
from ilm_lightning.reporting.tables import measure_name

ROUGE_MARGIN = 0.25
"""What counts as equal by ROUGE-L, ours: from row to row it moves 0.4 to 0.7 times as far as SC, see docs/report.md."""
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
        says: yes, no, open, "not comparable", or of an equality "no veto": no difference was found by a measure without
            a margin.
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
        seeds: fewest that any of its measures was compared on.
        columns: what was compared; where nothing could be, the columns of its rows that are there.
        controls: of these columns, in the same order.
    """

    text: str
    verdict: Verdict
    readings: tuple[Reading, ...]
    why: str = ""
    missing: tuple[str, ...] = ()
    counted: bool = True
    seeds: int = 0
    columns: tuple[Column, ...] = ()
    controls: tuple[Controls, ...] = ()


def judge(readings: Sequence[Reading]) -> tuple[Verdict, str]:
    """Take SC and the second measures together.

    Args:
        readings: SC's first, then the second scorer's, or ROUGE-L's and slot accuracy's in its place.

    Returns:
        Confirmed or refuted where SC and at least one second measure say so and none says the contrary; what SC alone
        says is undecided. Measures that find differences to opposite sides do not agree, and one that cannot be
        compared might say the contrary.
    """
    if apart := [f"{reading.scorer} is {UNPAIRED}" for reading in readings if reading.says == UNPAIRED]:
        return Verdict.UNDECIDED, "; ".join(apart)
    if len(readings) < 2:
        return Verdict.UNDECIDED, "no second scorer is at hand"
    first, others = readings[0].says, {reading.says for reading in readings[1:]}
    if first == "yes" and "yes" in others and "no" not in others:
        return Verdict.CONFIRMED, ""
    opposite = len({reading.side for reading in readings if reading.says == "no"}) > 1
    if first == "no" and "no" in others and "yes" not in others and not opposite:
        return Verdict.REFUTED, ""
    told = [f"{r.scorer} {_SAID[r.says]}{_SIDE[r.side]}" for r in readings]
    if others <= {"open", NO_VETO}:
        if first == "open":
            return Verdict.UNDECIDED, "no scorer decides"
        alone = f"{readings[0].scorer} alone {_SAID[first]}{_SIDE[readings[0].side]}"
        return Verdict.UNDECIDED, "; ".join([alone, *told[1:]])
    return Verdict.UNDECIDED, f"the scorers do not agree: {'; '.join(told)}"


NO_VETO, UNPAIRED = "no veto", "not comparable"
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
    return _decide(group, first, second, measures, counted, text, greater)


def decide_equal(group: Group | None, first: Row, second: Row, measures: tuple[str, ...], counted: bool = True) -> Part:
    """Whether two rows are equal within half a point.

    Yes: both 90 % intervals lie within the margin, by SC and by the second scorer or ROUGE-L, which has a margin of its
    own. No: both 95 % intervals of SC and of a second scorer lie beyond it, on the same side by all measures; ROUGE-L
    and slot accuracy contradict an equality by any difference beyond noise. Slot accuracy, without a margin, cannot
    show one.
    """
    text = f"{first.label} equals {second.label} within {MARGIN}"
    return _decide(group, first, second, measures, counted, text, equal)


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


def margin_of(group: Group, measure: str) -> float | None:
    """Within what a measure calls two rows equal; None where it cannot."""
    if has_margin(group, measure):
        return MARGIN
    return ROUGE_MARGIN if measure in (SECOND, ITEM_SECOND) else None


def equal(group: Group, first: Column, second: Column, measure: str) -> str:
    """One scorer's reading: yes, no, open, or no veto where the measure has no margin."""
    found = group.compare(first, second, measure)
    assert found is not None
    margin, known = margin_of(group, measure), has_margin(group, measure)
    within = margin is not None and found.within(margin)
    if known and within:
        return "yes"
    # what ROUGE-L or slot accuracy finds beyond noise is a veto, however small
    beyond = MARGIN if known else 0.0
    if found.low > beyond or found.high < -beyond:
        return "no"
    return NO_VETO if margin is None else "yes" if within else "open"


def _decide(
    group: Group | None,
    first: Row,
    second: Row,
    measures: tuple[str, ...],
    counted: bool,
    text: str,
    read: Reader,
) -> Part:
    found = [candidates(group, row) for row in (first, second)]
    pair = None if group is None or not all(found) else best_pair(group, first, second, measures[0])
    if group is None or pair is None:
        absent = [(row, other) for row, other in ((first, second), (second, first)) if not candidates(group, row)]
        why, missing = (
            not_there(group, absent) if absent or group is None else not_paired(group, first, second, measures[0])
        )
        at_hand = tuple(columns[0] for columns in found if columns)
        return Part(text, Verdict.UNDECIDED, (), why, missing, counted, columns=at_hand)
    a, b = pair
    text += "".join(map(own_settings, pair)) + other_machines(group, (first, a), (second, b), measures[0])
    text += same_blind(pair, measures[0])
    readings = _readings(group, a, b, measures, read)
    compared = {measure: one for measure in measures if (one := group.compare(a, b, measure)) is not None}
    seeds = min(len(one.seeds) for one in compared.values())
    if why := differently(a, b):
        return Part(text, Verdict.UNDECIDED, readings, why, (), counted, seeds, pair)
    verdict, why = judge(readings)
    more: tuple[str, ...] = ()
    if seeds < LEAST_SEEDS:
        more = short_of_seeds(group, measures[0], (first, a), (second, b))
        apart = (elsewhere(group, row, column) for row, column in ((first, a), (second, b)))
        verdict, why = Verdict.UNDECIDED, "; ".join(filter(None, (few_seeds(seeds), *apart)))
    if few := too_few(compared[measures[0]].difference.n_movies):
        verdict, why = Verdict.UNDECIDED, few
    if same := _copied((first, a), (second, b)):
        return Part(text, Verdict.UNDECIDED, readings, same, (), counted, seeds, pair)
    if verdict is Verdict.UNDECIDED:
        named = {measure_name(group, measure): measure for measure in measures}
        waited = [(name, named[name]) for name in to_move(readings) if len(compared[named[name]].seeds) > 1]
        margins = {measure: margin_of(group, measure) if read is equal else None for measure in measures}
        takes = (f"{name}: {what_it_takes(compared[measure], margins[measure])}" for name, measure in waited)
        why = "; ".join([why, *takes])
    return Part(text, verdict, readings, why, more, counted, seeds, pair)


def _copied(*rows: tuple[Row, Column]) -> str:
    """Seeds of compared rows that are one run, as the reason why nothing is decided; empty where there are none."""
    found = [f"{row.label}, seeds {one} and {other}" for row, column in rows for one, other in copies(column)]
    return f"the very same texts under several seeds, so that their spread is not known: {'; '.join(found)}" * bool(
        found
    )


def same_blind(columns: Sequence[Column], measure: str) -> str:
    """Whether item-specific differences are those of SC itself: where the blind texts of each seed are the same.

    Their scores may differ by rounding, in the third place of a mean.
    """
    if measure != ITEM:
        return ""
    scores = [column.scores for column in columns]
    for seed in set.intersection(*(column.seeds_with(measure) for column in columns)):
        texts = {found[seed].texts.get("blind") for found in scores}
        if len(texts) > 1 or None in texts:
            return ""
    return "; same blind control: equal to SC by construction"


def other_machines(group: Group, ours: tuple[Row, Column], theirs: tuple[Row, Column], measure: str) -> str:
    """What a reader has to know where what is compared comes from several processors."""
    found = group.compare(ours[1], theirs[1], measure)
    seeds = () if found is None else found.seeds
    told = several([(row.label, column.only(seeds).runs) for row, column in (ours, theirs)])
    return f"; on several processors: {told}" if told else ""


def to_move(readings: Sequence[Reading]) -> list[str]:
    """Scorers that a verdict waits for: those still open, but for second measures where one of them has spoken.

    None where two contradict each other or cannot be compared: larger samples do not mend that.
    """
    said = {reading.says for reading in readings} - {"open", NO_VETO}
    if len(said) > 1 or UNPAIRED in said:
        return []
    waited = readings[:1] if any(reading.says in said for reading in readings[1:]) else readings
    # who casts no veto against an equality may still find a difference, but cannot show the equality
    silent = {"open", NO_VETO} if "no" in said else {"open"}
    return [reading.scorer for reading in waited if reading.says in silent]


def caveat_of_seeds(verdict: Verdict, parts: Sequence[Part]) -> str:
    """How many seeds a verdict rests on, where they are fewer than the protocol asks for; empty where they are not."""
    rest = [part.seeds for part in parts if part.verdict is verdict]
    if verdict is Verdict.UNDECIDED or not rest:
        return ""
    # a confirmation needs all of its parts, a refutation one
    seeds = max(rest) if verdict is Verdict.REFUTED else min(rest)
    return f"{seeds} seeds" if seeds < ASKED_SEEDS else ""


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
        elif a.seeds_with(measure) or b.seeds_with(measure):
            readings.append(Reading(measure_name(group, measure), UNPAIRED, unpaired([a, b], measure)))
    return tuple(readings)


def unpaired(columns: Sequence[Column], measure: str) -> str:
    """Why columns of which some have a measure cannot be compared by it."""
    if set.intersection(*(column.seeds_with(measure) for column in columns)):
        return "the examples that have it are not the same (counts differ)"
    return "no seed of all that are compared has it"


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
