"""Runs as the paper's tables: ``python -m ilm_lightning.report outputs/``.

Finished runs are gathered into Tables 2 to 10 and Figure 3 as Markdown, LaTeX and CSV: ours with the spread over seeds,
the paper's numbers beside, differences with paired intervals. What is missing or cannot be compared is named.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ilm_lightning.reporting.command import nothing_finished, runs_parser, show_problems, told

if TYPE_CHECKING:
    from ilm_lightning.reporting.document import Document

log = logging.getLogger("ilm_lightning")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = runs_parser("report", __doc__)
    made.add_argument("--out", default="report", metavar="FOLDER", help="where the files go (default: report)")
    held = "FOLDER is experiments/ or one of its folders: hold against expected.json"
    made.add_argument("--expected", action="store_true", help=held)
    made.add_argument("--rerun", action="store_true", help="with --expected: run the cheap ones anew as well")
    made.add_argument("--claims", action="store_true", help="also go through the paper's claims (claims.md)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    made = parser()
    options = made.parse_args(arguments)
    if options.rerun and not options.expected:
        made.error("--rerun runs the cheap experiments anew and holds them against expected.json: add --expected")
    return told(_expected if options.expected else _run, options)


def _run(options: argparse.Namespace) -> int:
    from ilm_lightning.engine.validate_machine import check_writable
    from ilm_lightning.reporting import csvs, latex, markdown
    from ilm_lightning.reporting.document import build, check_resamples
    from ilm_lightning.reporting.text import counted, redact

    check_resamples(options.resamples)
    check_writable("--out", options.out)
    document = build(options.folders, options.resamples)
    if nothing_finished(document):
        return 1
    files = {"report.md": markdown.write(document), "report.tex": latex.write(document), **csvs.write(document)}
    if options.claims:
        files["claims.md"] = _claims(document)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (out / name).write_text(redact(text), encoding="utf-8")
    show_problems(document.problems)
    ranked = {row.protocol for row in document.rankings.rows} if document.rankings else ()
    protocols = counted(len(document.sections) + len(ranked), "protocol")
    log.info("%s, %s: %s", counted(document.runs, "finished run"), protocols, out / "report.md")
    if options.claims:
        log.info("the claims' numbers, reasons and missing runs: %s", out / "claims.md")
    return 0


def _expected(options: argparse.Namespace) -> int:
    """Hold experiments against what is expected of them."""
    from ilm_lightning.reporting.expected import committed, read_experiments, run_anew
    from ilm_lightning.reporting.text import redact

    outcomes = []
    for experiment in [found for folder in options.folders for found in read_experiments(Path(folder))]:
        outcomes += committed(experiment)
        if options.rerun and experiment.cost == "cheap":
            log.info("%s: about %g minutes", experiment.folder.name, experiment.minutes)
            outcomes += run_anew(experiment)
    for outcome in outcomes:
        log.log(logging.INFO if outcome.passed else logging.ERROR, "%s", redact(outcome.line))
    failed = sum(not outcome.passed for outcome in outcomes)
    log.info("%d of %d values as expected", len(outcomes) - failed, len(outcomes))
    return 1 if failed else 0


def _claims(document: "Document") -> str:
    """Rest the claims on the protocol with most runs, and say on one line what came out."""
    from ilm_lightning.reporting import claims_page
    from ilm_lightning.reporting.claims import go_through

    claims = go_through(document.main, document.rankings, document.resamples)
    for claim in claims:
        log.info("claim %d: %s", claim.number, claims_page.verdicts(claim))
    return claims_page.write(claims, document.main)


if __name__ == "__main__":
    sys.exit(main())
