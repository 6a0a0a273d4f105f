"""The rows that the paper and OpenP5 print for recommendation, each with what is known of its protocol."""

import re

from ilm_lightning.reporting.paper import openp5_baselines, table
from ilm_lightning.reporting.ranking_runs import ENCODER_DECODER, MEASURES, WITHOUT_PROMPTS, RankingProtocol, RankingRow

DATA = ("ML1M", "Beauty")
TASK_TABLES = {"sequential": "6", "straightforward": "7", "both": "4"}
"""Task -> table; Table 4 does not say its task: by its size it is the mean over both."""
ILM_DECODING = "free, 10 beams, seen items not filtered (not stated)"
_SPLIT, _USERS = "test", "all"
_ROW = re.compile(r"(?P<name>.+)\((?P<prompts>seen|unseen)\)$")
# what BACKGROUND knows of each publication; our runs' fields are worded alike so that equal ones compare equal
_STATED = {
    "ILM": ("any text", ILM_DECODING, "not stated", "random", "PaLM 2, frozen or tuned is not stated"),
    "OpenP5-T5": (
        "all items", "trie, 10 beams, seen items filtered", "20", "the best of three", "T5-small, all weights",
    ),
    "OpenP5-Llama": (
        "all items", "trie, 10 beams, seen items not filtered", "10", "the best of three", "OpenLLaMA-3B, LoRA, 8 bit",
    ),
    "OpenP5": ("all items", "as OpenP5 prints it", "as OpenP5 prints it", "none", "none"),
}  # fmt: skip
OURS = {
    "ILM-Qformer-pretrained": "ILM-IT-II",
    "ILM-ITC": "ILM-IT",
    "ILM-ITC-IIC": "ILM-IT-II",
    "ILM-ITC-UIC": "ILM-IT-UI",
    "OpenP5-T5": ENCODER_DECODER,
    "OpenP5-Llama": "OpenP5",
}
"""The paper's row -> the beginning of ours."""


def printed_rows(task: str, data: str) -> list[RankingRow]:
    """What the paper and OpenP5 print.

    Args:
        task: ``sequential``, ``straightforward`` or ``both``.
        data: the data set's name.

    Returns:
        The paper's rows, and for sequential recommendation those of OpenP5's own table; none for other data.
    """
    if data not in DATA:
        return []
    rows: dict[str, dict[tuple[str, str], dict[str, float]]] = {}
    for label, values in table(TASK_TABLES[task]).rows.items():
        match = _ROW.match(label)
        assert match is not None, label
        found = {m: values[f"{data} {m}"] for m in MEASURES if f"{data} {m}" in values}
        rows.setdefault(match["name"], {})[task, match["prompts"]] = found
    made = [_row(name, data, measured) for name, measured in rows.items()]
    if task == "sequential":
        made += [_openp5(name, data, values) for name, values in openp5_baselines().items()]
    return made


def _openp5(name: str, data: str, values: "dict[str, float] | object") -> RankingRow:
    assert isinstance(values, dict)
    found = {m: values[f"{data} {m}"] for m in MEASURES if f"{data} {m}" in values}
    if not name.startswith("T5-"):
        return _row(f"{name} (OpenP5's table)", data, {("sequential", WITHOUT_PROMPTS): found}, "OpenP5")
    indexing = name.removeprefix("T5-").removesuffix(" (seen)")
    row = _row(f"OpenP5-T5, {indexing} indexing", data, {("sequential", "seen"): found}, "OpenP5-T5", indexing)
    return row


def _row(
    name: str,
    data: str,
    measured: dict[tuple[str, str], dict[str, float]],
    stated: str | None = None,
    indexing: str | None = None,
) -> RankingRow:
    known = stated or (name if name in _STATED else "ILM")
    candidates, decoding, history, ids, lm = _STATED[known]
    protocol = RankingProtocol(data, _SPLIT, _USERS, candidates, decoding, history, indexing or ids, lm)
    return RankingRow(name, "", protocol, None, None, {k: {0: v} for k, v in measured.items()}, {}, printed=True)
