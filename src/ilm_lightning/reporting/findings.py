"""A run's comparisons in sentences: who is above whom, by which measures, and what remains undecided."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ilm_lightning.evaluation.claims import LEAST_MOVIES, LEVEL, UNDECIDED, direction, too_few

NAMES = {
    "sc": "SC",
    "sc_second": "SC by the second scorer",
    "rouge_l": "ROUGE-L",
    "slot_accuracy": "facts right",
}
WORDS = {"knn_copy": "kNN copy", "title": "the title in the prompt", "facts": "all facts in the prompt"}
SLOTS = ("own", "shuffled", "hard_shuffled", "blind")


def findings(metrics: Mapping[str, Any]) -> list[str]:
    """Say the comparisons in sentences.

    Args:
        metrics: from ``summarise``, perhaps with a run's ``protocol``.

    Returns:
        One line per comparison, then item-specific SC, bits, retrieval, facts, what was cut off, and configurations
        tried.
    """
    differences = metrics["differences"]
    compared = differences.get("sc", {})
    lines = [_comparison(key, row, metrics) for key, row in compared.items() if own_row(key, metrics, compared)]
    specific = metrics.get("item_specific_sc")
    if specific:
        lines.append(f"item-specific SC (own - blind): {_interval(specific)}")
    for key, row in differences.get("bits", {}).items():
        if not key.startswith("best_control"):
            lines.append(f"bits per target saved against {_name(key, metrics)}: {_interval(row)}")
    lines += _retrieval(metrics)
    lines += _facts(metrics)
    cut = metrics.get("all", {}).get("cut_off", {})
    if cut:
        shares = ", ".join(
            f"{key.replace('_', ' ')} {share:.1%}" for key, share in cut.items() if "shuffled" not in key
        )
        lines.append(f"texts cut off before their end: {shares}")
    tried = metrics.get("protocol", {}).get("configurations_tried")
    if tried:
        lines.append(f"configurations of this variant tried so far, seeds set aside: {tried}")
    return lines


def own_row(key: str, metrics: Mapping[str, Any], shown: Collection[str]) -> bool:
    """Whether a comparison says what none before it does: the best of one control, or of the same ones, does not."""
    known = metrics.get("controls", {})
    controls = known.get(key, ())
    if key == "best_control_with_hard" and "best_control" in shown and controls and controls == known["best_control"]:
        return False
    return len(controls) != 1 or controls[0] not in shown


def _interval(row: Mapping[str, Any]) -> str:
    return f"{row['mean']:+.1f} [{row['low']:.1f}, {row['high']:.1f}]"


def _name(key: str, metrics: Mapping[str, Any]) -> str:
    if key.startswith("best_control"):
        controls = metrics.get("controls", {}).get(key, [])
        return f"the best of {_listing([_name(one, metrics) for one in controls])}" if controls else "the best control"
    return WORDS.get(key, key.replace("_", " "))


def _listing(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _comparison(key: str, row: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Own against one control: by SC, by the second measures, and what both together say."""
    few = too_few(row.get("n_movies", metrics.get("n_movies", LEAST_MOVIES)))
    said = direction(row["low"], row["high"])
    # with few movies an interval on one side of 0 says little
    relation = "against" if few else f"{said} from" if said == LEVEL else said
    line = (
        f"own {relation} {_name(key, metrics)}: {row['mean']:+.1f} SC [{row['low']:.1f}, {row['high']:.1f}], better in "
        f"{row['better_tasks']} of {row['n_tasks']} tasks"
    )
    line += "" if few else f", significantly in {row['significant_tasks']}"
    claim = metrics.get("claims", {}).get(key)
    if claim is None:
        return f"{line}: {few}" if few else line
    others = [name for name in claim["by"] if name != "sc"]
    beside = [f"{NAMES[name]} {_interval(metrics['differences'][name][key])}" for name in others]
    line += f"; {', '.join(beside)}" if beside else ""
    if few or claim["verdict"] != UNDECIDED:
        return f"{line}: {few or claim['verdict']}"
    return f"{line}: undecided{'' if said == LEVEL else ', SC alone says so'}"


def _retrieval(metrics: Mapping[str, Any]) -> list[str]:
    lines = []
    for key, by in (("retrieval", ""), ("retrieval_second", ", by the second scorer")):
        own = metrics.get(key, {}).get("own")
        if own:
            row = own["all"]
            lines.append(
                f"own target found first {row['r1']:.1%} (chance {row['chance_r1']:.1%}), among five {row['r5']:.1%} "
                f"({row['chance_r5']:.1%}), MRR {row['mrr']:.3f} ({row['chance_mrr']:.3f}){by}"
            )
    return lines


def _facts(metrics: Mapping[str, Any]) -> list[str]:
    """Slot accuracy by kind, kinds that the encoder saw apart from the others."""
    lines = []
    seen = set(metrics.get("seen_facts", ()))
    for key, report in metrics.get("slots", {}).items():
        if key not in SLOTS:
            continue
        parts = []
        for title, wanted in (("seen by the encoder", True), ("not seen", False)):
            kinds = [f"{kind} {row['score']:.0%}" for kind, row in report["kinds"].items() if (kind in seen) == wanted]
            if kinds:
                parts.append(f"{title}: {', '.join(kinds)}" if seen else ", ".join(kinds))
        if parts:
            lines.append(f"facts right, {key.replace('_', ' ')}: {'; '.join(parts)}")
    return lines
