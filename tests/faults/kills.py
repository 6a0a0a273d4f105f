"""``kill -9`` anywhere in whole runs on tiny models: ``python tests/faults/kills.py 100 --out FILE``.

Each kill is one experiment of its own: what the stages before had made lies there, the stage is killed at a point drawn
uniformly over its work, the same command is started again and must end like the run that nobody killed: metrics,
predictions and weights equal to the last digit, no artefact damaged, nothing half done left. Experiment *n* is a
function of *n*, and finished ones are kept in the file, so the harness itself can be killed and started again.
``--each 10`` goes on until every stage of every run has been killed ten times, and passes over those that have been.
Every kill holds the commit that it was done to; another commit's results are continued only with ``--mixed``.
"""

import argparse
import json
import os
import random
import select
import shutil
import sys
import tempfile
import time
from collections import Counter as Counts
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
for place in (HERE.parents[1] / "src", HERE.parents[1] / "benchmarks", HERE.parent, HERE.parent / "lm"):
    sys.path.insert(0, str(place))

import harness  # noqa: E402
import lightning  # noqa: F401, E402  imported once, so that each start costs only its own work
import sentence_transformers  # noqa: F401, E402
import torch  # noqa: E402
import transformers  # noqa: F401, E402

from faults.kill_points import KINDS, Counter, Plan, install, tabulate  # noqa: E402
from faults.run_results import RUN, apart, different, faults  # noqa: E402
from ilm_lightning import train  # noqa: E402
from ilm_lightning.engine import pipeline  # noqa: F401, E402
from ilm_lightning.engine.artifacts import MANIFEST, write_json  # noqa: E402
from ilm_lightning.engine.stages import evaluate, export, phase2, recommend, recommend_export  # noqa: F401, E402
from tasks.teacher_server import chat_server  # noqa: E402
from tiny_run import (  # noqa: E402
    make_own_data,
    make_sentence_model,
    make_shop,
    make_tiny_lm,
    shop_settings,
    small_settings,
)

# a run started again with another number of threads adds in another order, and so do its weights' last digits
THREADS = "trainer.threads=1"
LANGUAGE = [
    THREADS,
    "experiment=ilm_qformer_vg_cd_rw", "tuning=lora", "tasks.names=[summary,similarities,pitch]",
    "evaluation.conditions=[own,shuffled,blind,knn_copy,constant]", "tuning.steps=8", "tuning.val_every=4",
    "tuning.checkpoint_every_s=0", "teacher=endpoint", "teacher.model=tiny", "teacher.max_train_examples=8",
    "teacher.max_validation_examples=2", "teacher.max_test_examples=4",
]  # fmt: skip
SHOP = [
    THREADS,
    "experiment=ilm_qformer_lora", "tuning.steps=8", "tuning.val_every=4", "tuning.checkpoint_every_s=0",
]  # fmt: skip

Place = tuple[str, str]
"""A run's name and a stage."""


@dataclass(frozen=True)
class Whole:
    """A run that nobody killed.

    Attributes:
        arguments: its command line, without places.
        folder: where it lies.
        counts: its work, per stage and kind.
        order: its artefacts as they were begun.
    """

    arguments: list[str]
    folder: Path
    counts: Mapping[str, Mapping[str, int]]
    order: list[tuple[str, str]]


def start(arguments: Sequence[str], folder: Path, plan: Plan | None = None, count: Path | None = None) -> int:
    """Run the training command in a process of its own.

    Args:
        arguments: command line.
        folder: its working folder; the screen goes to ``screen.log`` there.
        plan: where to kill it.
        count: file for the counts of its work.

    Returns:
        The exit status as ``os.waitstatus_to_exitcode`` has it: -9 after a kill.
    """
    folder.mkdir(parents=True, exist_ok=True)
    said, saying = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(said)
        _child(list(arguments), folder, plan, count, saying)
    os.close(saying)
    with os.fdopen(said) as lines:
        _watch(process, lines, plan)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _watch(process: int, lines: Any, plan: Plan | None) -> None:
    """Kill a process so many microseconds into a stage, where that is the plan."""
    left = 1e-6 * plan.at if plan is not None and plan.kind == "time" else None
    poll = select.select
    for line in lines:
        if left is None or plan is None or line.split() != ["begin", plan.stage]:
            continue
        begun = time.monotonic()
        # until the stage ends or its time has come
        if not poll([lines], [], [], left)[0]:
            os.kill(process, 9)
            return
        left -= time.monotonic() - begun


