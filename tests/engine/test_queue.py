"""The queue with small programs in place of runs: order, budget, results, and what is wrong with a plan."""

import itertools
import json
import sys
from pathlib import Path

import pytest
import yaml

from ilm_lightning import queue as command
from ilm_lightning.engine.command_line import conf_dir
from ilm_lightning.engine.composition import composed
from ilm_lightning.engine.launcher.jobs import BEFORE, FAILED, FINISHED, WAITING, Job, distinct_overrides
from ilm_lightning.engine.launcher.plan import Budget, Entry, PlanError, configure, expand, label, labels, read_plan
from ilm_lightning.engine.launcher.runner import Runner, RunnerSettings
from ilm_lightning.engine.runs import run_id
from ilm_lightning.queue import Queue, main

PLANS = sorted((Path(__file__).parents[2] / "experiments").glob("*/*.yaml"))
PLAN = """
common: budget=tiny outputs={folder}/outputs trainer.accelerator=cpu
results: {folder}/results
runs:
  - overrides: experiment=ilm_qformer_random,ilm_mlp seed=0,1
    minutes: 2
    note: the rows that matter
  - overrides: experiment=ilm_mlp encoder=semantic adapter.num_queries=4
    minutes: 1
"""
DONE = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
(folder / "metrics.json").write_text(json.dumps({"of": folder.name}))
(folder / "status.json").write_text(json.dumps({"state": "finished", "objective": 40.5}))
"""
# with the digests of its files
DONE_AS_A_RUN = """
import pathlib, sys
from ilm_lightning.engine.input_files import input_digests
from ilm_lightning.engine.runs import stored_config, write_status
folder = pathlib.Path(sys.argv[1])
(folder / "metrics.json").write_text("{}")
write_status(folder, "finished", objective=40.5, inputs=input_digests(stored_config(folder)))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN.format(folder=tmp_path), encoding="utf-8")
    return file


def run(queue: Queue, program: str = DONE) -> None:
    started = lambda job: [sys.executable, "-c", program, str(job.folder)]  # noqa: E731
    Runner(queue.jobs, RunnerSettings(), on_change=queue.keep, may_start=queue.may_start, command=started).run()


def test_runs_are_taken_in_order_and_results_written(path: Path, tmp_path: Path) -> None:
    queue = Queue(path, hours=None)
    assert [job.overrides[-2:] for job in queue.jobs[:2]] == [
        ("experiment=ilm_qformer_random", "seed=0"),
        ("experiment=ilm_qformer_random", "seed=1"),
    ]
    run(queue)
    assert [job.state for job in queue.jobs] == [FINISHED] * 5
    names = {file.name for file in (tmp_path / "results").iterdir()}
    assert names == {
        "queue.json", "ilm_qformer_random-seed0", "ilm_qformer_random-seed1", "ilm_mlp-seed0", "ilm_mlp-seed1",
        "ilm_mlp-semantic-num_queries_4-seed0",
    }  # fmt: skip
    found = json.loads((tmp_path / "results" / "ilm_mlp-seed1" / "metrics.json").read_text())
    assert found["of"].startswith("ilm_mlp-")
    again = Queue(path, hours=None)
    assert [job.state for job in again.jobs] == [BEFORE] * 5
    # how long they took is kept for the next forecast
    assert all(job.seconds is not None for job in again.jobs)


