"""Checks of a configuration that need no model and no data: they fail in the first second and say what to do."""

import difflib
from pathlib import Path
from typing import Any

from ilm_lightning.engine.checks import ConfigError, not_negative, one_of, plain_name, positive
from ilm_lightning.engine.config import AdapterConfig, Config
from ilm_lightning.engine.validate_logger import check_logger
from ilm_lightning.engine.validate_machine import check_machine, check_writable
from ilm_lightning.engine.validate_openp5 import check_openp5_files, check_raw_folder
from ilm_lightning.engine.validate_phases import LOSSES, check_phase1, check_phase2
from ilm_lightning.engine.validate_teacher import check_teacher_settings
from ilm_lightning.hardware import missing_for_spark

__all__ = ["ConfigError", "check_writable", "validate"]

CONDITIONS = ("own", "shuffled", "hard_shuffled", "constant", "knn_copy", "blind", "title", "facts")
DATA_KINDS = ("movielens_small", "ml_latest_small", "ml_100k", "ml_1m", "ml_25m", "openp5", "custom")

# repeated here so that checking needs no heavy import; a test holds both lists together
TASKS = (
    "summary", "positive_review", "negative_review", "neutral_review", "five_positive_characteristics",
    "five_negative_characteristics", "long_description", "funnier", "sadder", "scarier", "improve", "movie_to_viewer",
    "pitch", "criticize", "convince1", "convince2", "convince3", "dissuade1", "dissuade2", "similarities",
    "interpolation", "why_like_nn", "diff_than_nn", "common_with_nn",
)  # fmt: skip
FIGURE1_TASKS = ("long_summary", "genome_tags", "rating", "next_item", "user_profile")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")
SPLIT_RULES = ("strict", "paper", "cold")
TEXT_FIELDS = (
    "title", "year", "decade", "text", "aliases", "genres", "tags", "genome_tags", "directors", "writers", "cast",
    "countries", "languages", "studios",
)  # fmt: skip

POSITIVE = (
    "adapter.num_queries", "adapter.source_tokens", "adapter.num_layers", "adapter.cross_attention_every",
    "pretraining.batch_size", "pretraining.lr", "pretraining.steps", "pretraining.pair_batch_size",
    "pretraining.val_every", "adapter.num_heads", "adapter.hidden_size", "adapter.intermediate_size", "tuning.steps",
    "tuning.trial_steps", "tuning.distillation_tokens", "tuning.val_every", "tuning.val_examples",
    "tuning.lora_rank", "tuning.batch_size", "tuning.adapter_lr", "tuning.lm_lr", "encoder.als.factors",
    "encoder.als.iterations", "tasks.user_history", "tasks.candidates", "evaluation.movies",
    "evaluation.max_new_tokens", "evaluation.batch_size", "evaluation.derangements", "evaluation.bootstrap",
    "pretraining.max_text_tokens", "pretraining.margin", "pretraining.grounding_scale", "tuning.lora_alpha",
    "encoder.als.alpha", "trainer.log_every",
)  # fmt: skip
NOT_NEGATIVE = (
    "seed", "data.min_ratings", "encoder.als.regularization", "pretraining.warmup_steps", "pretraining.weight_decay",
    "tuning.warmup_steps", "tuning.weight_decay", "tuning.gradient_clip", "tuning.checkpoint_every_s",
    "evaluation.samples", "trainer.threads",
)  # fmt: skip


def validate(config: Config) -> None:
    """Raise where a configuration cannot run.

    Args:
        config: the typed configuration.

    Raises:
        ConfigError: names the key, its value and what to set instead.
    """
    _own_names(config)
    _choices(config)
    _numbers(config)
    check_machine(config)
    _files(config)
    _asset_names(config)
    check_teacher_settings(config, FIGURE1_TASKS)
    check_logger(config.logger)


