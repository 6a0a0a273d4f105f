"""Verdicts: what two measures of different families agree on. What only one of them says is undecided (PROTOCOL 6)."""

from collections.abc import Mapping
from typing import Any

ABOVE, BELOW, LEVEL = "above", "below", "not apart"
CONFIRMED, REFUTED, UNDECIDED = "confirmed", "refuted", "undecided"
LEAST_MOVIES = 10
"""A 95 % bootstrap interval over fewer movies holds the truth less than nine times of ten: over 4 of a normal spread in
80 % of 4,000 draws, over 8 in 88 %, over 10 in 91 %."""
SECOND = "sc_second"
# without a second scorer
INSTEAD = ("rouge_l", "slot_accuracy")
# title and facts read the answer in the prompt: nobody claims that vectors beat them
CLAIMED = (
    "shuffled", "hard_shuffled", "blind", "constant", "knn_copy", "best_control", "best_control_with_hard",
)  # fmt: skip


def direction(low: float, high: float) -> str:
    """Read an interval of a difference.

    Args:
        low: its lower end.
        high: its upper end.

    Returns:
        "above" or "below" where 0 lies outside, else "not apart".

    >>> direction(0.2, 1.0), direction(-0.1, 1.0)
    ('above', 'not apart')
    """
    return ABOVE if low > 0 else BELOW if high < 0 else LEVEL


def verdict(first: str, others: Mapping[str, str]) -> str:
    """Join what semantic consistency says with what the second measures say.

    Args:
        first: direction by SC.
        others: direction by each second measure.

    Returns:
        "confirmed" (above) or "refuted" (below) where SC and at least one second measure say so and none says the
        contrary; else "undecided".

    >>> verdict("above", {"rouge_l": "above", "slot_accuracy": "not apart"}), verdict("above", {"sc_second": "below"})
    ('confirmed', 'undecided')
    """
    said = set(others.values())
    if first == ABOVE and ABOVE in said and BELOW not in said:
        return CONFIRMED
    if first == BELOW and BELOW in said and ABOVE not in said:
        return REFUTED
    return UNDECIDED


def too_few(movies: int) -> str:
    """Why so few movies decide nothing; empty where they are enough.

    >>> too_few(4), too_few(40)
    ('too few movies for a verdict (4 of at least 10)', '')
    """
    return "" if movies >= LEAST_MOVIES else f"too few movies for a verdict ({movies} of at least {LEAST_MOVIES})"


def claims(differences: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Judge "the own vector beats X" for every control X that was scored.

    Args:
        differences: per measure and control the paired difference, from ``summarise``.

    Returns:
        Per control ``verdict``, the direction ``by`` each measure that counts, and ``supported_tasks``: tasks in which
        the own vector is significantly better by SC and by a second measure, both after Holm. Fewer movies than
        ``LEAST_MOVIES`` leave the verdict undecided, and ``why`` says so.
    """
    seconds = [SECOND] if SECOND in differences else [name for name in INSTEAD if name in differences]
    found = {}
    for control, row in differences.get("sc", {}).items():
        if control not in CLAIMED:
            continue
        rows = {name: differences[name][control] for name in seconds if control in differences[name]}
        by = {name: direction(other["low"], other["high"]) for name, other in rows.items()}
        first = direction(row["low"], row["high"])
        better = [set(one["significantly_better"]) for one in rows.values()]
        supported = set(row["significantly_better"]) & set().union(*better)
        why = too_few(row["n_movies"])
        found[control] = {
            "verdict": UNDECIDED if why else verdict(first, by),
            "by": {"sc": first, **by},
            "supported_tasks": len(supported),
            **({"why": why} if why else {}),
        }
    return found
