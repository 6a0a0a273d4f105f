"""What every check of a configuration uses."""

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """A configuration that cannot run, and how to mend it."""


def one_of(key: str, value: str, allowed: Iterable[str]) -> None:
    """Refuse a value that is not among the allowed ones, and name the nearest."""
    known = list(allowed)
    if value not in known:
        near = difflib.get_close_matches(value, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{key}={value} is not known; choose one of: {', '.join(known)}{hint}")


def plain_name(name: str) -> bool:
    """Tell whether a name stays in the folder that it is put into.

    >>> [plain_name(name) for name in ("run-1", "../run", "..", "/etc", ".hidden")]
    [True, False, False, False, False]
    """
    return not name.startswith(".") and not any(char in "/\\" or ord(char) < 32 for char in name)


def positive(**values: float) -> None:
    """Refuse values that are not above 0; a double underscore stands for the dot of a key."""
    for key, value in values.items():
        if value <= 0:
            raise ConfigError(f"{key.replace('__', '.')}={value} must be above 0")


def not_negative(**values: float) -> None:
    """Refuse values below 0; a double underscore stands for the dot of a key."""
    for key, value in values.items():
        if value < 0:
            raise ConfigError(f"{key.replace('__', '.')}={value} must be at least 0")
