"""What a command loads: a refusal comes at once where nothing heavy is, on any machine and beside any other work."""

HEAVY = {"torch", "lightning", "transformers", "polars", "pandas"}
SWITCH = "PYTHONPROFILEIMPORTTIME"
"""In the environment of a command, it writes what it imports to standard error."""


def heavy_imports(errors: str) -> set[str]:
    """Packages of ``HEAVY`` in what a command under ``SWITCH`` wrote.

    Args:
        errors: its standard error.
    """
    lines = [line for line in errors.splitlines() if line.startswith("import time:")]
    assert len(lines) > 50, "the command was not run under the switch"
    return HEAVY & {line.rsplit("|", 1)[1].strip() for line in lines}