def test_a_run_whose_task_file_changed_is_taken_again(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "tasks.yaml"
    text = "tasks:\n  ask:\n    phrasings: ['what about {item}?']\n    target: '{title}'\n"
    file.write_text(text)
    plan = (
        "common: outputs={0}/outputs trainer.accelerator=cpu tasks.file={0}/tasks.yaml\nresults: {0}/results\nruns:\n"
    )
    path.write_text(plan.format(tmp_path) + "  - overrides: experiment=ilm_mlp seed=0,1\n    minutes: 2\n")
    run(Queue(path, hours=None), DONE_AS_A_RUN)
    assert [job.state for job in Queue(path, hours=None).jobs] == [BEFORE] * 2
    file.write_text(text.replace("{title}", "{name}"))
    assert [job.state for job in Queue(path, hours=None).jobs] == [WAITING] * 2


def test_a_run_that_would_not_end_in_time_is_not_started(path: Path) -> None:
    queue = Queue(path, hours=1.5 / 60)
    run(queue)
    # the first is forecast two minutes; what comes after it waits too, though the last would fit
    assert [job.state for job in queue.jobs] == [WAITING] * 5
    queue = Queue(path, hours=2.5 / 60)
    run(queue)
    # it took a fraction of a second instead of two minutes, and the others are forecast accordingly
    assert [job.state for job in queue.jobs] == [FINISHED] * 5


def test_forecast_follows_what_was_measured(path: Path) -> None:
    jobs = Queue(path, hours=None).jobs
    clock = [0.0]
    budget = Budget(1.0, {0: 2.0, 1: 2.0, 2: None, 3: 10.0}, now=lambda: clock[0])
    assert budget.forecast(2, jobs) is None
    assert budget.forecast(3, jobs) == 600
    assert budget.fits(2, jobs)
    jobs[0].state, jobs[0].seconds = FINISHED, 240.0
    jobs[1].state, jobs[1].seconds = BEFORE, 360.0
    # twice and three times as long as planned
    assert budget.forecast(3, jobs) == 600 * 2.5
    assert budget.forecast(2, jobs) == 300
    clock[0] = 3600 - 1499
    assert not budget.fits(3, jobs)
    assert budget.fits(2, jobs)
    clock[0] = 3601
    assert not budget.fits(2, jobs)


@pytest.mark.slow
def test_a_failed_run_is_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(path, hours=None)
    run(queue, "import sys; sys.exit(2)")
    assert [job.state for job in queue.jobs] == [FAILED] * 5
    run(again := Queue(path, hours=None))
    assert [job.state for job in again.jobs] == [FINISHED] * 5
    monkeypatch.setattr(command, "show_jobs", lambda jobs, common, forecasts: None)
    assert main([str(path)]) == 0


def test_list_starts_nothing(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(path), "--list"]) == 0
    screen = capsys.readouterr().err
    assert "5 jobs: 5 waiting; about 9m00s to go" in screen
    assert not (tmp_path / "outputs").exists()
    # what the plan gives to all is not told in each row
    assert "experiment=ilm_mlp" in screen
    assert "budget=tiny" not in screen
    assert "records" not in screen
    assert screen.count(" ~") == sum(seconds is not None for seconds in Queue(path, hours=None).forecasts()) > 0


def test_rows_show_no_common_override_where_a_run_has_its_own(path: Path) -> None:
    path.write_text(
        "common: tuning.steps=9 trainer.accelerator=cpu\nruns:\n"
        "  - overrides: experiment=ilm_mlp\n  - overrides: tuning.steps=7\n"
    )
    queue = Queue(path, hours=None)
    assert distinct_overrides(queue.jobs, queue.common) == [["experiment=ilm_mlp"], ["tuning.steps=7"]]


def test_records_of_runs_that_are_not_here_are_told(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ilm_mlp-seed0", "ilm_mlp-seed1", "of another plan"):
        (tmp_path / "results" / name).mkdir(parents=True)
        (tmp_path / "results" / name / "metrics.json").write_text("{}")
    assert main([str(path), "--list"]) == 0
    assert f"2 of the 5 that wait have one in {tmp_path}/results; without a finished run" in capsys.readouterr().err


@pytest.mark.parametrize("hours", ["0", "-3", "nan"])
def test_hours_that_are_none_are_refused_before_the_plan_is_read(
    hours: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(path.with_name("none.yaml")), "--hours", hours]) == 1
    assert f"error: --hours {hours} must be above 0" in capsys.readouterr().err


