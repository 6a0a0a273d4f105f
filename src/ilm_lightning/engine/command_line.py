"""The command line before Hydra reads it, and what Hydra says of it: one line that tells what to write instead."""

import difflib
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from ilm_lightning.engine.checks import ConfigError
from ilm_lightning.engine.config import Config

_INNER = ("full_key:", "object_type=", "reference_type=", "To append to", "Config search path:", "provider=")
"""Begins a line of Hydra's for who writes an application, not for who uses it."""
MAPPINGS = ("data.columns.", "assets.", "pretraining.loss_weights.", "teacher.body.", "adapter.settings.")
"""Keys below which users write names of their own."""
_KINDS = {
    "converted to Integer": "a whole number",
    "converted to Float": "a number",
    "not a valid bool": "true or false",
    "not a ListConfig": "a list, as [a,b]",
    "is not Optional": "given",
    " to Dict[": "a mapping, written KEY.NAME=VALUE",
    "Cannot convert 'dict' to string": "a text",
    "Cannot convert 'list' to string": "a text",
}
"""What a setting must be, by how OmegaConf says that a value is none."""


def conf_dir() -> Path:
    """Folder of the config groups: inside the installed package, or at the root of a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parents[1] / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise ConfigError(f"no conf/ folder beside {package}: the installation is incomplete, reinstall the package")


def split_options(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part a command line into Hydra's options and the settings, which Hydra reads on one side of its options only.

    Raises:
        ConfigError: an option that is none.

    >>> split_options(["seed=0", "-m", "tuning.steps=3", "--cfg", "job"])
    (['-m', '--cfg', 'job'], ['seed=0', 'tuning.steps=3'])
    """
    words = list(arguments)
    for place, (word, after) in reversed(list(enumerate(zip(words, [*words, ""][1:], strict=False)))):
        # it would take a setting behind it as what to show
        if word in ("--info", "-i") and "=" in after:
            words.insert(place + 1, "all")
    read, unknown = get_args_parser().parse_known_intermixed_args(words)
    if unknown:
        bare = unknown[0].lstrip("-")
        hint = f"write {bare}" if "=" in bare else "settings are words KEY=VALUE"
        raise ConfigError(f"there is no option {unknown[0]}; {hint}, without dashes (--help lists them)")
    settings: list[str] = read.overrides
    options = words
    for setting in settings:
        options.remove(setting)
    return options, settings


def open_mapping(argument: str) -> str:
    """Let ``data.columns.user=NAME`` and ``assets.NAME=PATH`` add keys, as users expect of a mapping.

    >>> open_mapping("data.columns.user=customer"), open_mapping("tuning.steps=3")
    ('++data.columns.user=customer', 'tuning.steps=3')
    """
    return f"++{argument}" if argument.startswith(MAPPINGS) else argument


def check_settings(settings: Sequence[str], options: Sequence[str] = ()) -> None:
    """Refuse settings that Hydra would refuse at length.

    Args:
        settings: the command line without options.
        options: the rest of it.

    Raises:
        ConfigError: says what is wrong with the first of them.
    """
    check_keys(settings)
    check_form(settings)
    check_choices([*options, *settings])
    check_values(settings)


def check_values(settings: Sequence[str]) -> None:
    """Refuse a value that Hydra's grammar cannot read.

    Raises:
        ConfigError: names it.
    """
    parser = OverridesParser.create()
    for setting in settings:
        try:
            parser.parse_override(setting)
        except HydraException:
            key, _, value = setting.partition("=")
            opened = set(value) & set("[]{}()'\"")
            fix = "close its brackets and quotes, and give" if opened else "give"
            raise ConfigError(
                f"{key}: {value!r} cannot be read: {fix} text that holds such signs in quotes, as '{key}=\"a (b)\"'"
            ) from None


def check_form(settings: Sequence[str]) -> None:
    """Refuse a word that is no ``KEY=VALUE``.

    Raises:
        ConfigError: says what to write.
    """
    for word, after in zip(settings, [*settings, "="][1:], strict=True):
        if "=" in word or word.startswith("~"):
            continue
        if word in known_keys():
            raise ConfigError(f"{word} has no value: write {word}={'VALUE' if '=' in after else after}")
        raise ConfigError(
            f"{word!r} is no setting: write KEY=VALUE without spaces, as experiment=ilm_qformer, "
            "and a value with spaces in quotes, as 'tuning={steps: 3}'"
        )


def known_keys() -> list[str]:
    """Every key of the configuration, dotted, and the config groups."""
    keys = [path.name for path in conf_dir().iterdir() if path.is_dir()]

    def walk(owner: type, prefix: str) -> None:
        hints = get_type_hints(owner)
        for entry in fields(owner):
            keys.append(prefix + entry.name)
            if is_dataclass(hints[entry.name]):
                walk(hints[entry.name], f"{prefix}{entry.name}.")

    walk(Config, "")
    # a group and its part of the configuration have one name
    return list(dict.fromkeys(keys))


def check_keys(arguments: Sequence[str]) -> None:
    """Refuse a key that the configuration does not hold, before Hydra does so at length, and a comma without a value.

    Args:
        arguments: the command line.

    Raises:
        ConfigError: names the key and the nearest ones.
    """
    keys = known_keys()
    for argument in arguments:
        if argument.endswith(",") and "=" in argument:
            raise ConfigError(
                f"{argument} has no value after its comma; write a sweep's without spaces, as in seed=0,1"
            )
        key, sign, _ = argument.lstrip("+").partition("=")
        plain = sign and key[:1] not in "~-" and "@" not in key and not key.startswith("hydra")
        if plain and key not in keys and not key.startswith((*MAPPINGS, "pretraining.proportions.")):
            near = difflib.get_close_matches(key, keys, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else "see python -m ilm_lightning.train --cfg job"
            raise ConfigError(f"there is no setting {key}; {hint}")


def check_choices(arguments: Sequence[str]) -> None:
    """Refuse a choice that its config group does not hold, before Hydra does so at length.

    Args:
        arguments: the command line.

    Raises:
        ConfigError: names the group, what there is, and the nearest of it.
    """
    # the user's own folder may hold more
    if any(argument.startswith(("--config-dir", "-cd", "hydra.searchpath")) for argument in arguments):
        return
    for argument in arguments:
        group, sign, values = argument.lstrip("+").partition("=")
        folder = conf_dir() / group
        # Hydra's grammar: lists, mappings, choice(), glob(), quotes
        written = set(values) & set("[]{}()'\"")
        if not sign or written or not group.isidentifier() or not folder.is_dir():
            continue
        known = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
        for value in values.split(","):
            if value in known or not value:
                continue
            near = difflib.get_close_matches(value, known, n=2, cutoff=0.6)
            hint = f"did you mean {' or '.join(near)}? There are" if near else "there are"
            raise ConfigError(f"{group}={value}: there is no such choice; {hint} {', '.join(known)}")


def told(error: Exception) -> str:
    r"""What Hydra or a sweep says of a command line, without the types behind it and the sentence on stack traces.

    >>> told(ValueError("Error merging override seed=abc\nnot an integer\n    full_key: seed"))
    'Error merging override seed=abc\nnot an integer'
    """
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        kind = next((kind for sign, kind in _KINDS.items() if sign in str(cause)), "")
        if kind:
            return f"{cause.full_key} must be {kind}, got {cause.value!r}"
    texts = [str(error)]
    if isinstance(cause, OmegaConfBaseException) and str(cause) not in texts[0]:
        texts.append(str(cause))
    lines = [line for text in texts for line in text.splitlines()]
    return "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith(_INNER))
