"""Which row of the paper a run is, and which settings make two runs of a row different runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ilm_lightning.reporting.machines import precision_of, threads_of
from ilm_lightning.reporting.paper import ENCODER_TABLES, TASK_ROWS, table
from ilm_lightning.reporting.runs import Run

ENCODERS = ("combined", "semantic", "behavioral")
PAPER_ROWS = ("ELM", "ILM-MLP", "ILM-QFormer-random", "ILM-QFormer", "ILM-QFormer-fullyfinetune")
"""Columns of Tables 3, 9 and 10."""
COMMANDS = {
    "ELM": "experiment=elm",
    "ILM-MLP": "experiment=ilm_mlp",
    "ILM-QFormer-random": "experiment=ilm_qformer_random",
    "ILM-QFormer": "experiment=ilm_qformer",
    "ILM-QFormer-fullyfinetune": "experiment=ilm_qformer_full",
    "ILM-QFormer-LoRA": "experiment=ilm_qformer_lora",
    "ILM-QFormer-bert": "experiment=ilm_qformer_bert",
    "ILM-IT": "experiment=ilm_it",
    "ILM-IT-UI": "experiment=ilm_it_ui",
}
"""What gives a row: the end of ``python -m ilm_lightning.train …``."""
_TUNED = {"frozen": "", "full": "-fullyfinetune", "lora": "-LoRA"}
_PHASE_1 = {
    frozenset({"itc", "itm", "itg", "iic"}): "ILM-QFormer",
    frozenset({"itc", "itm", "itg"}): "ILM-IT",
    frozenset({"itc", "itm", "itg", "uic"}): "ILM-IT-UI",
    frozenset({"itc", "itm", "itg", "iic", "vg"}): "ILM-QFormer-grounded",
    frozenset({"vg"}): "ILM-QFormer-vg",
}
# where only a metrics file is there, its name says what it is
_NAMES = {
    "elm": "ELM",
    "ilm_mlp": "ILM-MLP",
    "ilm_qformer": "ILM-QFormer",
    "ilm_qformer_random": "ILM-QFormer-random",
    "ilm_qformer_full": "ILM-QFormer-fullyfinetune",
    "ilm_qformer_lora": "ILM-QFormer-LoRA",
    "ilm_qformer_grounded": "ILM-QFormer-grounded",
    "ilm_qformer_vg": "ILM-QFormer-vg",
    "ilm_qformer_vg_lora": "ILM-QFormer-vg-LoRA",
}
# what a row may have of its own in phase 2; the budget is told apart, and of rates that are tried the number counts
_OF_A_ROW = (
    "tuning.adapter_lr", "tuning.lm_lr", "tuning.adapter_first_share", "tuning.lr_trials", "tuning.steps",
    "tuning.batch_size", "adapter.bert",
)  # fmt: skip
# settings that say where, on what and how to report, or that the protocol already holds
_NOT_SETTINGS = (
    "run", "resume", "outputs", "artifacts", "assets", "logger", "trainer", "name", "seed", "evaluation",
)  # fmt: skip
_NOT_SETTING_KEYS = {
    "tuning.checkpoint_every_s", "data.path", "data.interactions", "data.items",
    "teacher.kind", "teacher.model", "teacher.url", "teacher.api_key_env", "teacher.concurrency", "teacher.batch_size",
    "teacher.requests_per_minute", "teacher.tokens_per_minute", "teacher.timeout_s", "teacher.attempts",
    "teacher.max_requests", "teacher.max_left_out_share", "tasks.title_in_prompt",
    "data.name", "lm.name",
    "encoder.name", "tuning.mode", "adapter.kind", "adapter.init", "adapter.num_queries", "pretraining.losses",
}  # fmt: skip


SWITCHES = frozenset({
    "adapter.concatenate", "encoder_decoder", "pretraining.shuffled_pairs", "pretraining.source_dropout",
    "teacher.allow_title", "teacher.temperature", "tuning.adapter_first_share", "tuning.distillation_weight",
    "tuning.lm_first_steps", "tuning.residual_weighting", "tasks.head_sample", "tasks.title_in_prompt",
})  # fmt: skip
"""Settings that are off where nobody sets them: 0 or false of one says as much as an older file without it."""


@dataclass(frozen=True)
class Variant:
    """A column of the tables.

    Attributes:
        name: the paper's name, or ours in its manner.
        encoder: combined, semantic or behavioral.
        queries: soft tokens per item.
        source_tokens: S, key/value tokens per source vector.
        tuning: frozen, lora or full.
        adapter: qformer, mlp, ...
    """

    name: str
    encoder: str
    queries: int
    source_tokens: int
    tuning: str
    adapter: str

    @property
    def paper_column(self) -> tuple[str, str] | None:
        """Table number and column where the paper prints it."""
        number = ENCODER_TABLES.get(self.encoder)
        if number is None or self.name not in table(number).columns:
            return None
        return number, self.name

    def paper_value(self, task: str) -> float | None:
        """The paper's SC for one of our tasks, or for ``all``."""
        if self.paper_column is None:
            return None
        number, column = self.paper_column
        return table(number).find(TASK_ROWS.get(task, task), column)


