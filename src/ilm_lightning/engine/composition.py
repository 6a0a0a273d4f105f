"""Many configurations in one process: what the groups give is composed once, values are laid over a copy of it."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import fields, is_dataclass
from functools import cache

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from ilm_lightning.engine.command_line import conf_dir
from ilm_lightning.engine.config import Config, as_config


@cache
def register_schema() -> None:
    """Register the typed schema that every composed config is checked against."""
    ConfigStore.instance().store(name="schema", node=Config)


def composed_node(overrides: Sequence[str]) -> DictConfig:
    """What ``train`` composes from a command line's overrides, as Hydra has it.

    Args:
        overrides: of one run, without options.

    Raises:
        HydraException: as Hydra's own; ``command_line.told`` makes a line of it.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    values = [override for override in parsed if _is_value(override)]
    chosen = tuple(str(override.input_line) for override in parsed if not _is_value(override))
    node = deepcopy(_chosen(chosen))
    # the very step with which Hydra ends a composition
    ConfigLoaderImpl._apply_overrides_to_config(values, node)
    return node


def composed(*overrides: str) -> Config:
    """The typed configuration of a command line's overrides.

    Args:
        overrides: of one run, without options.

    Raises:
        HydraException: as ``composed_node``.
        ValueError: as ``as_config``.
    """
    return as_config(composed_node(overrides))


@cache
def _chosen(overrides: tuple[str, ...]) -> DictConfig:
    register_schema()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", list(overrides))


def _is_value(override: Override) -> bool:
    """Whether it sets a value in what is composed, rather than say of what to compose it."""
    key = override.key_or_group
    head, *rest = key.split(".")
    if override.package is not None or "/" in key or head == "hydra" or override.is_sweep_override():
        return False
    # Hydra's own rule: a mapping given to a group is laid over what the group's file says
    return bool(rest) or head in _plain_settings() or isinstance(override.value(), dict)


@cache
def _plain_settings() -> frozenset[str]:
    """Settings beside the groups, such as ``seed``."""
    return frozenset(item.name for item in fields(Config) if not is_dataclass(item.type))
