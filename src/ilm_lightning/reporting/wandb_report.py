"""The same comparison as a Weights & Biases report, where one is logged in there."""

from collections.abc import Mapping, Sequence
from typing import Any

from ilm_lightning.reporting import ranking_markdown
from ilm_lightning.reporting.claims import Claim
from ilm_lightning.reporting.claims_page import verdicts
from ilm_lightning.reporting.document import Document
from ilm_lightning.reporting.markdown import figure_3, number
from ilm_lightning.reporting.runs import Run
from ilm_lightning.reporting.scores import ITEM, SC
from ilm_lightning.reporting.tables import Table, measure_name
from ilm_lightning.reporting.text import grid, markdown, one_line, redact
from ilm_lightning.reporting.wandb_login import logged_in

PHASE_1 = ("val/loss", "val/itg_nll", "val/vg")
PANELS = {"tune": ("val/loss", "val/sc", "train/loss"), "pretrain": PHASE_1}
"""Job type of a stage -> what its runs log."""
COSTS = ("run/seconds/tune", "run/train_flops", "run/peak_memory_gib")
BARS = ("test/sc/own", *COSTS)
"""What finished runs log at their end."""
RANKING_BARS = ("test/hr@10/sequential, seen", "test/ndcg@10/sequential, seen", *COSTS)
RANKING_PANELS = {"tune": ("val/loss", "val/hr10", "train/loss"), "pretrain": PHASE_1}


class WandbError(ValueError):
    """Weights & Biases cannot be used, and what to do."""


def publish(document: Document, claims: Sequence[Claim], project: str, entity: str | None, title: str) -> str:
    """Make the report.

    Args:
        document: the report.
        claims: gone through on its first section.
        project: where the runs are logged.
        entity: user or team; None takes the account's own.
        title: of the report.

    Returns:
        Its address.

    Raises:
        WandbError: a package is missing, nobody is logged in, or the service refuses.
    """
    try:
        import wandb
        import wandb_workspaces.reports.v2 as wr
    except ImportError as error:
        raise WandbError("--wandb needs more packages: pip install 'ilm-lightning[wandb]'") from error
    if not logged_in():
        raise WandbError("--wandb: nobody is logged in to Weights & Biases; run `wandb login`, or leave --wandb out")
    owner = {"entity": entity} if entity else {}
    try:
        report = wr.Report(
            project=project, title=redact(title), blocks=blocks(document, claims, project, entity), **owner
        )
        report.save()
        return str(report.url)
    except (wandb.errors.Error, OSError, KeyError) as error:
        raise WandbError(f"Weights & Biases did not take the report: {redact(str(error))}") from error


def blocks(document: Document, claims: Sequence[Claim], project: str, entity: str | None) -> list[Any]:
    """What the report holds: verdicts, tables as text, and panels over the runs that W&B knows."""
    import wandb_workspaces.reports.v2 as wr

    made: list[Any] = [wr.TableOfContents(), wr.H1("Claims"), wr.MarkdownBlock(_claims(claims))]
    for section in document.sections:
        letter = section.group.letter
        lines = [f"- {key.replace('_', ' ')}: {markdown(value)}" for key, value in section.group.described()]
        made += [wr.H1(f"Protocol {letter}"), wr.MarkdownBlock("\n".join(lines))]
        for measure in (SC, ITEM):
            for table in section.tables.get(measure, ()):
                name = measure_name(section.group, measure)
                made += [
                    wr.H2(f"Table {table.number}: {table.title}; {one_line(name)}"),
                    wr.MarkdownBlock(_table(table)),
                ]
        if curves := figure_3(section):
            made.append(wr.MarkdownBlock(_plain("\n".join(curves))))
        runs = [run for column in section.group.columns for run in column.runs.values()]
        made += [wr.H2("Results, texts, time and memory"), *_results(runs, BARS, "texts", project, entity)]
        made += [wr.H2("Losses"), *_panels(runs, PANELS, project, entity)]
    if document.rankings is not None:
        heading, *lines = ranking_markdown.write(document.rankings)
        made += [wr.H1(heading.lstrip("# ")), wr.MarkdownBlock(_plain("\n".join(lines)))]
        trained = [run for run in document.rankings.runs if run.metrics["ranking"]]
        if trained:
            made += [wr.H2("Results, lists, time and memory")]
            made += _results(trained, RANKING_BARS, "lists", project, entity)
            made += [wr.H2("Losses"), *_panels(trained, RANKING_PANELS, project, entity)]
    return made


def _claims(claims: Sequence[Claim]) -> str:
    rows = ([f"{claim.number}. {markdown(claim.text)}", markdown(verdicts(claim))] for claim in claims)
    return "\n".join(grid(["claim", "verdict"], rows, left=2))


def _plain(text: str) -> str:
    """Secrets masked; this Markdown knows no HTML: next-best is in italics."""
    return redact(text).replace("<u>", "*").replace("</u>", "*")


def _table(table: Table) -> str:
    head = ["task", *(f"{markdown(h.label)} ({markdown(h.note)})" for h in table.headings)]
    rows = ([markdown(name), *map(number, cells)] for name, cells in table.rows)
    return _plain("\n".join(grid(head, rows)))


def _runset(of: Sequence[Run], stage: str, project: str, entity: str | None) -> Any:
    """What these runs logged in one stage."""
    import wandb_workspaces.reports.v2 as wr

    names = sorted({str(run.setting("name", "")) for run in of})
    quoted = ", ".join(repr(name) for name in names if name)
    return wr.Runset(
        project=project,
        entity=entity or "",
        name=f"{stage}: rows of this table",
        filters=f"Config('name') in [{quoted}] and Metric('JobType') == '{stage}'",
    )


def _results(of: Sequence[Run], bars: Sequence[str], table: str, project: str, entity: str | None) -> list[Any]:
    """Results and costs as bars, grouped by row, and the table of texts or lists."""
    import wandb_workspaces.reports.v2 as wr

    panels = [wr.BarPlot(title=metric, metrics=[metric], groupby="config.name") for metric in bars]
    return [
        wr.PanelGrid(
            runsets=[_runset(of, "evaluate", project, entity)],
            panels=[*panels, wr.WeavePanelSummaryTable(table_name=table)],
        )
    ]


def _panels(of: Sequence[Run], logged: Mapping[str, Sequence[str]], project: str, entity: str | None) -> list[Any]:
    """One grid a stage: the runs of these rows, grouped by row."""
    import wandb_workspaces.reports.v2 as wr

    grids = []
    for stage, metrics in logged.items():
        panels = [
            wr.LinePlot(
                title=f"{stage}: {metric}",
                x="trainer/global_step",
                y=[metric],
                groupby="config.name",
                groupby_rangefunc="minmax",
            )
            for metric in metrics
        ]
        grids.append(wr.PanelGrid(runsets=[_runset(of, stage, project, entity)], panels=panels))
    return grids
