"""Runs as the paper's tables: ``python -m ilm_lightning.report outputs/``.

Finished runs are gathered into Tables 2, 3, 9, 10 and Figure 3 as Markdown, LaTeX and CSV: ours with the spread over
seeds, the paper's numbers beside, differences with paired intervals. What is missing or cannot be compared is named.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ilm_lightning.reporting.document import Document

log = logging.getLogger("ilm_lightning")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m ilm_lightning.report", description=(__doc__ or "").split("\n\n")[1])
    made.add_argument("folders", nargs="+", metavar="FOLDER", help="a run folder, or a folder that holds runs")
    made.add_argument("--out", default="report", metavar="FOLDER", help="where the files go (default: report)")
    made.add_argument("--claims", action="store_true", help="also go through the paper's claims (claims.md)")
    made.add_argument("--resamples", type=int, default=5000, help="draws of the bootstrap (default and least: 5000)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    options = parser().parse_args(arguments)
    try:
        return _run(options)
    except (ValueError, OSError) as error:
        from ilm_lightning.reporting.text import redact

        log.error("error: %s", redact(str(error)))
        return 1


def _run(options: argparse.Namespace) -> int:
    from ilm_lightning.reporting import csvs, latex, markdown
    from ilm_lightning.reporting.document import build, check_resamples
    from ilm_lightning.reporting.text import one_line, redact

    check_resamples(options.resamples)
    document = build(options.folders, options.resamples)
    files = {"report.md": markdown.write(document), "report.tex": latex.write(document), **csvs.write(document)}
    if options.claims:
        files["claims.md"] = _claims(document)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (out / name).write_text(redact(text), encoding="utf-8")
    for problem in document.problems:
        log.warning("%s", redact(f"{one_line(problem.where, 120)}: {one_line(problem.what)}"))
    log.info("%d finished runs, %d protocols: %s", document.runs, len(document.sections), out / "report.md")
    return 0 if document.runs else 1


def _claims(document: "Document") -> str:
    """Rest the claims on the protocol with most runs, and say on one line what came out."""
    from ilm_lightning.reporting import claims_page
    from ilm_lightning.reporting.claims import go_through

    claims = go_through(document.main)
    for claim in claims:
        log.info("claim %d: %s", claim.number, claims_page.verdicts(claim))
    return claims_page.write(claims, document.main)


if __name__ == "__main__":
    sys.exit(main())
