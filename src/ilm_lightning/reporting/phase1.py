"""Claim 6: whether co-interaction losses lower phase 1's text loss on held-out items, against its controls."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from ilm_lightning.evaluation.components import Components, needed
from ilm_lightning.reporting.decide import Part, Reading, Verdict, few_seeds
from ilm_lightning.reporting.groups import Group
from ilm_lightning.reporting.histories import Curve, curve
from ilm_lightning.reporting.machines import precision_of, several, threads_of
from ilm_lightning.reporting.overrides import shared_overrides
from ilm_lightning.reporting.pairing import LEAST_SEEDS, command
from ilm_lightning.reporting.runs import Run
from ilm_lightning.reporting.variants import COMMANDS, is_told, variant_of

PHASE_1_TEXT = (
    "The item-item and user-item losses lower phase 1's evaluation loss.",
    "Table 8, ML1M 4.17 → 3.87 (II), 4.07 (UI); Beauty 4.26 → 3.26, 3.37",
)
LOSSES = ("val/itg_nll", "val/itg")
"""The unsmoothed loss first: Table 8 prints 0.0000, which label smoothing does not allow."""
VARIED = ("pretraining.losses", "pretraining.loss_weights", "pretraining.proportions", "pretraining.shuffled_pairs")
"""What sets the rows of the claim apart."""
MISSING = "these runs, or their training histories, are missing"
UNLIKE = "no runs of both share a seed, encoder, adapter and the other settings of phase 1"
BASE, WITH = "ILM-IT", (("ILM-QFormer", "item-item"), ("ILM-IT-UI", "user-item"))
Floats = NDArray[np.float64]
Found = Mapping[int, tuple[Run, Curve]]
Settings = tuple[tuple[str, str], ...]
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
    if group is None:
        return phase_1_parts([])
    runs = [run for column in group.columns for run in column.runs.values()]
    return phase_1_parts(runs, like=group.overrides_like(BASE))


def phase_1_parts(runs: Sequence[Run], rows: Mapping[str, tuple[str, str]] | None = None, like: str = "") -> list[Part]:
    """The same tests on any runs of one data set.

    Args:
        runs: with their training histories.
        rows: what a row of ours is called there, and the overrides that make it.
        like: overrides of the commands of missing runs where no run of either row tells them.
    """
    called = rows or {row: (row, COMMANDS[row]) for row in (BASE, *(name for name, _ in WITH))}
    return [part for name, what in WITH for part in _parts(runs, name, what, called, like)]


def _parts(runs: Sequence[Run], row: str, what: str, called: Mapping[str, tuple[str, str]], others: str) -> list[Part]:
    curves = [_curves(runs, BASE, False), _curves(runs, row, False), _curves(runs, row, True)]
    name, overrides = called[row]
    settings = _shared(curves[0], curves[1])
    base, true, mixed = (found.get(settings, {}) for found in curves)
    equal, on_its_way, text_steps = _at_equal_text(curves[0], base, true, settings)
    read, way = (_at_text_steps, ", read on its way") if on_its_way else (_last, "")
    like, seeds = _like(true or base, others, rows_named=overrides), (true or base)
    lines = (
        f"{called[BASE][0]}: {command(f'{called[BASE][1]}{like}', seeds)}",
        f"{name}: {command(f'{overrides}{like}', seeds)}",
        f"{name} with shuffled {what} pairs: {command(f'{overrides}{like} pretraining.shuffled_pairs=true', seeds)}",
    )
    shorter = f"{called[BASE][0]}: {command(f'{called[BASE][1]}{like} pretraining.steps={text_steps}', seeds)}"
    absent = [() if found else (line,) for found, line in zip(curves, lines, strict=True)]
    need, shuffled = (*absent[0], *absent[1]), (*absent[1], *absent[2])
    tests = (
        (f"{name} ends below IT (Table 8)", base, _last, _last, False, need),
        (f"{name} ends below IT at equal text steps{way}", equal, _last, read, True, need),
        (f"{name} below IT, both at their best validation step", base, _best, _best, True, need),
        (f"{name} with true pairs below shuffled {what} pairs", mixed, _best, _best, True, shuffled),
    )
    found = []
    for text, other, ours, theirs, counted, missing in tests:
        part = _test(text, true, other, ours, theirs, counted, (MISSING if missing else UNLIKE, missing))
        if 0 < part.seeds < LEAST_SEEDS:
            part = replace(part, missing=lines[1:] if other is mixed else lines[:2])
        found.append(_not_confirmed(part, shorter) if theirs is _at_text_steps else part)
    return found


def _not_confirmed(part: Part, shorter: str) -> Part:
    """A longer run on its way has not come to rest: it may refute what it favours, and cannot confirm it."""
    if part.verdict is not Verdict.CONFIRMED:
        return part
    why = "a run that long has a high learning rate still, which favours the pairs; one of that length decides"
    return replace(part, verdict=Verdict.UNDECIDED, why=why, missing=(shorter,))


def _like(found: Found, others: str, rows_named: str) -> str:
    """Overrides that the commands of all these runs share, but for those that a row's command has itself.

    Shared overrides leave out vectors and S, which are read off the runs; experiments on OpenP5 hold them themselves.
    """
    runs = [run for run, _ in found.values()]
    own = {word.partition("=")[0] for word in rows_named.split()}
    words = shlex.split(shared_overrides(runs) if runs else others)
    if "data" not in own:
        encoder, source_tokens = next(((v.encoder, v.source_tokens) for v in map(variant_of, runs)), ("combined", 1))
        words.append(f"encoder={encoder}")
        words += [f"adapter.source_tokens={source_tokens}"] if source_tokens != 1 else []
    return "".join(f" {shlex.quote(word)}" for word in words if word.partition("=")[0] not in own)


def _curves(runs: Sequence[Run], name: str, shuffled: bool) -> dict[Settings, dict[int, tuple[Run, Curve]]]:
    """Histories of a row by what else phase 1 was given, and by seed."""
    found: dict[Settings, dict[int, tuple[Run, Curve]]] = {}
    for run in runs:
        if variant_of(run).name.removesuffix("-fullyfinetune").removesuffix("-LoRA") != name:
            continue
        history = curve(run, "pretrain", *LOSSES)
        if history is not None and run.is_control == shuffled:
            found.setdefault(phase_1_settings(run), {}).setdefault(run.seed, (run, history))
    return found


def phase_1_settings(run: Run) -> Settings:
    """All of phase 1 but which losses and pairs it has: what has to be the same for two losses to be compared.

    What it computed in is among it, and on how many threads.
    """
    kept = (
        (key, str(value))
        for key, value in run.flat.items()
        if key.startswith(("encoder.", "adapter.", "pretraining."))
        and not key.startswith(VARIED)
        and is_told(key, value)
    )
    machine = {"trainer.precision": precision_of(run), "trainer.threads": threads_of(run)}
    return tuple(sorted([*kept, *((key, str(value)) for key, value in machine.items() if value is not None)]))


def _shared(base: Mapping[Settings, Found], true: Mapping[Settings, Found]) -> Settings:
    """The settings with most seeds in common; where there are none in common, those with most seeds of either row."""
    every = sorted(set(base) & set(true)) or sorted(true) or sorted(base) or [()]

    def seeds(settings: Settings) -> tuple[int, int, int]:
        ours, theirs = set(true.get(settings, ())), set(base.get(settings, ()))
        return len(ours & theirs), len(ours), len(theirs)

    return max(every, key=seeds)


def _last(run: Run, history: Curve, other: Run) -> float:
    return history.last


def _best(run: Run, history: Curve, other: Run) -> float:
    return history.best


def _text_steps(run: Run, steps: float) -> float:
    """How many of a run's steps read item-text batches."""
    losses = set(run.setting("pretraining.losses", ()))
    shares = dict(run.setting("pretraining.proportions", {}) or {})
    text = float(shares.get("item_text", 0.7))
    kinds = [("iic", "item_item"), ("uic", "user_item")]
    pairs = sum(float(shares.get(kind, 0.3)) for loss, kind in kinds if loss in losses)
    return steps * text / (text + pairs)


