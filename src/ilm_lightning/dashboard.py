"""Runs as one page: ``python -m ilm_lightning.dashboard outputs/ --html results.html``.

The page holds the paper's tables with ours, claims, curves, sample texts, times and memory, and needs neither an
account nor a network. With ``--wandb`` a Weights & Biases report that compares the same variants is made as well.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ilm_lightning.reporting.command import nothing_finished, runs_parser, show_problems, told

log = logging.getLogger("ilm_lightning")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = runs_parser("dashboard", __doc__)
    made.add_argument("--html", default="dashboard.html", metavar="FILE", help="the page (default: dashboard.html)")
    made.add_argument("--title", default="Item-Language Model: results", help="of the page")
    made.add_argument("--wandb", metavar="PROJECT", help="also make a W&B report on the runs logged in this project")
    made.add_argument("--entity", help="W&B user or team (default: the account's own)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return told(_run, parser().parse_args(arguments))


def _run(options: argparse.Namespace) -> int:
    from ilm_lightning.engine.validate_machine import check_writable
    from ilm_lightning.reporting import page
    from ilm_lightning.reporting.claims import go_through
    from ilm_lightning.reporting.document import build, check_resamples
    from ilm_lightning.reporting.text import counted

    check_resamples(options.resamples)
    path = Path(options.html)
    if path.is_dir():
        raise ValueError(f"--html {path} is a folder: name the page's file, like {path / 'dashboard.html'}")
    check_writable("--html", str(path.parent))
    document = build(options.folders, options.resamples)
    if nothing_finished(document):
        return 1
    claims = go_through(document.main, document.rankings, document.resamples)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = page.write(document, claims, options.title)
    path.write_text(text, encoding="utf-8")
    show_problems(document.problems)
    log.info("%s: %s", counted(document.runs, "finished run"), path)
    if options.wandb:
        from ilm_lightning.reporting.wandb_report import publish

        log.info("W&B report: %s", publish(document, claims, options.wandb, options.entity, options.title))
    return 0


if __name__ == "__main__":
    sys.exit(main())
