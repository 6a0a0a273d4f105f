"""The end of ``docs/faults.md``: what long runs have found, from the files that they have left."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from faults.declared import KILLS
from faults.kill_points import tabulate

HERE = Path(__file__).parent
RESULTS = HERE / "kills.json"
MAKE_TRAIN = HERE / "kills_of_make_train.json"
FUZZED = HERE.parents[1] / "benchmarks" / "results" / "fuzz_readers.json"
_KILLS = """
`python tests/faults/kills.py 100 --each 10 --out tests/faults/kills.json` kills runs on tiny models with `kill -9`,
each at a point drawn uniformly over one stage's work: a call of a function (of Python or of C), a write or what stands
at its edge (open, write, flush, fsync, rename, delete), or a moment in time. The same command is then started again;
metrics, predictions and weights must equal those of a run that nobody killed, to the last digit.

{kills}, {minutes:.0f} minutes on {cores} core of {cpu}, torch {torch}:

"""
_MAKE_TRAIN = """
## Kills of `make train`

`python tests/faults/kills_of_make_train.py RUN --work FOLDER` starts the real `make train`, kills its whole process
group with `kill -9` at a drawn point, starts the same command again, and so on, five times: in phase 1, twice in
phase 2, while texts are written, and in one of the other stages. What the last start ends with must equal RUN, the
folder of the same command that nobody killed: metrics, predictions, weights, to the last digit. Its results lie in
FOLDER; copied to `tests/faults/` they are the table here (`pytest tests/faults/test_fault_table.py --write-faults`).
"""
_FUZZED = """
## Fuzzing

`{command}`:
every reader in a process of its own, guided by which branches its code takes; a reader may only raise the documented
errors. {count} calls in {minutes:.0f} minutes, {commits}, {cpu} with a load of {load:g}:

| reader | seconds | calls | branches | kept files | other errors |
|---|---|---|---|---|---|
"""


def results_sections() -> str:
    """All sections of results."""
    return kills_section() + make_train_section() + fuzz_section()


def kills_section() -> str:
    """Kills at random points of runs on tiny models."""
    found = _read(RESULTS)
    rows = [row for row in found["kills"] if row["killed"]]
    minutes = sum(sum(row["seconds"]) for row in found["kills"]) / 60
    first = found["machine"]["cpu"]
    of = Counter((row["commit"], row.get("cpu", first)) for row in rows)
    kills = " and ".join(
        f"{count} kills of commit {commit}" + ("" if cpu == first else f" (on {cpu})")
        for (commit, cpu), count in of.items()
    )
    text = _KILLS.format(kills=kills, minutes=minutes, **found["machine"])
    return KILLS + text + tabulate(rows) + "\n"


def make_train_section() -> str:
    """Kills of the real command; how to do them where none are kept."""
    if not MAKE_TRAIN.is_file():
        return _MAKE_TRAIN
    found = _read(MAKE_TRAIN)
    machine, kills = found["machine"], found["kills"]
    ended = "all equal" if found["equal"] else "**different**: " + "; ".join(found["different"] or ["it did not end"])
    lines = [
        f"\n{len(kills)} kills of commit {found['commit']}, {sum(found['seconds']) / 60:.0f} minutes on "
        f"{machine['cores']} cores of {machine['cpu']}, torch {machine['torch']}; RUN is of commit "
        f"{found['whole']['commit'][:7]}. The end: {ended}.\n",
        "| stage | killed at | the next start said |",
        "|---|---|---|",
        *(f"| {row['stage']} | {_place(row)} | {_said(row)} |" for row in kills),
    ]
    return _MAKE_TRAIN + "\n".join(lines) + "\n"


def _place(row: Mapping[str, Any]) -> str:
    """Where in a stage it was killed."""
    if row["in"] != row["stage"]:
        return "behind its end" + (f", in {row['in']}" if row["in"] else "")
    if row["unit"] == "seconds":
        return f"{row['seconds_into_it']:g} s of {row['of']:.0f}"
    return f"{row['share'] * row['of']:.0f} of {row['of']:g} {row['unit']}, {row['on_disk']:g} on disk"


def _said(row: Mapping[str, Any]) -> str:
    """What a start said of what it found; finished stages are named together."""
    there = [line.split()[0] for line in row["next_start_said"] if line.endswith("(there already)")]
    others = [line for line in row["next_start_said"] if not line.endswith("(there already)")]
    return "; ".join([*([f"there already: {', '.join(dict.fromkeys(there))}"] if there else []), *others]) or "nothing"


def fuzz_section() -> str:
    """The last fuzz run."""
    if not FUZZED.is_file():
        return ""
    found = _read(FUZZED)
    rows = found["rows"]
    count = f"{sum(row['executions'] for row in rows):,}"
    minutes = sum(row["seconds"] for row in rows) / 60
    of = Counter(row["commit"] for row in rows)
    commits = " and ".join(f"{readers} readers of commit {commit}" for commit, readers in of.items())
    head = _FUZZED.format(command=found["command"], commits=commits, count=count, minutes=minutes, **found["machine"])
    lines = [
        f"| {row['reader']} | {row['seconds']} | {row['executions']:,} | {row['coverage']} | {row['corpus']} | "
        f"{'none' if row['sound'] else 'found'} |"
        for row in rows
    ]
    return head + "\n".join(lines) + "\n"


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
