"""What the commands on finished runs share: folders and draws on the command line, and how errors are told."""

import argparse
import logging
import sys
from collections.abc import Callable

log = logging.getLogger("ilm_lightning")


def runs_parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """A command line that takes folders of runs.

    Args:
        name: of the command, as in ``python -m ilm_lightning.NAME``.
        doc: of its module; the second paragraph describes the command.
    """
    made = argparse.ArgumentParser(prog=f"python -m ilm_lightning.{name}", description=(doc or "").split("\n\n")[1])
    made.add_argument("folders", nargs="+", metavar="FOLDER", help="a run folder, or a folder that holds runs")
    made.add_argument("--resamples", type=int, default=5000, help="draws of the bootstrap (default and least: 5000)")
    return made


def told(task: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Run a command with plain messages on standard error; returns its exit status, 1 after a user's error."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    try:
        return task(options)
    except (ValueError, OSError) as error:
        from ilm_lightning.reporting.text import redact

        log.error("error: %s", redact(str(error)))
        return 1
