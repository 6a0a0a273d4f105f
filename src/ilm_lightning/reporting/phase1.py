"""Claim 6: whether co-interaction losses lower phase 1's text loss on held-out items, against its controls."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from ilm_lightning.evaluation.components import Components, needed
from ilm_lightning.reporting.decide import LEAST_SEEDS, Part, Reading, Verdict, few_seeds
from ilm_lightning.reporting.groups import Group
from ilm_lightning.reporting.histories import Curve, curve
from ilm_lightning.reporting.runs import Run
from ilm_lightning.reporting.variants import COMMANDS, variant_of

PHASE_1_TEXT = (
    "The item-item and user-item losses lower phase 1's evaluation loss.",
    "Table 8, ML1M 4.17 → 3.87 (II), 4.07 (UI); Beauty 4.26 → 3.26, 3.37",
)
LOSSES = ("val/itg_nll", "val/itg")
"""The unsmoothed loss first: Table 8 prints 0.0000, which label smoothing does not allow."""
BASE, WITH = "ILM-IT", (("ILM-QFormer", "item-item"), ("ILM-IT-UI", "user-item"))
Floats = NDArray[np.float64]
Found = Mapping[int, tuple[Run, Curve]]
Value = Callable[[Run, Curve, Run], float]


def decide_phase_1(group: Group | None, measures: tuple[str, ...]) -> list[Part]:
    """Test true pairs against plain IT, IT at equal text steps, IT at its best step, and shuffled pairs.

    Args:
        group: runs of one protocol.
        measures: not used: the measure is a loss.

    Returns:
        Parts per loss; the unit is the seed, so an interval is Student's over seeds.
    """
    del measures
    return phase_1_parts([] if group is None else [run for column in group.columns for run in column.runs.values()])


def phase_1_parts(runs: Sequence[Run], extra: str = "") -> list[Part]:
    """The same tests on any runs of one data set.

    Args:
        runs: with their training histories.
        extra: what the commands of missing runs need besides.
    """
    return [part for name, what in WITH for part in _parts(runs, name, what, extra)]


def _parts(runs: Sequence[Run], name: str, what: str, extra: str) -> list[Part]:
    base, true = _curves(runs, BASE, shuffled=False), _curves(runs, name, shuffled=False)
    mixed = _curves(runs, name, shuffled=True)
    need = [f"{row}: python -m ilm_lightning.train {COMMANDS[row]}{extra}" for row in (BASE, name)]
    shuffled = [need[1], f"{name} with shuffled {what} pairs"]
    return [
        _test(f"{name} ends below IT (Table 8)", true, base, _last, _last, False, need),
        _test(f"{name} ends below IT at equal text steps", true, base, _last, _at_text_steps, True, need),
        _test(f"{name} below IT, both at their best validation step", true, base, _best, _best, True, need),
        _test(f"{name} with true pairs below shuffled {what} pairs", true, mixed, _best, _best, True, shuffled),
    ]


def _curves(runs: Sequence[Run], name: str, shuffled: bool) -> dict[int, tuple[Run, Curve]]:
    found: dict[int, tuple[Run, Curve]] = {}
    for run in runs:
        if variant_of(run).name.removesuffix("-fullyfinetune").removesuffix("-LoRA") != name:
            continue
        mixed = any("shuffle" in key and value for key, value in run.flat.items() if key.startswith("pretraining."))
        history = curve(run, "pretrain", *LOSSES)
        if history is not None and mixed == shuffled:
            found.setdefault(run.seed, (run, history))
    return found


def _last(run: Run, history: Curve, other: Run) -> float:
    return history.last


def _best(run: Run, history: Curve, other: Run) -> float:
    return history.best


def _at_text_steps(run: Run, history: Curve, other: Run) -> float:
    """IT's loss after as many item-text batches as the run with pairs saw."""
    losses = set(other.setting("pretraining.losses", ()))
    shares = dict(other.setting("pretraining.proportions", {}) or {})
    text = float(shares.get("item_text", 0.7))
    kinds = [("iic", "item_item"), ("uic", "user_item")]
    pairs = sum(float(shares.get(kind, 0.3)) for loss, kind in kinds if loss in losses)
    return history.near(history.steps[-1] * text / (text + pairs))


def _test(
    text: str, true: Found, other: Found, ours: Value, theirs: Value, counted: bool, commands: Sequence[str]
) -> Part:
    seeds = sorted(set(true) & set(other))
    if not seeds:
        return Part(
            text,
            Verdict.UNDECIDED,
            (),
            "these runs, or their training histories, are missing",
            tuple(commands),
            counted,
        )
    differences = np.array([ours(*true[s], other[s][0]) - theirs(*other[s], true[s][0]) for s in seeds])
    mean = float(differences.mean())
    shown = f"{mean:+.4f} nats over seeds {', '.join(map(str, seeds))}"
    if len(seeds) < LEAST_SEEDS:
        return Part(text, Verdict.UNDECIDED, (Reading(LOSSES[0], "open", shown),), few_seeds(len(seeds)), (), counted)
    sd = float(differences.std(ddof=1))
    half = float(stdtrit(len(seeds) - 1, 0.975)) * sd / len(seeds) ** 0.5
    says = "yes" if mean + half < 0 else "no" if mean - half > 0 else "open"
    reading = Reading(LOSSES[0], says, f"{shown}, Student's [{mean - half:+.4f}, {mean + half:+.4f}]")
    why = ""
    if says == "open":
        runs = needed(Components(*_spread(mean, sd**2), n_runs=len(seeds), n_movies=1), mean).runs
        why = "neither above nor below" + (
            "" if runs is None else f"; about {max(runs, LEAST_SEEDS):,} seeds would tell"
        )
    verdict = {"yes": Verdict.CONFIRMED, "no": Verdict.REFUTED, "open": Verdict.UNDECIDED}[says]
    return Part(text, verdict, (reading,), why, (), counted)


def _spread(mean: float, variance: float) -> tuple[Floats, Floats, Floats, Floats]:
    zero = np.zeros(1)
    return np.array([mean]), np.array([variance]), zero, zero
