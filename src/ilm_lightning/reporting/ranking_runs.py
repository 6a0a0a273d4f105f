"""Recommendation runs as rows of Tables 4, 6 and 7: who recommends, under which protocol, with what result."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import chain
from typing import Any

import numpy as np

from ilm_lightning.reporting.machines import precision_of, repeated
from ilm_lightning.reporting.runs import Problem, Run
from ilm_lightning.reporting.variants import differing, is_told

TASKS = ("sequential", "straightforward")
PROMPTS = ("seen", "unseen")
MEASURES = ("HR@5", "NDCG@5", "HR@10", "NDCG@10")
WITHOUT_PROMPTS = "—"
ENCODER_DECODER = "OpenP5 with an encoder-decoder"
Settings = tuple[tuple[str, Any], ...]
_PHASE_1 = {
    frozenset({"itc", "itm", "itg"}): "ILM-IT",
    frozenset({"itc", "itm", "itg", "iic"}): "ILM-IT-II",
    frozenset({"itc", "itm", "itg", "uic"}): "ILM-IT-UI",
}
_TRAINED_ALIKE = ("tuning.mode", "tuning.lm_first_steps", "tasks.user_vector", "tasks.soft_tokens")
ITEM_HEAD, BLOCKS = ", item head", ", blocks"
_TUNED = {"frozen": "frozen", "lora": "LoRA", "full": "full"}
# settings that a row's name or protocol holds, or that do nothing to the numbers
_NOT_APART = {
    "adapter.kind", "adapter.init", "tuning.mode", "tuning.steps", "tuning.batch_size",
    "tuning.checkpoint_every_s", "tuning.lm_first_steps", "pretraining.losses",
    "tasks.history", "tasks.soft_tokens", "tasks.user_vector", "tasks.head", "tuning.history", "als.spark_master",
}  # fmt: skip


@dataclass(frozen=True, order=True)
class RankingProtocol:
    """What has to be the same for two rankings to be compared; ``"unknown"`` where a source does not say.

    Attributes:
        data: the data set.
        split: whose last items are recommended.
        users: how many are tested.
        candidates: what a list may hold.
        decoding: how lists are made, and whether items that a user has met may be in them.
        history: items in a prompt.
        indexing: the text ids of items.
        language_model: its name, or none.
    """

    data: str
    split: str
    users: str
    candidates: str
    decoding: str
    history: str
    indexing: str
    language_model: str

    def differences(self, other: "RankingProtocol") -> list[str]:
        """The fields that differ, as ``decoding 'free, …', not 'trie, …'``."""
        ours, theirs = asdict(self), asdict(other)
        return [
            f"{key.replace('_', ' ')} {ours[key]!r}, not {theirs[key]!r}" for key in ours if ours[key] != theirs[key]
        ]

    def lines(self) -> list[tuple[str, str]]:
        """Field and value, for a page."""
        return [(key.replace("_", " "), value) for key, value in asdict(self).items()]


RANKING_FIELDS = tuple(entry.name.replace("_", " ") for entry in fields(RankingProtocol))
"""What a protocol states, in words."""


@dataclass(frozen=True, eq=False)
class RankingRow:
    """One recommender under one protocol.

    Attributes:
        name: the paper's name, or ours in its manner.
        apart: settings in which it differs from rows of the same name and protocol.
        protocol: the conditions.
        parameters: numbers that were trained or counted; None where unknown.
        budget: steps and batch size of phase 2; None without.
        measured: (task, prompts) -> per seed measure -> value; a recommender without prompts has one entry.
        errors: (task, prompts) -> measure -> standard error over users, mean over seeds.
        invalid: largest share of outputs that name no item.
        runs: by seed.
        printed: whether the numbers are a publication's.
        without_ties: whether only users count whose last two items have times of their own.
        trained: what has to be equal, beside the budget, for a difference to lie in the adapter: mode, precision,
            vectors, user's vector, steps of the language model alone; empty without one.
        windows: of training: empty, or those in blocks and their length.
        left_out: further runs of a seed, which do not count.
    """

    name: str
    apart: str
    protocol: RankingProtocol
    parameters: int | None
    budget: tuple[int, int] | None
    measured: Mapping[tuple[str, str], Mapping[int, Mapping[str, float]]]
    errors: Mapping[tuple[str, str], Mapping[str, float]]
    invalid: float = 0.0
    runs: Mapping[int, Run] = field(default_factory=dict)
    printed: bool = False
    without_ties: bool = False
    trained: Mapping[str, Any] = field(default_factory=dict)
    windows: tuple[Any, ...] = ()
    left_out: tuple[Problem, ...] = ()

    @property
    def label(self) -> str:
        """Name with what sets it apart."""
        return f"{self.name} ({self.apart})" if self.apart else self.name

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds, sorted."""
        return tuple(sorted(self.runs))

    def is_called(self, name: str) -> bool:
        """Whether this is a row of that name, whatever is trained and however answers are found."""
        return self.name == name or self.name.startswith((f"{name} (", f"{name},"))

    def values(self, task: str, prompts: str, measure: str) -> list[float]:
        """One value a seed; of ``task="both"`` the mean over both tasks, of the seeds that were run on both."""
        asked = TASKS if task == "both" else (task,)
        found = [self.measured.get((one, prompts), {}) for one in asked]
        seeds = sorted(set.intersection(*(set(by_seed) for by_seed in found)))
        return [float(np.mean([by_seed[seed][measure] for by_seed in found])) for seed in seeds]