def _at_text_steps(run: Run, history: Curve, other: Run) -> float:
    """IT's loss after as many item-text batches as the run with pairs saw."""
    return history.at(_text_steps(other, history.steps[-1]))


def _at_equal_text(
    every: Mapping[Settings, Found], base: Found, true: Found, settings: Settings
) -> tuple[Found, bool, int]:
    """IT trained for just the item-text batches that the runs with pairs read, or a longer run on its way.

    Returns:
        IT's runs; whether they are read on their way, as it is where fewer seeds were run at that length; the length.
    """
    steps = float(dict(settings).get("pretraining.steps", 0))
    text = round(_text_steps(next(iter(true.values()))[0], steps)) if true else 0
    own = tuple((key, str(text) if key == "pretraining.steps" else value) for key, value in settings)
    shorter = every.get(own, {})
    if text and len(set(shorter) & set(true)) >= min(LEAST_SEEDS, len(set(base) & set(true)) or 1):
        return shorter, False, text
    return base, True, text


def _test(
    text: str, true: Found, other: Found, ours: Value, theirs: Value, counted: bool, missing: tuple[str, Sequence[str]]
) -> Part:
    seeds = sorted(set(true) & set(other))
    if not seeds:
        why, commands = missing
        return Part(text, Verdict.UNDECIDED, (), why, tuple(commands), counted)
    sides = (("one", {seed: true[seed][0] for seed in seeds}), ("the other", {seed: other[seed][0] for seed in seeds}))
    if machines := several(sides):
        text += f"; on several processors: {machines}"
    differences = np.array([ours(*true[s], other[s][0]) - theirs(*other[s], true[s][0]) for s in seeds])
    mean = float(differences.mean())
    shown = f"{mean:+.4f} nats over seeds {', '.join(map(str, seeds))}"
    if len(seeds) < LEAST_SEEDS:
        reading = Reading(LOSSES[0], "open", shown)
        return Part(text, Verdict.UNDECIDED, (reading,), few_seeds(len(seeds)), (), counted, len(seeds))
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
    return Part(text, verdict, (reading,), why, (), counted, len(seeds))


def _spread(mean: float, variance: float) -> tuple[Floats, Floats, Floats, Floats]:
    zero = np.zeros(1)
    return np.array([mean]), np.array([variance]), zero, zero