def _choices(config: Config) -> None:
    one_of("data.kind", config.data.kind, DATA_KINDS)
    one_of("data.split", config.data.split, SPLIT_RULES)
    one_of("encoder.name", config.encoder.name, ("semantic", "behavioral", "combined"))
    _als_engine(config)
    one_of("adapter.kind", config.adapter.kind, ("qformer", "mlp", "collm", "perceiver", "constant", "custom"))
    one_of("adapter.init", config.adapter.init, ("pretrained", "bert", "random"))
    one_of("tuning.mode", config.tuning.mode, ("frozen", "lora", "full"))
    one_of("tasks.kind", config.tasks.kind, ("elm", "figure1", "openp5"))
    one_of("tasks.neighbour_space", config.tasks.neighbour_space, ("semantic", "behavioral"))
    one_of("tasks.interpolation", config.tasks.interpolation, ("mean", "two_items"))
    one_of("pretraining.pair_mode", config.pretraining.pair_mode, ("margin", "margin_all", "infonce"))
    one_of("pretraining.pair_projection", config.pretraining.pair_projection, ("own", "shared"))
    one_of("evaluation.split", config.evaluation.split, ("validation", "test"))
    one_of("lm.dtype", config.lm.dtype, ("auto", "float32", "bfloat16"))
    one_of("trainer.accelerator", config.trainer.accelerator, ("auto", "cpu", "gpu", "cuda", "mps"))
    one_of("trainer.precision", config.trainer.precision, PRECISIONS)
    for key, name in (("run", config.run), ("name", config.name)):
        if name and not plain_name(name):
            raise ConfigError(
                f"{key}={name!r} is a name under outputs/, not a path; set outputs=FOLDER for another place"
            )
    if not config.encoder.text_fields:
        raise ConfigError(f"encoder.text_fields is empty; choose from {', '.join(TEXT_FIELDS)}")
    for loss in config.pretraining.losses:
        one_of("pretraining.losses", loss, LOSSES)
    for condition in config.evaluation.conditions:
        one_of("evaluation.conditions", condition, CONDITIONS)
    unknown = sorted(set(config.pretraining.proportions) - {"item_text", "item_item", "user_item"})
    if unknown:
        raise ConfigError(f"pretraining.proportions.{unknown[0]}: the sets are item_text, item_item and user_item")
    for name in config.tasks.names if config.tasks.kind != "openp5" else ():
        one_of("tasks.names", name, (*TASKS, *FIGURE1_TASKS, *_own_names(config)))
    for key, fields in (
        ("encoder.text_fields", config.encoder.text_fields),
        ("pretraining.grounding_fields", config.pretraining.grounding_fields),
    ):
        for name in fields:
            one_of(key, name, TEXT_FIELDS)
    if config.tasks.title_in_prompt and "hard_shuffled" in config.evaluation.conditions:
        left = ",".join(name for name in config.evaluation.conditions if name != "hard_shuffled")
        raise ConfigError(
            "tasks.title_in_prompt=true: hard_shuffled borrows another movie's text, whose prompt holds that title; "
            f"leave it out with evaluation.conditions=[{left}]: shuffled is written anew, titles kept"
        )
    _genome(config)
    if config.data.split == "cold" and config.tasks.neighbour_space == "behavioral":
        raise ConfigError(
            "data.split=cold leaves held-out movies without behavioral vectors, so they have no neighbours there; "
            "set tasks.neighbour_space=semantic"
        )
    if "own" not in config.evaluation.conditions:
        raise ConfigError("evaluation.conditions must hold 'own': every control is compared with it")
    check_phase1(config)
    check_phase2(config)


def _als_engine(config: Config) -> None:
    als = config.encoder.als
    one_of("encoder.als.engine", als.engine, ("own", "implicit", "spark"))
    if als.engine != "spark":
        if als.spark_master:
            raise ConfigError(f"encoder.als.spark_master={als.spark_master} needs encoder.als.engine=spark")
        return
    if lacking := missing_for_spark():
        raise ConfigError(f"encoder.als.engine=spark needs {lacking}")
    if als.alpha < 1:
        raise ConfigError(
            f"encoder.als.alpha={als.alpha:g}: Spark takes no confidence below a missing interaction's, 1"
        )


def _genome(config: Config) -> None:
    names = config.tasks.names or (FIGURE1_TASKS if config.tasks.kind == "figure1" else ())
    if "genome_tags" not in names:
        return
    if config.data.kind != "ml_25m":
        raise ConfigError(
            f"tasks.names=genome_tags: data={config.data.name} has no genome scores; take data=ml_25m, or leave it out"
        )
    if config.data.genome_in_text:
        raise ConfigError(
            "tasks.names=genome_tags: the items' texts and vectors hold the very tags; set data.genome_in_text=false"
        )


def _numbers(config: Config) -> None:
    positive(**{key.replace(".", "__"): value_of(config, key) for key in POSITIVE})
    not_negative(**{key.replace(".", "__"): value_of(config, key) for key in NOT_NEGATIVE})
    shares = config.pretraining.proportions.items()
    not_negative(**{f"pretraining__proportions__{name}": share for name, share in shares})
    _ranges(config)


def value_of(config: Config, key: str) -> float:
    """The number under a dotted key.

    >>> value_of(Config(), "tuning.lora_rank")
    16
    """
    found: Any = config
    for part in key.split("."):
        found = getattr(found, part)
    number: float = found
    return number


