"""The claims as a Markdown page."""

from collections import Counter
from collections.abc import Sequence

from ilm_lightning.reporting.budgets import budget_line
from ilm_lightning.reporting.claims import Claim, stated
from ilm_lightning.reporting.decide import ROUGE_MARGIN, Part
from ilm_lightning.reporting.document import Section
from ilm_lightning.reporting.groups import Group
from ilm_lightning.reporting.pairing import ASKED_SEEDS, LEAST_SEEDS
from ilm_lightning.reporting.sizes import MARGIN
from ilm_lightning.reporting.text import LONG, grid, markdown, markdown_command

RULES = (
    "A claim of more is confirmed where the 95 % intervals of the nested bootstrap and of Student lie above 0 by SC "
    "and by a second scorer (without one by ROUGE-L or slot accuracy, neither saying the contrary), refuted where they "
    f"put it below 0, or by SC within {MARGIN} points (equivalence test at 5 %). A claim of equality is confirmed "
    f"where both scorers put it within {MARGIN} points (without a second one: SC does, ROUGE-L within {ROUGE_MARGIN} "
    "points, and neither ROUGE-L nor slot accuracy finds a difference), refuted where SC puts it beyond and the second "
    "measure finds a difference to the same side, and not confirmed where neither row is above all its "
    "controls, since two rows that ignore the item are equal in any case. A claim that one scorer alone supports is "
    "undecided, and so is one on copies of one run, on fewer than "
    f"{LEAST_SEEDS} seeds, on validation, on rows that were trained differently beside what makes them two rows, or "
    "where a measure that a row has cannot be compared. The protocol asks for "
    f"{ASKED_SEEDS} seeds where a claim rests on them: a verdict on fewer names their number, and one on rows that are "
    "not above their controls, or whose controls were not run, says so. "
    "Claims on recommendation rest on HR@10 and NDCG@10, paired over users, which have to agree; "
    "claim 6 on phase 1's held-out text loss, Student's interval over seeds. Of several parts all have to hold; parts "
    "told beside, in italics or marked so, do not count. Sizes that would decide are for a power of 80 % at the "
    "measured spread."
)


def write(claims: Sequence[Claim], section: Section | None) -> str:
    """Write the page.

    Args:
        claims: gone through.
        section: the runs they rest on.
    """
    parts = ["# The paper's claims on these runs", "", RULES, ""]
    if section is not None:
        lines = section.group.described()
        fields = "; ".join(f"{key.replace('_', ' ')}: {markdown(value)}" for key, value in lines)
        parts += [f"Protocol {section.group.letter}: {fields}.", "", _rows_of(section.group), ""]
        parts += [markdown(budget_line(section.group)), "", markdown(_made_by(section.group)), ""]
    head = ["claim", "verdict", "the paper"]
    rows = ([f"{c.number}. {markdown(c.text)}", verdicts(c), markdown(c.paper)] for c in claims)
    parts += [*grid(head, rows, left=3), ""]
    for claim in claims:
        parts += [f"## {claim.number}. {markdown(claim.text)}", "", f"The paper: {markdown(claim.paper)}.", ""]
        for name, tested in claim.parts.items():
            parts += [f"**{name}: {claim.said(name)}**", ""]
            parts += [line for part in tested for line in _part(part)] + [""]
        parts += [f"Note: {markdown(note, LONG)}." for note in claim.notes]
        missing = missing_runs(claim)
        if missing:
            parts += ["Missing runs:", "", *(f"- {markdown_command(entry)}" for entry in missing)]
        parts += [""] if claim.notes or missing else []
    return "\n".join(parts)


def verdicts(claim: Claim) -> str:
    """The verdicts in one line; one word where all measures agree."""
    found = {name: claim.said(name) for name in claim.verdicts}
    if len(set(found.values())) > 1:
        return "; ".join(f"{name}: {said}" for name, said in found.items())
    (said,) = set(found.values())
    return f"{said}: these runs are missing" if all_missing(claim) else said


def all_missing(claim: Claim) -> bool:
    """Whether no counted part could be tested for want of runs."""
    return all(part.missing and not part.readings for tested in claim.parts.values() for part in tested if part.counted)


def missing_runs(claim: Claim) -> list[str]:
    """Each missing row once, with the command that makes it."""
    parts = [part for tested in claim.parts.values() for part in tested]
    return list(dict.fromkeys(entry for part in parts for entry in part.missing))


def _rows_of(group: Group) -> str:
    seeds = Counter(len(column.scores) for column in group.columns)
    counted = ", ".join(f"{n} with {k} seed{'s' if k != 1 else ''}" for k, n in sorted(seeds.items(), reverse=True))
    return f"Rows: {counted}."


def _made_by(group: Group) -> str:
    """Code and machines behind the rows."""
    runs = [run for column in group.columns for run in column.runs.values()]
    commits = sorted({commit[:12] + "-dirty" * commit.endswith("-dirty") for run in runs for commit in run.commits})
    machines = sorted({run.hardware for run in runs if run.hardware})
    return f"Commits: {', '.join(commits) or 'not told'}. Hardware: {'; '.join(machines) or 'not told'}."


def _part(part: Part) -> list[str]:
    mark = "" if part.counted else "*"
    head = f"- {mark}{markdown(part.text)}{mark}: **{stated(part.verdict, [part])}**"
    rows = ", ".join(entry.partition(":")[0] for entry in part.missing)
    why = f"{part.why}{'; missing: ' if part.readings else ': '}{rows}" if rows else part.why
    lines = [head + (f": {markdown(why, LONG)}" if why else "")]
    return lines + [f"  - {markdown(r.scorer)} ({r.says}): {markdown(r.numbers)}" for r in part.readings]