def rows_of(runs: Sequence[Run]) -> list[RankingRow]:
    """Gather runs that differ by seed alone into rows.

    Args:
        runs: recommendation runs.

    Returns:
        Rows by data set, protocol and name; of several runs with one seed the first counts and the others
        are told in ``left_out``; a baseline is measured with every run and counts once, without a word.
    """
    gathered: dict[tuple[str, str], dict[Settings, dict[RankingProtocol, list[RankingRow]]]] = {}
    for run in runs:
        for row, settings in chain(_rows(run), _rows_without_ties(run)):
            by_settings = gathered.setdefault((row.name, row.protocol.data), {}).setdefault(settings, {})
            by_settings.setdefault(row.protocol, []).append(row)
    rows = []
    for every in gathered.values():
        # one recommender has one name under all protocols
        ordered = sorted(every, key=lambda settings: (-max(map(len, every[settings].values())), repr(settings)))
        apart = differing(dict(enumerate(ordered)))
        for place, settings in enumerate(ordered):
            rows += [_joined(found, apart[place]) for found in every[settings].values()]
    return sorted(rows, key=lambda row: (row.protocol, row.name, row.apart))


def protocol_of(run: Run, name: str | None = None) -> RankingProtocol:
    """Collect a run's protocol; that of a baseline without prompts where ``name`` is given."""
    stated = run.metrics["protocol"]

    def field_of(key: str) -> str:
        return str(stated.get(key, "unknown"))

    shared = {key: field_of(key) for key in ("data", "split", "users")}
    if name is not None:
        filtered = "seen items" + field_of("decoding").partition("seen items")[2]
        return RankingProtocol(
            **shared,
            candidates=f"all {run.metrics['counts']['items']:,} items" if "counts" in run.metrics else "all items",
            decoding=f"whole catalogue scored, {filtered}",
            history="no prompt; what is read: see the row",
            indexing="none",
            language_model="none",
        )
    return RankingProtocol(
        **shared, **{key: field_of(key) for key in ("candidates", "decoding", "history", "indexing", "language_model")}
    )


def name_of(run: Run) -> str:
    """Name a recommendation run by its recipe, not by what it was called: an override may have changed it.

    Rows without soft tokens are OpenP5, a Perceiver over the history is User-LLM; windows in blocks are another
    training set, which shared histories are not.
    """
    recipe = run.metrics.get("recipe")
    if not recipe:
        return str(run.metrics["protocol"].get("name", run.name))
    adapter, tuning, tasks = recipe["adapter"], recipe["tuning"], recipe["tasks"]
    mode = _TUNED.get(str(tuning["mode"]), str(tuning["mode"]))
    if tuning.get("history") == "blocks":
        mode += BLOCKS
    ending = ITEM_HEAD if tasks.get("head", "text") == "item" else ""
    user = tasks.get("user_vector", "none")
    if not tasks.get("soft_tokens", True) and user == "none":
        base = ENCODER_DECODER if recipe.get("encoder_decoder") else "OpenP5"
        return f"{base} ({mode}){ending}"
    if adapter["kind"] == "perceiver":
        return f"User-LLM ({mode}){ending}"
    first = ", text first" if tuning.get("lm_first_steps") else ""
    ending = f" ({mode}{first}{', user vector' if user != 'none' else ''}){ending}"
    if adapter["kind"] == "collm":
        return f"CoLLM{ending}"
    if adapter["kind"] == "mlp":
        tokens = int(adapter["num_queries"])
        return f"ILM-MLP, {tokens} token{'s' if tokens > 1 else ''}{ending}"
    if adapter["init"] == "pretrained":
        losses = frozenset((recipe.get("pretraining") or {}).get("losses", ()))
        return _PHASE_1.get(losses, f"ILM-{'-'.join(sorted(losses))}") + ending
    return ("ILM-rand" if adapter["init"] == "random" else f"ILM-{adapter['init']}") + ending