def _ranges(config: Config) -> None:
    """Numbers with two ends, and those that depend on each other."""
    adapter, pretraining, tuning = config.adapter, config.pretraining, config.tuning
    if adapter.kind == "qformer" and adapter.hidden_size % adapter.num_heads:
        raise ConfigError(
            f"adapter.hidden_size={adapter.hidden_size} is not divisible by adapter.num_heads={adapter.num_heads}"
        )
    for key, tags in (
        ("data.tags_per_item", config.data.tags_per_item),
        ("data.genome_tags_per_item", config.data.genome_tags_per_item),
    ):
        if tags < 0:
            raise ConfigError(f"{key}={tags} must be at least 0; 0 leaves these tags out")
    if not 0 <= config.data.genome_min_relevance <= 1:
        raise ConfigError(f"data.genome_min_relevance={config.data.genome_min_relevance} must lie in [0, 1]")
    for key, value in (
        ("adapter.dropout", adapter.dropout),
        ("pretraining.source_dropout", pretraining.source_dropout),
        ("pretraining.label_smoothing", pretraining.label_smoothing),
    ):
        if not 0 <= value < 1:
            raise ConfigError(f"{key}={value} must lie in [0, 1)")
    if adapter.kind in ("mlp", "collm", "constant") and adapter.dropout != AdapterConfig().dropout:
        raise ConfigError(f"adapter.dropout={adapter.dropout} is for a Q-Former; adapter={adapter.kind} has no dropout")
    if not 0 <= tuning.adapter_first_share <= 1:
        raise ConfigError(f"tuning.adapter_first_share={tuning.adapter_first_share} must lie in [0, 1]")
    if pretraining.source_dropout and config.encoder.name != "combined":
        raise ConfigError("pretraining.source_dropout drops the semantic source and needs encoder=combined")


def _own_names(config: Config) -> tuple[str, ...]:
    """Names of the user's own tasks; their file is read and checked here, before anything heavy."""
    # with recommendation the file is refused, whatever is in it
    if config.tasks.file is None or config.tasks.kind == "openp5":
        return ()
    from ilm_lightning.tasks.elm.own import read_own_tasks

    return tuple(read_own_tasks(Path(config.tasks.file)).tasks)


def _asset_names(config: Config) -> None:
    from ilm_lightning.assets import REGISTRY
    from ilm_lightning.assets.hub import hub_name

    for name in config.assets:
        if name not in REGISTRY:
            near = difflib.get_close_matches(name.lower(), REGISTRY, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"assets.{name}: no asset is called so; there are {', '.join(REGISTRY)}{hint}")
    second = config.evaluation.second_scorer
    if second == config.evaluation.scorer:
        raise ConfigError(
            f"evaluation.second_scorer={second} is the first scorer: a second opinion needs a model of another family; "
            "null leaves it to ROUGE-L and slot accuracy"
        )
    for key, name in (
        ("encoder.text_model", config.encoder.text_model),
        ("adapter.bert", config.adapter.bert),
        ("lm.name", config.lm.name),
        ("evaluation.scorer", config.evaluation.scorer),
        *([("teacher.model", config.teacher.model)] if config.teacher.kind == "lm" and config.teacher.model else []),
        *([("evaluation.second_scorer", second)] if second is not None else []),
    ):
        if name not in REGISTRY and not Path(name).expanduser().exists() and hub_name(name) is None:
            if name.startswith(("/", ".", "~")):
                raise ConfigError(f"{key}={name}: there is no such folder")
            near = difflib.get_close_matches(name.lower(), REGISTRY, n=1, cutoff=0.5)
            raise ConfigError(
                f"{key}={name} is neither an asset ({', '.join(REGISTRY)}), nor a folder, nor a hub's owner/model"
                + (f"; did you mean {near[0]}?" if near else "")
            )


def _files(config: Config) -> None:
    data = config.data
    check_raw_folder(config)
    if data.kind == "openp5":
        check_openp5_files(data)
    elif data.kind != "custom" and (data.interactions or data.items or data.columns):
        raise ConfigError("data.interactions, data.items and data.columns belong to your own data: add data=custom")
    if data.kind == "custom":
        if data.path is not None:
            raise ConfigError(f"data.path={data.path}: your own data is two files, data.interactions and data.items")
        for key in ("interactions", "items"):
            value = getattr(data, key)
            if not value:
                raise ConfigError(f"data=custom needs data.{key}=FILE (CSV or parquet)")
            if not Path(value).is_file():
                raise ConfigError(f"data.{key}={value}: there is no such file")
    if not data.list_separator:
        raise ConfigError("data.list_separator is empty; give what parts several genres in one cell, as |")
    if data.path is not None and not Path(data.path).exists():
        raise ConfigError(f"data.path={data.path}: there is no such file or folder")
    for name, path in config.assets.items():
        if not Path(path).exists():
            raise ConfigError(f"assets.{name}={path}: there is no such file or folder")