def variant_of(run: Run) -> Variant:
    """Read a run's place in the tables off its configuration, not off its name: an override may have changed it."""
    protocol = run.metrics["protocol"]
    encoder = str(run.setting("encoder.name", protocol.get("encoder", "unknown")))
    tuning = str(run.setting("tuning.mode", protocol.get("tuning", "unknown")))
    if not run.config:
        name = _NAMES.get(str(protocol.get("name")), str(protocol.get("name", run.name)))
        kind = "mlp" if name in ("ELM", "ILM-MLP") else "qformer"
        return Variant(name, encoder, 1 if name == "ELM" else 8, 1, tuning, kind)
    kind = str(run.setting("adapter.kind", "unknown"))
    return Variant(
        name=_name(run, kind, tuning),
        encoder=encoder,
        queries=int(run.setting("adapter.num_queries") or 0),
        # an MLP is matched in size to the Q-Former of this S
        source_tokens=int(run.setting("adapter.source_tokens") or 1),
        tuning=tuning,
        adapter=kind,
    )


def _name(run: Run, kind: str, tuning: str) -> str:
    ending = _TUNED.get(tuning, f"-{tuning}") + _ours(run)
    pretrained = str(run.setting("adapter.init", "random")) == "pretrained"
    phase_1 = _PHASE_1.get(_losses(run), f"ILM-QFormer-{'-'.join(sorted(_losses(run)))}")
    if kind == "mlp":
        if tuning == "full" and float(run.setting("tuning.adapter_first_share", 0.0)) > 0:
            return f"ELM{_ours(run)}"
        return f"ILM-MLP{phase_1.removeprefix('ILM-QFormer') if pretrained else ''}{ending}"
    if kind == "custom":
        return f"ILM-{str(run.setting('adapter._target_', kind)).rpartition('.')[2]}{ending}"
    if kind != "qformer":
        return f"ILM-{kind}{ending}"
    if not pretrained:
        return f"ILM-QFormer-{run.setting('adapter.init', 'random')}{ending}"
    if str(run.setting("pretraining.init", "bert")) == "random":
        phase_1 += "-random"
    return phase_1 + ending


def _ours(run: Run) -> str:
    """What the paper's variants have none of."""
    marks = {
        "-concat": run.setting("adapter.concatenate"),
        "-dropout": run.setting("pretraining.source_dropout") and run.setting("adapter.init") == "pretrained",
        "+CD": run.setting("tuning.distillation_weight"),
        "+RW": run.setting("tuning.residual_weighting"),
    }
    return "".join(mark for mark, on in marks.items() if on)


def settings_of(run: Run) -> tuple[tuple[str, Any], ...]:
    """Settings that bear on the numbers and that neither the variant nor the protocol holds already."""
    kept = {
        key: value
        for key, value in run.flat.items()
        if is_told(key, value)
        and key.split(".")[0] not in _NOT_SETTINGS
        and key not in _NOT_SETTING_KEYS
        and not _idle(run, key)
    }
    # what it computed in: `auto` is bf16 on one machine and fp32 on another
    if (precision := precision_of(run)) is not None:
        kept["trainer.precision"] = precision
    # sums in another order: greedy texts in bf16 part at the first near tie
    if (threads := threads_of(run)) is not None:
        kept["trainer.threads"] = threads
    return tuple(sorted(kept.items()))


def trained_as(run: Run) -> dict[str, Any]:
    """What has to be the same for a difference between two rows to lie in the rows, see ``columns.unlike``."""
    kept = {key: value for key, value in settings_of(run) if key not in _OF_A_ROW}
    trials = len(run.setting("tuning.lr_trials") or ())
    return kept | {"adapter.source_tokens": variant_of(run).source_tokens, "learning-rate trials": trials}


