"""What the commands on finished runs share: folders and draws on the command line, and how errors are told."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ilm_lightning.reporting.document import Document
    from ilm_lightning.reporting.runs import Problem

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
    except KeyboardInterrupt:
        log.error("interrupted: nothing was written")
        return 130


def show_problems(problems: Sequence["Problem"]) -> None:
    """Name what was left out, missing or apart."""
    from ilm_lightning.reporting.text import one_line, redact

    for problem in problems:
        log.warning("%s", redact(f"{one_line(problem.where, 120)}: {one_line(problem.what)}"))


def nothing_finished(document: "Document") -> bool:
    """Whether there is nothing to report; said, with what was found instead."""
    if document.runs:
        return False
    show_problems(document.problems)
    log.error("error: no finished run in %s; nothing was written", ", ".join(document.folders))
    return True
