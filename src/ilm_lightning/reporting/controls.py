"""A column against what its own vectors have to beat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ilm_lightning.reporting.columns import Column
from ilm_lightning.reporting.groups import Group

# repeated from evaluation.summary, which loads torch; a test holds both together
CONDITIONS = ("own", "shuffled", "hard_shuffled", "blind", "constant", "knn_copy", "title", "facts")
CONTROLS = ("shuffled", "blind", "constant")
"""What own vectors have to beat; ``best_control`` of the evaluation."""


@dataclass(frozen=True)
class Controls:
    """One column against what its own vectors have to beat.

    Attributes:
        column: the runs.
        label: the column.
        sc: condition -> mean over seeds.
        best: mean of own minus the best of shuffled, blind and constant; None where it was not run.
        of: the controls that it is the best of, where these are not all three; empty where they are.
        beaten: seeds in which that difference's interval lies above zero.
        seeds: seeds with that difference.
        agreed: seeds in which a second measure says the same.
        below_copy: whether own lies below kNN copy in the mean.
        retrieval: R@1, chance, MRR, chance; None where it was not measured.
        bits: bits a target costs less than with the blind control.
    """

    column: Column
    label: str
    sc: Mapping[str, float]
    best: float | None
    of: str
    beaten: int
    seeds: int
    agreed: int
    below_copy: bool
    retrieval: tuple[float, float, float, float] | None
    bits: float | None

    @property
    def above(self) -> bool | None:
        """Whether own vectors beat the best control in all seeds, by SC and a second measure; None: none was run."""
        return min(self.beaten, self.agreed) == len(self.column.seeds) if self.seeds else None

    @property
    def named(self) -> str:
        """The column, with the controls that were there where some were not."""
        return f"{self.label} (of {self.of} alone)" if self.of else self.label


def full_label(column: Column, group: Group) -> str:
    """A column's name with all that sets it apart in its group."""
    variant = column.variant
    parts = [variant.encoder]
    if variant.queries != (1 if variant.name == "ELM" else group.queries):
        parts.append(f"q={variant.queries}")
    if variant.source_tokens != 1:
        parts.append(f"S={variant.source_tokens}")
    if column.apart:
        parts.append(column.apart)
    return f"{variant.name} ({', '.join(parts)})"


def controls_of(column: Column, group: Group) -> Controls:
    """Read what the own vectors of a column are worth off its runs."""
    all_metrics = [column.runs[seed].metrics for seed in column.seeds]
    tables_of = [metrics["all"]["sc"] for metrics in all_metrics]
    sc = {
        key: float(np.mean([table[key] for table in tables_of]))
        for key in CONDITIONS
        if all(table.get(key) is not None for table in tables_of)
    }
    rows = [metrics.get("differences", {}).get("sc", {}).get("best_control") for metrics in all_metrics]
    known = [row for row in rows if row]
    return Controls(
        column=column,
        label=full_label(column, group),
        sc=sc,
        best=float(np.mean([row["mean"] for row in known])) if known else None,
        of=_chosen_from([metrics for metrics, row in zip(all_metrics, rows, strict=True) if row]),
        beaten=sum(row["low"] > 0 for row in known),
        seeds=len(known),
        agreed=sum(_verdict(metrics) == "confirmed" for metrics in all_metrics),
        below_copy="knn_copy" in sc and sc["own"] < sc["knn_copy"],
        retrieval=_retrieval(all_metrics),
        bits=_bits(all_metrics),
    )


def _chosen_from(all_metrics: Sequence[Mapping[str, Any]]) -> str:
    """What the best control was the best of, over seeds; empty where that is all of them, or there is none."""
    found = []
    for metrics in all_metrics:
        # an older run does not say it: what was generated was there to choose from
        told = metrics.get("controls", {}).get("best_control") or metrics["all"]["sc"]
        found.append(tuple(key for key in CONTROLS if key in told))
    if set(found) <= {CONTROLS}:
        return ""
    return "; or of ".join(dict.fromkeys(" and ".join(keys) for keys in found))


def _verdict(metrics: Mapping[str, Any]) -> str | None:
    """What the run itself says of its own vectors against the best control, a second scorer heard."""
    row = metrics.get("claims", {}).get("best_control", {})
    return row.get("verdict") if isinstance(row, Mapping) else None


def _retrieval(all_metrics: Sequence[Mapping[str, Any]]) -> tuple[float, float, float, float] | None:
    rows = [metrics.get("retrieval", {}).get("own", {}).get("all") for metrics in all_metrics]
    if not all(rows):
        return None
    first, chance, mrr, chance_mrr = (
        float(np.mean([row[key] for row in rows])) for key in ("r1", "chance_r1", "mrr", "chance_mrr")
    )
    return first, chance, mrr, chance_mrr


def _bits(all_metrics: Sequence[Mapping[str, Any]]) -> float | None:
    rows = [metrics.get("differences", {}).get("bits", {}).get("blind") for metrics in all_metrics]
    return float(np.mean([row["mean"] for row in rows])) if rows and all(rows) else None
