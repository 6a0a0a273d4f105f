"""Checks of a configuration that need no model and no data: they fail in the first second and say what to do."""

from collections.abc import Iterable
from pathlib import Path

from ilm_lightning.engine.config import Config

LOSSES = ("itc", "itm", "itg", "iic", "uic", "vg")
CONDITIONS = ("own", "shuffled", "hard_shuffled", "constant", "knn_copy", "blind", "title", "facts")
DATA_KINDS = ("movielens_small", "ml_latest_small", "ml_100k", "ml_1m", "custom")


class ConfigError(ValueError):
    """A configuration that cannot run, and how to mend it."""


def _one_of(key: str, value: str, allowed: Iterable[str]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key}={value} is not known; choose one of: {', '.join(allowed)}")


def _positive(**values: float) -> None:
    for key, value in values.items():
        if value <= 0:
            raise ConfigError(f"{key.replace('__', '.')}={value} must be above 0")


def validate(config: Config) -> None:
    """Raise where a configuration cannot run.

    Args:
        config: the typed configuration.

    Raises:
        ConfigError: names the key, its value and what to set instead.
    """
    _choices(config)
    _numbers(config)
    _files(config)


def _choices(config: Config) -> None:
    _one_of("data.kind", config.data.kind, DATA_KINDS)
    _one_of("encoder.name", config.encoder.name, ("semantic", "behavioral", "combined"))
    _one_of("adapter.kind", config.adapter.kind, ("qformer", "mlp", "constant"))
    _one_of("adapter.init", config.adapter.init, ("pretrained", "bert", "random"))
    _one_of("tuning.mode", config.tuning.mode, ("frozen", "lora", "full"))
    _one_of("tasks.kind", config.tasks.kind, ("elm",))
    _one_of("tasks.teacher", config.tasks.teacher, ("facts",))
    _one_of("tasks.neighbour_space", config.tasks.neighbour_space, ("semantic", "behavioral"))
    _one_of("pretraining.pair_mode", config.pretraining.pair_mode, ("margin", "margin_all", "infonce"))
    _one_of("evaluation.split", config.evaluation.split, ("validation", "test"))
    _one_of("lm.dtype", config.lm.dtype, ("auto", "float32", "bfloat16"))
    for loss in config.pretraining.losses:
        _one_of("pretraining.losses", loss, LOSSES)
    for condition in config.evaluation.conditions:
        _one_of("evaluation.conditions", condition, CONDITIONS)
    if "own" not in config.evaluation.conditions:
        raise ConfigError("evaluation.conditions must hold 'own': every control is compared with it")
    if config.adapter.kind != "qformer" and config.adapter.init != "random":
        raise ConfigError(
            f"adapter.init={config.adapter.init} needs a Q-Former, but adapter.kind={config.adapter.kind}; "
            "set adapter.init=random or adapter=qformer"
        )
    if config.adapter.init == "pretrained" and not config.pretraining.losses:
        raise ConfigError("adapter.init=pretrained needs pretraining.losses; or take adapter=qformer_bert")


def _numbers(config: Config) -> None:
    adapter, pretraining, tuning = config.adapter, config.pretraining, config.tuning
    _positive(
        adapter__num_queries=adapter.num_queries,
        adapter__source_tokens=adapter.source_tokens,
        adapter__num_layers=adapter.num_layers,
        adapter__cross_attention_every=adapter.cross_attention_every,
        pretraining__batch_size=pretraining.batch_size,
        pretraining__lr=pretraining.lr,
        pretraining__steps=pretraining.steps,
        tuning__steps=tuning.steps,
        tuning__batch_size=tuning.batch_size,
        tuning__adapter_lr=tuning.adapter_lr,
        tuning__lm_lr=tuning.lm_lr,
        encoder__als__factors=config.encoder.als.factors,
        encoder__als__iterations=config.encoder.als.iterations,
        evaluation__movies=config.evaluation.movies,
        evaluation__max_new_tokens=config.evaluation.max_new_tokens,
        trainer__devices=config.trainer.devices,
    )
    if adapter.kind == "qformer" and adapter.hidden_size % adapter.num_heads:
        raise ConfigError(
            f"adapter.hidden_size={adapter.hidden_size} is not divisible by adapter.num_heads={adapter.num_heads}"
        )
    for key, value in (
        ("adapter.dropout", adapter.dropout),
        ("pretraining.source_dropout", pretraining.source_dropout),
    ):
        if not 0 <= value < 1:
            raise ConfigError(f"{key}={value} must lie in [0, 1)")
    if pretraining.source_dropout and config.encoder.name != "combined":
        raise ConfigError("pretraining.source_dropout drops the semantic source and needs encoder=combined")


def _files(config: Config) -> None:
    data = config.data
    if data.kind == "custom":
        for key in ("interactions", "items"):
            value = getattr(data, key)
            if not value:
                raise ConfigError(f"data=custom needs data.{key}=FILE (CSV or parquet)")
            if not Path(value).is_file():
                raise ConfigError(f"data.{key}={value}: there is no such file")
    if data.path is not None and not Path(data.path).exists():
        raise ConfigError(f"data.path={data.path}: there is no such file or folder")
    for name, path in config.assets.items():
        if not Path(path).exists():
            raise ConfigError(f"assets.{name}={path}: there is no such file or folder")
