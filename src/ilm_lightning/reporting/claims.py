"""The paper's claims 1 to 10, each confirmed, refuted or undecided on the runs at hand (PROTOCOL 7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ilm_lightning.reporting.controls import Controls
from ilm_lightning.reporting.decide import Part, Verdict, caveat_of_seeds, decide_equal, decide_greater
from ilm_lightning.reporting.document import Section
from ilm_lightning.reporting.pairing import Row
from ilm_lightning.reporting.phase1 import PHASE_1_TEXT, decide_phase_1
from ilm_lightning.reporting.query_sweep import decide_sweep
from ilm_lightning.reporting.ranking_claims import phase_1_ranking_parts, ranking_parts
from ilm_lightning.reporting.ranking_tables import Rankings
from ilm_lightning.reporting.scores import ITEM, ITEM_SECOND, ITEM_THIRD, SC, SECOND, THIRD

FULL, FROZEN, RANDOM, MLP, ELM = (
    "ILM-QFormer-fullyfinetune", "ILM-QFormer", "ILM-QFormer-random", "ILM-MLP", "ELM",
)  # fmt: skip
SCORED = {"SC": (SC, SECOND, THIRD), "item-specific SC": (ITEM, ITEM_SECOND, ITEM_THIRD)}
"""What a verdict rests on: SC, and a second scorer or what stands in for it."""


@dataclass(frozen=True)
class Rule:
    """A part of a claim as a test.

    Attributes:
        kind: ``greater`` or ``equal``.
        first: the row that is claimed to be higher, or equal.
        second: the other row.
        counted: whether the claim's verdict rests on it; other parts are told beside.
    """

    kind: str
    first: Row
    second: Row
    counted: bool = True


@dataclass(frozen=True)
class Claim:
    """A claim and what the runs say of it.

    Attributes:
        number: as in the protocol.
        text: what is claimed.
        paper: the paper's numbers.
        parts: measure name -> tests.
        verdicts: measure name -> verdict over the counted parts.
        notes: what to know beside.
    """

    number: int
    text: str
    paper: str
    parts: dict[str, tuple[Part, ...]]
    verdicts: dict[str, Verdict]
    notes: tuple[str, ...] = ()

    def said(self, name: str) -> str:
        """The verdict by a measure, with what it has to be read with: ``confirmed (3 seeds)``."""
        return stated(self.verdicts[name], [part for part in self.parts[name] if part.counted])


def stated(verdict: Verdict, parts: Sequence[Part]) -> str:
    """A verdict with how few seeds it rests on and how many of its rows are not above their controls.

    Args:
        verdict: over the parts.
        parts: that it rests on.

    Returns:
        ``confirmed (3 seeds; rows not above their controls)``; an undecided one stands alone.
    """
    if verdict is Verdict.UNDECIDED:
        return str(verdict)
    # a refutation rests on the parts that refute
    rest = _controls([part for part in parts if part.verdict is verdict])
    lost, unrun = ([one for one in rest if one.above is state] for state in (False, None))
    some = [one for one in rest if one.above and one.of]
    caveats = (
        caveat_of_seeds(verdict, parts),
        f"{_share(lost, rest)} not above their controls" if lost else "",
        f"no controls of {_share(unrun, rest)} run" if unrun else "",
        f"some controls of {_share(some, rest)} not run" if some else "",
    )
    told = "; ".join(filter(None, caveats)).replace(" controls of rows", " controls")
    return f"{verdict} ({told})" if told else str(verdict)


def _above_all(one: Controls) -> bool:
    return bool(one.above) and not one.of


def _share(some: Sequence[Controls], every: Sequence[Controls]) -> str:
    return "rows" if len(some) == len(every) else f"{len(some)} of {len(every)} rows"


def _controls(parts: Sequence[Part]) -> list[Controls]:
    """Of each row that parts rest on once."""
    return list({id(one.column): one for part in parts for one in part.controls}.values())


def _greater(name: str, encoders: Sequence[tuple[str, str]], counted: bool = True) -> list[Rule]:
    return [Rule("greater", Row(name, a), Row(name, b), counted) for a, b in encoders]


_ORDER = (("combined", "semantic"), ("semantic", "behavioral"))
_ALL = ("combined", "semantic", "behavioral")
RULES: dict[int, tuple[str, str, list[Rule]]] = {
    1: (
        "Combined vectors give more than semantic ones, semantic more than behavioral, with full finetuning.",
        "full finetuning 85.44 / 85.08 / 78.43; frozen 82.34 / 82.37 / 80.87, where combined > semantic does not show",
        [*_greater(FULL, _ORDER), *_greater(FROZEN, _ORDER, counted=False)],
    ),
    2: (
        "With a frozen LLM the Q-Former gives more than an MLP of its size.",
        "82.34 against 80.27 (combined), 82.37 / 79.60 (semantic), 80.87 / 75.59 (behavioral); in 21 to 23 of 23 tasks",
        [
            *(Rule("greater", Row(FROZEN, e), Row(MLP, e)) for e in _ALL),
            *(Rule("greater", Row(RANDOM, e), Row(MLP, e), counted=False) for e in _ALL),
            *(Rule("greater", Row(FROZEN, e), Row(MLP, e, queries=1), counted=False) for e in _ALL),
        ],
    ),
    3: (
        "ILM with a frozen LLM equals ELM, which tunes everything.",
        "82.34 against 82.15 (combined), 82.37 / 82.15 (semantic), 80.87 / 82.15 (behavioral); better in 13, 12 and 2 "
        "of 23 tasks; with behavioral vectors the paper's own numbers are 1.3 apart, so that part is told beside",
        [Rule("equal", Row(FROZEN, e), Row(ELM, e), counted=e != "behavioral") for e in _ALL],
    ),
    4: (
        "Full finetuning is best, except with behavioral vectors.",
        "85.44 (combined) and 85.08 (semantic) are the highest of their tables; behavioral 78.43, below frozen 80.87",
        [
            *(
                Rule("greater", Row(FULL, e), Row(other, e))
                for e in ("combined", "semantic")
                for other in (ELM, MLP, RANDOM, FROZEN)
            ),
            Rule("greater", Row(FROZEN, "behavioral"), Row(FULL, "behavioral")),
        ],
    ),
    5: (
        "Phase 1 helps: the pretrained Q-Former gives more than the random one.",
        "better in 12 (combined), 6 (semantic) and 22 (behavioral) of 23 tasks, though the text claims all",
        [Rule("greater", Row(FROZEN, e), Row(RANDOM, e)) for e in _ALL],
    ),
}
SWEEP_TEXT = (
    "Quality rises, then falls, with the number of soft tokens.",
    "Figure 3, random Q-Former and MLP, 1 to 32 tokens; a plot without numbers",
)
RANKED = "HR@K, NDCG@K"
OPENP5 = {
    8: ("ILM gives more than ILM-rand on OpenP5.", "A.2, not tabulated"),
    9: ("ILM gives more than vectors fed to the LLM directly.", "abstract"),
    10: (
        "On OpenP5's sequential task ILM lies above OpenP5-Llama and below OpenP5-T5.",
        "Table 6, ML1M HR@10: .1094 < .1922 < .2945",
    ),
}


def go_through(section: Section | None, rankings: Rankings | None = None, resamples: int = 5000) -> list[Claim]:
    """Go through all claims.

    Args:
        section: the runs of one protocol; None where there are no runs.
        rankings: recommendation runs; None where there are none.
        resamples: of the bootstrap of rankings.

    Returns:
        Claims 1 to 10 in order.
    """
    claims = [_tested(number, section) for number in RULES]
    for number, text, paper, decide in (
        (6, *PHASE_1_TEXT, decide_phase_1),
        (7, *SWEEP_TEXT, decide_sweep),
    ):
        group = section.group if section else None
        parts = {
            name: tuple(_beside_controls(part, section) for part in decide(group, measures))
            for name, measures in SCORED.items()
        }
        if number == 6:
            # a loss of phase 1 has no item-specific form
            more = tuple(phase_1_ranking_parts(rankings))
            language = parts["SC"] if section is not None or not more else ()
            parts = {"phase-1 evaluation loss": (*language, *more)}
        claims.append(Claim(number, text, paper, parts, {name: overall(p) for name, p in parts.items()}, _notes(parts)))
    for number, (text, paper) in OPENP5.items():
        found = ranking_parts(number, rankings, resamples)
        claims.append(Claim(number, text, paper, {RANKED: found}, {RANKED: overall(found)}))
    return claims


def overall(parts: Sequence[Part]) -> Verdict:
    """Confirmed where every counted part is, refuted where one is, undecided otherwise."""
    verdicts = {part.verdict for part in parts if part.counted}
    if verdicts == {Verdict.CONFIRMED}:
        return Verdict.CONFIRMED
    return Verdict.REFUTED if Verdict.REFUTED in verdicts else Verdict.UNDECIDED


def _tested(number: int, section: Section | None) -> Claim:
    text, paper, rules = RULES[number]
    parts = {name: tuple(_apply(rule, section, measures) for rule in rules) for name, measures in SCORED.items()}
    verdicts = {name: overall(found) for name, found in parts.items()}
    return Claim(number, text, paper, parts, verdicts, _notes(parts))


def _apply(rule: Rule, section: Section | None, measures: tuple[str, ...]) -> Part:
    decide = decide_greater if rule.kind == "greater" else decide_equal
    group = section.group if section else None
    part = _beside_controls(decide(group, rule.first, rule.second, measures, rule.counted), section)
    if rule.kind == "greater" or part.verdict is not Verdict.CONFIRMED or any(map(_above_all, part.controls)):
        return part
    why = "neither row is known to be above all controls, and two rows that ignore the item are equal in any case"
    return replace(part, verdict=Verdict.UNDECIDED, why=why)


def _beside_controls(part: Part, section: Section | None) -> Part:
    """A part with what its very columns' own vectors are worth."""
    found = {id(one.column): one for one in (section.controls if section else ())}
    return replace(part, controls=tuple(found[id(column)] for column in part.columns))


def _notes(parts: Mapping[str, Sequence[Part]]) -> tuple[str, ...]:
    """Rows of the claim that do not beat their controls: their differences say little about items."""
    rest = _controls([part for tested in parts.values() for part in tested if part.counted])
    told = {
        "not above their controls in every seed by SC and a second measure, so that differences say little of items": [
            one.named for one in rest if one.above is False
        ],
        "controls were not run, so that nobody knows whether differences say anything of items": [
            one.label for one in rest if one.above is None
        ],
        "above the controls that were run, but not all were": [one.named for one in rest if one.above and one.of],
        "below the copied text of the nearest training movie": [one.label for one in rest if one.below_copy],
    }
    return tuple(f"{what}: {', '.join(rows)}" for what, rows in told.items() if rows)