def _rows(run: Run) -> Iterator[tuple[RankingRow, Settings]]:
    metrics = run.metrics
    recipe = dict(_flat(metrics.get("recipe", {}), ""))
    if metrics["ranking"]:
        found = {(task, name): row for name, tasks in metrics["ranking"].items() for task, row in tasks.items()}
        trained = sum(int(part["trainable"]) for part in metrics.get("parameters", ()))
        tuning = metrics.get("recipe", {}).get("tuning", {})
        budget = (int(tuning["steps"]), int(tuning["batch_size"])) if "steps" in tuning else None
        row = _row(run, name_of(run), protocol_of(run), trained or None, found)
        blocks = ("blocks", recipe.get("tuning.history_block")) if recipe.get("tuning.history") == "blocks" else ()
        text_alone = not recipe.get("tasks.soft_tokens", True) and recipe.get("tasks.user_vector", "none") == "none"
        idle = ["als.", "adapter.num_queries"] if text_alone else []
        # an MLP's name holds them
        idle += ["adapter.num_queries"] if recipe.get("adapter.kind") == "mlp" else []
        idle += [] if recipe.get("tuning.lm_first_steps") else ["tuning.lm_first_"]
        idle += [] if blocks else ["tuning.history_block"]
        apart = {k: v for k, v in recipe.items() if k not in _NOT_APART and not k.startswith(tuple(idle))}
        apart |= {"steps": budget, "encoder": None if text_alone else metrics["protocol"].get("encoder")}
        apart["precision"] = precision_of(run)
        settings = tuple(sorted((key, value) for key, value in apart.items() if is_told(key, value)))
        alike = {key: recipe.get(key) for key in _TRAINED_ALIKE}
        alike |= {key: apart[key] for key in ("encoder", "precision")}
        alike |= {key: value for key, value in recipe.items() if key.startswith("als.") and not text_alone}
        yield replace(row, budget=budget, trained=alike, windows=blocks), settings
    for name, measures in metrics["baselines"].items():
        row = _row(
            run,
            name,
            protocol_of(run, name),
            measures.get("parameters"),
            {(t, WITHOUT_PROMPTS): measures for t in TASKS},
        )
        yield row, _baseline_settings(metrics, name)


def _baseline_settings(metrics: Mapping[str, Any], name: str) -> Settings:
    """What sets a baseline's rows apart; of an older run ALS's settings are known alone."""
    stated = metrics.get("baseline_settings", {}).get(name)
    if stated is None:
        unknown = {"item-kNN": {"neighbours": "not stated"}}.get(name, {})
        stated = metrics.get("recipe", {}).get("als", {}) if name == "ALS" else unknown
    return tuple(sorted((key, value) for key, value in stated.items() if value is not None))


def _rows_without_ties(run: Run) -> Iterator[tuple[RankingRow, Settings]]:
    """The same rows over the users whose test item the times tell, where the run has these numbers."""
    metrics = run.metrics
    told = {
        name: {task: row["untied"] for task, row in tasks.items() if "untied" in row}
        for name, tasks in metrics["ranking"].items()
    }
    baselines = {name: {**row, **row["untied"]} for name, row in metrics["baselines"].items() if "untied" in row}
    told = {name: tasks for name, tasks in told.items() if tasks}
    part = replace(run, metrics={**metrics, "ranking": told, "baselines": baselines})
    for row, settings in _rows(part):
        users = next(iter(baselines.values()), None) or next(iter(next(iter(told.values())).values()))
        protocol = replace(row.protocol, users=f"{users['users']:,} without a tie at the end, of {row.protocol.users}")
        yield replace(row, protocol=protocol, without_ties=True), settings


def _row(
    run: Run,
    name: str,
    protocol: RankingProtocol,
    parameters: int | None,
    found: Mapping[tuple[str, str], Mapping[str, Any]],
) -> RankingRow:
    measured = {key: {run.seed: _measures(row, "")} for key, row in found.items()}
    errors = {key: _measures(row, "_error") for key, row in found.items()}
    invalid = max((float(row.get("invalid") or 0.0) for row in found.values()), default=0.0)
    return RankingRow(name, "", protocol, parameters, None, measured, errors, invalid, {run.seed: run})


def _measures(row: Mapping[str, Any], ending: str) -> dict[str, float]:
    tables = {kind: row.get(kind + ending) or {} for kind in ("hr", "ndcg")}
    return {f"{kind.upper()}@{cut}": float(value) for kind, table in tables.items() for cut, value in table.items()}


def _joined(rows: Sequence[RankingRow], apart: str) -> RankingRow:
    first = rows[0]
    measured: dict[tuple[str, str], dict[int, Mapping[str, float]]] = {}
    errors: dict[tuple[str, str], dict[int, Mapping[str, float]]] = {}
    runs: dict[int, Run] = {}
    left_out: dict[str, Problem] = {}
    counted: list[RankingRow] = []
    for row in rows:
        for seed, run in row.runs.items():
            taken = runs.setdefault(seed, run)
            for key, by_seed in row.measured.items():
                if seed in measured.get(key, {}):
                    if key[1] != WITHOUT_PROMPTS:
                        left_out[str(run.path)] = repeated(run, taken)
                else:
                    counted.append(row)
                measured.setdefault(key, {}).setdefault(seed, by_seed[seed])
                errors.setdefault(key, {}).setdefault(seed, row.errors[key])
    means = {
        key: {m: float(np.mean([one[m] for one in by_seed.values()])) for m in next(iter(by_seed.values()))}
        for key, by_seed in errors.items()
    }
    invalid = max((row.invalid for row in counted), default=0.0)
    return replace(
        first,
        apart=apart,
        measured=measured,
        errors=means,
        invalid=invalid,
        runs=runs,
        left_out=tuple(left_out.values()),
    )


def _flat(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", tuple(value) if isinstance(value, list) else value