def test_a_refused_run_is_told_and_the_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(f"common: outputs={tmp_path}/o\nruns:\n  - overrides: adapter.num_queries=0,2\n")
    jobs = Queue(file, hours=None).jobs
    assert [job.state for job in jobs] == [FAILED, WAITING]
    assert jobs[0].error == "adapter.num_queries=0 must be above 0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such plan"),
        ("runs: []", "must hold a list `runs`"),
        ("[1, 2]", "must hold a list `runs`"),
        ("runs: [{}]", "run 1 needs `overrides"),
        ("runs:\n  - overrides: seed=1\n    hours: 3", "run 1 has the unknown key hours; known are minutes"),
        ("runs:\n  - overrides: seed=1\n    minutes: soon", "run 1: minutes=soon must be a number"),
        ("runs:\n  - overrides: [seed=1]", "write the overrides as one line"),
        ("runs:\n  - overrides: seed=1\nlater: 2", "unknown key later"),
        ("runs: [", "is no YAML"),
        ("runs:\n  - overrides: adapter.num_querys=1", "did you mean adapter.num_queries"),
        ("runs:\n  - overrides: seed", "plan.yaml: run 1: "),
        (
            "runs:\n  - overrides: seed=1\n  - overrides: experiment=ilm_mpl",
            "plan.yaml: run 2: experiment=ilm_mpl: there",
        ),
        ("runs:\n  - overrides: experiment=ilm_mpl", "did you mean ilm_mlp"),
        ("common: budgit=tiny\nruns:\n  - overrides: seed=1", "plan.yaml: common: there is no setting budgit"),
    ],
)
def test_what_is_wrong_with_a_plan_is_told(
    text: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "plan.yaml"
    if text is not None:
        file.write_text(text)
    assert main([str(file)]) == 1
    told = capsys.readouterr().err
    assert message in told
    # YAML points at the place on lines of its own
    assert len(told.splitlines()) <= 3


def test_a_plan_may_use_configurations_of_its_own(tmp_path: Path) -> None:
    own = tmp_path / "conf" / "experiment"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("# @package _global_\nname: mine\n")
    file = tmp_path / "plan.yaml"
    file.write_text(
        f"common: hydra.searchpath=[file://{own.parent}] outputs={tmp_path}/o\nruns:\n  - overrides: experiment=mine\n"
    )
    (job,) = Queue(file, hours=None).jobs
    assert job.config is not None
    assert job.config.name == "mine"


def test_a_refused_run_says_our_words_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ILM_DATA", raising=False)
    file = tmp_path / "plan.yaml"
    file.write_text(f"common: outputs={tmp_path}/o\nruns:\n  - overrides: data=openp5_beauty tasks=openp5\n")
    (job,) = Queue(file, hours=None).jobs
    assert "data.path is read from ILM_DATA" in job.error
    assert "interpolation" not in job.error


def test_expansion_is_hydras() -> None:
    runs = expand(Entry(("experiment=elm,ilm_mlp", "data.columns.user=u", "seed=range(0,2)")), ["budget=tiny"])
    assert runs[0] == ["budget=tiny", "experiment=elm", "++data.columns.user=u", "seed=0"]
    assert len(runs) == 4


def test_labels_name_what_differs(path: Path) -> None:
    plan, jobs = read_plan(path), Queue(path, hours=None).jobs
    job = Job((*plan.common, "encoder=semantic", "adapter.num_queries=4", "seed=3"), jobs[0].config, Path("x"))
    assert label(job, plan.common) == "ilm_qformer_random-semantic-num_queries_4-seed0"
    path.write_text("runs:\n  - overrides: a=1\n    what: 1")
    with pytest.raises(PlanError, match="unknown key"):
        read_plan(path)


def test_runs_that_one_label_would_name_have_names_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    runs = (
        "experiment=ilm_mlp budget=tiny,long seed=0",
        "experiment=ilm_mlp tuning.steps=100 seed=0",
        "experiment=ilm_mlp pretraining.steps=100 seed=0",
        "experiment=ilm_mlp seed=1",
        # the same once more
        "seed=1 experiment=ilm_mlp",
    )
    text = "".join(f"  - overrides: {overrides}\n" for overrides in runs)
    file.write_text(f"common: outputs={tmp_path}/o trainer.accelerator=cpu\nresults: {tmp_path}/results\nruns:\n{text}")
    queue = Queue(file, hours=None)
    found = labels(queue.jobs, queue.plan.common)
    assert list(found.values()) == [
        "ilm_mlp-seed0-budget_tiny",
        "ilm_mlp-seed0-budget_long",
        "ilm_mlp-steps_100-seed0-tuning.steps_100",
        "ilm_mlp-steps_100-seed0-pretraining.steps_100",
        "ilm_mlp-seed1",
    ]
    run(queue)
    assert {path.name for path in (tmp_path / "results").iterdir()} == {*found.values(), "queue.json"}


def test_runs_whose_overrides_name_them_alike_have_their_hash(path: Path) -> None:
    config = Queue(path, hours=None).jobs[0].config
    ways = (("adapter.hidden_size=1", "seed=0"), ("+adapter.hidden_size=1", "seed=0"))
    jobs = [Job(overrides, config, Path(f"ilm_mlp-{number}")) for number, overrides in enumerate(ways)]
    name = "ilm_qformer_random-hidden_size_1-seed0-adapter.hidden_size_1"
    assert labels(jobs, ()) == {0: f"{name}-0", 1: f"{name}-1"}


@pytest.mark.parametrize("plan", PLANS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_experiments_plans_can_be_read(plan: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = read_plan(plan)
    expanded = [expand(entry, list(found.common)) for entry in found.entries]
    jobs = [tuple(job) for entry in expanded for job in entry]
    assert len(set(jobs)) == len(jobs) > 1
    # each entry can run: data and GPU are the machine's matter
    monkeypatch.setattr("ilm_lightning.engine.launcher.plan.check_data", lambda config: None)
    # the folders that the configurations name, empty
    for name in ("openp5/ML100K", "openp5/ML1M", "openp5/Beauty", "ml-100k", "ml-1m", "amazon-beauty/item_meta.tsv"):
        (tmp_path / name).mkdir(parents=True)
    prompts = ("sequential; seen; {history} ?; {target}", "sequential; unseen; {history} !; {target}")
    (tmp_path / "openp5/prompt.txt").write_text("\n".join(prompts))
    monkeypatch.setenv("ILM_DATA", str(tmp_path))
    refused = [
        one for one in configure([[*entry[0], "trainer.accelerator=cpu"] for entry in expanded]) if isinstance(one, str)
    ]
    assert refused == []


def test_the_sweeps_of_the_language_tables_are_rows_of_their_plan() -> None:
    plan = read_plan(next(path for path in PLANS if path.parent.name == "language_cpu"))
    jobs = [[*job] for entry in plan.entries for job in expand(entry, list(plan.common))]
    planned = {
        frozenset(job) - {"seed=0", "encoder=combined", *plan.common}: job for job in jobs if "seed=1" not in job
    }
    for sweep, runs in {"table2": 6, "table3": 5, "table9": 5, "table10": 5, "figure3": 24}.items():
        values = yaml.safe_load((conf_dir() / "sweep" / f"{sweep}.yaml").read_text())["hydra"]["sweeper"]["params"]
        axes = [[f"{key}={value}" for value in str(text).split(",")] for key, text in values.items()]
        made = list(itertools.product(*axes))
        assert len(made) == runs
        plain = {"encoder=combined", "adapter.source_tokens=1"}
        if sweep == "figure3":
            plain.add("evaluation.conditions=[own,shuffled,constant,knn_copy]")
        rows = [
            job
            for chosen in made
            for key, job in planned.items()
            if frozenset(key) - plain == frozenset(chosen) - plain
        ]
        # eight tokens have their blind control in the plan; the MLP is not in it with four key/value tokens
        assert len(rows) == (runs - 8 if sweep == "figure3" else runs)
        # the other tables are Table 3's rows with other vectors
        for row in rows if sweep in ("table3", "figure3") else rows[-1:]:
            chosen = next(c for c in made if frozenset(c) - plain == frozenset(row) - plain - {"seed=0", *plan.common})
            assert run_id(composed(f"sweep={sweep}", *chosen)) == run_id(composed(*row))


def test_a_budget_on_the_command_line_goes_before_the_sweeps_own() -> None:
    config = composed("sweep=table3", "budget=tiny")
    assert (config.tuning.steps, config.tuning.lr_trials) == (6, [])