def is_told(key: str, value: Any) -> bool:
    """Whether a setting says more than its absence: an off switch is as good as none in an older version's files.

    Of what is on by default 0 says a lot.

    >>> is_told("tuning.lm_first_steps", 0), is_told("adapter.dropout", 0.0), is_told("tuning.lr_trials", ())
    (False, True, False)
    >>> is_told("encoder.als.seed", 0), is_told("encoder.als.seed", None)
    (True, False)
    """
    return value not in (None, ()) and (bool(value) or key not in SWITCHES)


def _idle(run: Run, key: str) -> bool:
    """Whether a setting does nothing in this run."""
    init = run.setting("adapter.init")
    if key.startswith("pretraining."):
        return str(init) != "pretrained" or (key.startswith("pretraining.grounding") and "vg" not in _losses(run))
    if key.startswith("teacher."):
        return str(run.setting("teacher.kind", "facts")) == "facts"
    if key == "adapter.bert":
        return str(init) == "random"
    if key == "adapter.source_tokens":
        return True  # the variant holds it
    if key == "tuning.distillation_tokens":
        return not run.setting("tuning.distillation_weight")
    if key.startswith("tuning.residual_"):
        return not run.setting("tuning.residual_weighting")
    if key == "tuning.trial_steps":
        return not run.setting("tuning.lr_trials")
    if key in ("tuning.lm_first_lr", "tuning.lm_first_seed"):
        return not run.setting("tuning.lm_first_steps")
    if key.startswith("tuning.history"):
        return True  # of recommendation
    if key == "tuning.lm_lr":
        return str(run.setting("tuning.mode")) == "frozen"
    if key.startswith("tuning.lora"):
        # what the language model learns alone first, it learns with LoRA in every mode
        return str(run.setting("tuning.mode")) != "lora" and not run.setting("tuning.lm_first_steps")
    return False


def _losses(run: Run) -> frozenset[str]:
    return frozenset(str(loss) for loss in run.setting("pretraining.losses") or ())


def differing(
    groups: Mapping[int, tuple[tuple[str, Any], ...]], files: Mapping[int, Mapping[str, Any]] | None = None
) -> dict[int, str]:
    """Say by which settings several groups of runs differ.

    Args:
        groups: settings by group.
        files: by group what its configuration says, flat.

    Returns:
        Per group a text such as ``tuning.steps=600``; empty where there is one group.

    >>> differing({0: (("a", 1), ("b", 2)), 1: (("a", 1), ("b", 3))})
    {0: 'b=2', 1: 'b=3'}
    """
    tables = {key: dict(settings) for key, settings in groups.items()}
    apart = told_apart(list(tables.values()), [(files or {}).get(key, entries) for key, entries in tables.items()])
    return {
        key: ", ".join(f"{name}={shown(name, entries, (files or {}).get(key, {}))}" for name in apart)
        for key, entries in tables.items()
    }


def shown(name: str, settings: Mapping[str, Any], said: Mapping[str, Any]) -> Any:
    """A setting's value in words: of an off switch what the configuration says; None where it does nothing.

    >>> shown("tuning.lm_first_steps", {}, {"tuning.lm_first_steps": 0}), shown("lora_rank", {}, {"lora_rank": 16})
    (0, None)
    """
    value = said.get(name)
    return settings[name] if name in settings else None if is_told(name, value) else value


def told_apart(tables: Sequence[Mapping[str, Any]], files: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the settings in which tables differ.

    Args:
        tables: settings that do something.
        files: for each what its configuration says, flat.

    Returns:
        Sorted names, without those that every file says alike and that merely do nothing in some: another setting,
        which is named, makes them so.

    >>> rank = {"lora_rank": 16}
    >>> told_apart([{"first": 400, **rank}, {"first": 0}], [{"first": 400, **rank}, {"first": 0, **rank}])
    ['first']
    """
    names = sorted({name for entries in tables for name in entries})
    apart = [name for name in names if len({repr(entries.get(name)) for entries in tables}) > 1]
    named = [
        name
        for name in apart
        if all(name in entries for entries in tables) or len({repr(said.get(name)) for said in files}) > 1
    ]
    return named or apart


def budget_of(run: Run) -> tuple[int, int] | None:
    """Phase-2 steps and batch size; None where the configuration is not there."""
    steps, batch = run.setting("tuning.steps"), run.setting("tuning.batch_size")
    return None if steps is None or batch is None else (int(steps), int(batch))


def compute_of(run: Run) -> dict[str, float]:
    """Seconds of phase 1 and phase 2, as measured."""
    return {stage: run.seconds[stage] for stage in ("pretrain", "tune") if stage in run.seconds}