def _child(arguments: list[str], folder: Path, plan: Plan | None, count: Path | None, saying: int) -> None:
    status = 70
    try:
        os.chdir(folder)
        screen = os.open(folder / "screen.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(screen, 1)
        os.dup2(screen, 2)
        os.environ["ILM_CACHE"] = str(folder / "cache")
        sys.argv = ["train", *arguments, "artifacts=artifacts", "outputs=outputs", f"run={RUN}"]
        counter = Counter(plan, lambda line: os.write(saying, f"{line}\n".encode()) and None)
        install(counter)
        try:
            train.main()
        except SystemExit as end:
            status = int(end.code or 0)
        if count is not None:
            write_json(count, {"counts": counter.counts, "order": counter.order})
    except BaseException:
        import traceback

        status = 70
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def unbroken(name: str, arguments: list[str], work: Path) -> Whole:
    """The run that nobody kills, made once."""
    folder, count = work / name, work / f"{name}.json"
    if not count.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        status = start(arguments, folder, count=count)
        assert status == 0, (folder / "screen.log").read_text()
    found = json.loads(count.read_text())
    return Whole(arguments, folder, found["counts"], [tuple(row) for row in found["order"]])


def where(number: int, wholes: Mapping[str, Whole]) -> Place:
    """Run and stage of experiment *number*: stages in turn, a stage of both runs in each of them in turn."""
    stages = list(dict.fromkeys(stage for whole in wholes.values() for stage in whole.counts))
    stage = stages[number % len(stages)]
    names = [name for name, whole in wholes.items() if stage in whole.counts]
    return names[number // len(stages) % len(names)], stage


def wanting(rows: Sequence[Mapping[str, Any]], wholes: Mapping[str, Whole], kills: int, each: int) -> set[Place]:
    """The runs and stages still to be killed: all until there are so many kills, then those with fewer than *each*."""
    places = {(name, stage) for name, whole in wholes.items() for stage in whole.counts}
    killed = Counts((row["run"], row["stage"]) for row in rows if row["killed"])
    return places if killed.total() < kills else {one for one in places if killed[one] < each}


def draw_in(number: int, whole: Whole, stage: str) -> tuple[Plan, int]:
    """The plan of experiment *number* in a stage: kind and point by chance; and the count that the point is of."""
    chance = random.Random(f"kill {number}")
    kind = chance.choice(KINDS)
    most = whole.counts[stage][kind]
    return Plan(stage, kind, chance.randint(1, max(1, most))), most


def damage(stage: str, whole: Whole, work: Path) -> dict[str, Any]:
    """Flip one bit of a file of a stage's artefact and start the command again; returns what happened."""
    folder = work / f"damage-{stage}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole.folder / "artifacts", folder / "artifacts", symlinks=True)
    chance = random.Random(stage)
    files = [p for p in sorted(folder.glob(f"artifacts/{stage}/*/**/*")) if p.is_file() and p.name != MANIFEST]
    path = chance.choice([p for p in files if p.stat().st_size])
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    status = start(whole.arguments, folder)
    row: dict[str, Any] = {"stage": stage, "damage": str(path.relative_to(folder)), "completed": status == 0}
    if status == 0:
        row["named"] = f"{path.name} has changed since it was written" in (folder / "screen.log").read_text()
        row["different"] = different(whole.folder, folder)
    return row


def experiment(number: int, wholes: Mapping[str, Whole], work: Path, only: Place | None = None) -> dict[str, Any]:
    """Kill once and start again; returns what happened."""
    name, stage = only or where(number, wholes)
    plan, most = draw_in(number, wholes[name], stage)
    whole, folder = wholes[name], work / f"kill-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole.folder / "artifacts", folder / "artifacts", symlinks=True)
    first = next(i for i, (stage, _) in enumerate(whole.order) if stage == plan.stage)
    for _, artifact in whole.order[first:]:
        if artifact:
            shutil.rmtree(folder / "artifacts" / artifact, ignore_errors=True)
    begin = time.monotonic()
    killed = start(whole.arguments, folder, plan)
    half = sorted(str(p.relative_to(folder)) for p in folder.glob("artifacts/*/*.part"))
    between = time.monotonic()
    again = start(whole.arguments, folder)
    row = {
        "number": number, "commit": harness.commit(), "run": name, "stage": plan.stage,
        "kind": plan.kind, "at": plan.at, "of": most,
        "killed": killed == -9, "half_done": half, "completed": again == 0,
        "seconds": [round(between - begin, 1), round(time.monotonic() - between, 1)],
    }  # fmt: skip
    if again == 0:
        row["damaged"] = faults(folder)
        row["different"] = different(whole.folder, folder)
    if row["completed"] and not row["damaged"] and not row["different"]:
        shutil.rmtree(folder)
    return row


def settings(work: Path) -> dict[str, list[str]]:
    """The two runs' command lines; their models and data are made once."""
    models = work / "models"
    if not (models / "done").is_file():
        shutil.rmtree(models, ignore_errors=True)
        apart(lambda: make(models))
    own = models / "data"
    small = small_settings(models / "lm", models / "sentences" / "model", (own / "events.csv", own / "items.csv"))
    return {
        "language": [*LANGUAGE, *others(small, LANGUAGE)],
        "shop": [*SHOP, *others(shop_settings(models / "shop", small), SHOP)],
    }


def make(models: Path) -> None:
    """Make the models and data of both runs."""
    make_tiny_lm(models / "lm")
    make_sentence_model(models / "sentences")
    make_own_data(models / "data")
    make_shop(models / "shop")
    (models / "done").touch()


def others(small: list[str], ours: list[str]) -> list[str]:
    """The common settings without those that a run sets itself."""
    taken = {x.split("=")[0] for x in ours}
    return [x for x in small if x.split("=")[0] not in taken]


def passed(row: Mapping[str, Any]) -> bool:
    """Whether an experiment ended as it must."""
    return bool(row["completed"]) and not row["damaged"] and not row["different"]


def main() -> int:
    """Entry point; the status is 1 where an experiment ended otherwise than it must."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "kills", type=int, nargs="?", default=0, help="kills in all, those of earlier calls on the same file included"
    )
    parser.add_argument("--each", type=int, default=0, help="kills of every stage of every run, likewise")
    parser.add_argument("--mixed", action="store_true", help="continue results that hold kills of another commit")
    parser.add_argument("--out", type=Path, default=Path("kills.json"), help="results; continued where it is there")
    parser.add_argument("--work", type=Path, default=None, help="folder of the runs, kept; by default a temporary one")
    parser.add_argument("--seconds", type=float, default=5400, help="start no further experiment after this time")
    parser.add_argument(
        "--only", nargs=3, action="append", default=[], metavar=("RUN", "STAGE", "NUMBER"), help="one kill of one stage"
    )
    parser.add_argument(
        "--damage",
        action="append",
        default=[],
        metavar="STAGE",
        help="one bit of an artefact of the language run changed",
    )
    given = parser.parse_args()
    work = (given.work or Path(tempfile.mkdtemp(prefix="kills-"))).resolve()
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    begin = time.monotonic()
    found = json.loads(given.out.read_text()) if given.out.is_file() else {"machine": harness.machine(), "kills": []}
    rows: list[dict[str, Any]] = found["kills"]
    cpu = harness.machine()["cpu"]
    others_of = {row["commit"] for row in rows} - {harness.commit()}
    if others_of and not given.mixed:
        parser.error(f"{given.out} holds kills of {', '.join(sorted(others_of))}, this is {harness.commit()}: move it")
    with chat_server() as server:
        lines = {
            name: [*arguments, *([f"teacher.url={server.url}"] if name == "language" else [])]
            for name, arguments in settings(work).items()
        }
        chosen = {run for run, _, _ in given.only} | ({"language"} if given.damage else set())
        wanted = chosen or set(lines)
        wholes = {name: unbroken(name, arguments, work) for name, arguments in lines.items() if name in wanted}
        if chosen:
            rows += [experiment(int(number), wholes, work, (run, stage)) for run, stage, number in given.only]
            damages = [damage(stage, wholes["language"], work) for stage in given.damage]
            write_json(given.out, {**found, "kills": rows, "damages": damages})
            return 0
        number = max((row["number"] for row in rows), default=-1) + 1
        while (few := wanting(rows, wholes, given.kills, given.each)) and time.monotonic() - begin < given.seconds:
            if where(number, wholes) in few:
                rows.append({**experiment(number, wholes, work), "cpu": cpu})
                write_json(given.out, {**found, "kills": rows})
                sys.stderr.write(f"{rows[-1]}\n")
            number += 1
    sys.stderr.write(tabulate(rows) + "\n")
    if given.work is None:
        shutil.rmtree(work)
    return 0 if not few and all(passed(row) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
