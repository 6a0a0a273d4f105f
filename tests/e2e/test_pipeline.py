import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from hydra import compose, initialize_config_dir

from ilm_lightning.chat import ChatError, open_chat
from ilm_lightning.chat import main as chat_main
from ilm_lightning.data.tables import UnknownItemError
from ilm_lightning.engine.command import conf_dir, register_schema
from ilm_lightning.engine.composition import composed
from ilm_lightning.engine.config import Config
from ilm_lightning.engine.pipeline import check_assets, open_context, run_id, run_pipeline, train_variant
from ilm_lightning.engine.validate import validate
from ilm_lightning.evaluation.summary import CONDITIONS
from ilm_lightning.lm import ItemLanguageModel
from ilm_lightning.reporting.document import build
from ilm_lightning.reporting.histories import histories


def checked(overrides: list[str]) -> Config:
    config = composed(*overrides)
    validate(config)
    return config


def run(overrides: list[str]) -> tuple[float, Path]:
    config = checked(overrides)
    return run_pipeline(config), Path(config.outputs) / run_id(config)


def built(root: Path) -> dict[str, set[str]]:
    return {stage.name: {p.name for p in stage.iterdir() if p.is_dir()} for stage in (root / "artifacts").iterdir()}


@pytest.mark.slow
def test_grounded_run_with_every_control(
    tiny_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["experiment=ilm_qformer_grounded", "evaluation=full", "evaluation.movies=4", *tiny_overrides]
    objective, folder = run(overrides)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["all"]["sc"]["own"] == pytest.approx(objective)
    assert set(metrics["all"]["sc"]) == set(CONDITIONS)
    assert metrics["protocol"]["teacher"] == "facts-3"
    assert metrics["run"]["hardware"]["cores"] >= 1
    assert metrics["run"]["peak_memory_gib"] > 0.1
    (column,) = build([folder], 200).sections[0].group.columns
    assert column.variant.name == "ILM-QFormer-grounded"
    assert column.values("sc") == [pytest.approx(objective)]
    assert {(c.stage, c.name) for c in histories(column.runs[0])} >= {("tune", "val/loss"), ("pretrain", "val/vg")}
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    table = pl.read_parquet(folder / "predictions.parquet")
    assert {"prompt", "target", "generated", "sc", "condition", "loss", "bits"} <= set(table.columns)
    own = table.filter(pl.col("condition") == "own")
    assert own["example_id"].n_unique() == len(own)
    # without titles in the prompt, the model cannot read the item's name
    assert not own["prompt"].str.contains("Film number").any()
    assert table.filter(pl.col("condition") == "title")["prompt"].str.contains("Film number").all()
    # another movie's vector under the same prompt gives that movie's own text
    for task, part in own.group_by("task"):
        borrowed = table.filter((pl.col("condition") == "shuffled") & (pl.col("task") == task[0]))
        assert set(borrowed["generated"]) <= set(part["generated"])
        assert part["prompt"].n_unique() == 1
    screen = capsys.readouterr().err
    assert "Parameters" in screen
    assert "all (mean of tasks)" in screen

    # everything is there already: nothing is built again
    before = built(tmp_path)
    assert run(overrides)[0] == objective
    assert built(tmp_path) == before


@pytest.mark.slow
def test_a_changed_setting_redoes_only_what_depends_on_it(tiny_overrides: list[str], tmp_path: Path) -> None:
    quick = ["evaluation.conditions=[own,shuffled]", "evaluation.losses=false", *tiny_overrides]
    run(["experiment=ilm_qformer_random", *quick])
    first = built(tmp_path)
    assert "pretrain" not in first
    run(["experiment=ilm_qformer_random", "tuning.adapter_lr=5e-4", *quick])
    second = built(tmp_path)
    same = {"prepare", "embed", "tasks"}
    assert {stage: second[stage] for stage in same} == {stage: first[stage] for stage in same}
    assert len(second["tune"]) == len(second["evaluate"]) == 2


def test_titles_beside_the_vectors_stay_when_vectors_are_shuffled(shared_overrides: list[str]) -> None:
    quick = ["tasks.names=[summary,interpolation]", "tasks.title_in_prompt=true", "evaluation.max_new_tokens=4"]
    conditions = "evaluation.conditions=[own,shuffled,constant]"
    _, folder = run(["experiment=ilm_mlp", *shared_overrides, *quick, conditions])
    table = pl.read_parquet(folder / "predictions.parquet")
    own, other = (table.filter(pl.col("condition") == name) for name in ("own", "shuffled"))
    assert own["prompt"].str.contains("Film number").all()
    assert own["prompt"].n_unique() == len(own)
    asked = ["example_id", "prompt", "target"]
    assert own.select(asked).sort("example_id").equals(other.select(asked).sort("example_id"))
    # the vectors are others: targets cost other numbers of bits
    both = own.join(other, on="example_id").with_columns(differ=pl.col("bits") != pl.col("bits_right"))
    assert both.filter(task="summary")["differ"].all()
    # two movies that got each other's vector have the same mean
    assert both.filter(task="interpolation")["differ"].any()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {"own", "shuffled", "constant"} <= set(metrics["all"]["sc"])
    assert metrics["protocol"]["title_in_prompt"] is True


@pytest.mark.slow
def test_one_blind_control_serves_the_vectors_of_every_encoder(tiny_overrides: list[str], tmp_path: Path) -> None:
    quick = ["evaluation.conditions=[own,blind]", "tuning.steps=2", "tuning.val_every=2", *tiny_overrides]
    blind = []
    for encoder in ("combined", "semantic", "behavioral"):
        _, folder = run(["experiment=ilm_mlp", f"encoder={encoder}", *quick])
        metrics = json.loads((folder / "metrics.json").read_text())
        blind.append(metrics["all"]["sc"]["blind"])
    assert len(set(blind)) == 1
    # the blind control's training, and one of each encoder
    assert len(built(tmp_path)["tune"]) == 4


@pytest.mark.parametrize(
    "experiment",
    [
        "elm",
        "ilm_qformer_lora",
        "ilm_qformer_full",
        "ilm_qformer",
        *(pytest.param(row, marks=pytest.mark.slow) for row in ("ilm_mlp", "ilm_mlp_vg", "ilm_qformer_source_dropout")),
    ],
)
def test_every_row_runs(experiment: str, shared_overrides: list[str]) -> None:
    quick = ["evaluation.conditions=[own]", "evaluation.losses=false", "tuning.steps=2", "tuning.val_every=2"]
    first = ["tuning.steps=4", "tuning.adapter_first_share=0.5"] if experiment == "elm" else []
    # ELM has one token by definition, so the common number of queries is not forced on it
    extra = [x for x in shared_overrides if experiment != "elm" or not x.startswith("adapter.num_queries")]
    _, folder = run([f"experiment={experiment}", *extra, *quick, *first])
    weights = {p.name for p in (folder / "model").rglob("*.safetensors")}
    frozen = experiment not in ("elm", "ilm_qformer_lora", "ilm_qformer_full")
    assert ("adapter_model.safetensors" in weights) == (experiment == "ilm_qformer_lora")
    assert (folder / "model" / "lm").is_dir() == (experiment in ("elm", "ilm_qformer_full"))
    assert not frozen or weights == {"model.safetensors"}
    assert "terms" in (folder / "model" / "README.md").read_text()


def test_export_gives_equal_soft_tokens_and_chat_answers(
    shared_overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["evaluation.conditions=[own]", "evaluation.losses=false"]
    _, folder = run(["experiment=ilm_mlp", *shared_overrides, *quick])
    chat = open_chat(folder, max_new_tokens=5)
    assert chat.model.tuning == "frozen"
    sources = chat.collator.slot_sources([(0,), (1,)])
    soft = chat.model.soft_tokens(sources)
    assert torch.equal(soft, open_chat(folder).model.soft_tokens(sources))
    prompt, slots = chat.prompt("Compare [Film number 3] with [m4].")
    assert prompt == "Compare {item} with {item}."
    assert slots == [[chat.catalog.find("Film number 3")], [chat.catalog.find("m4")]]
    assert isinstance(chat.answer("Summarize the movie [Film number 3]."), str)
    with pytest.raises(UnknownItemError, match="Film number"):
        chat.answer("What is [Film numbr 3]?")
    with pytest.raises(ChatError, match="square brackets"):
        chat.answer("What is Heat?")
    assert chat_main([f"run={folder}", "ask=Pitch [Film number 3].", "max_new_tokens=3"]) == 0
    assert chat_main([f"run={folder}", "ask=Pitch [Nothing like it]."]) == 1
    assert "Nothing like it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run=nowhere"], "no finished run"),
        (["nowhere"], "no finished run"),
        (["ask=x", "ask=y"], "given twice"),
        (["fun=1"], "unknown argument"),
        (["run=x", "max_new_tokens=a"], "no number"),
    ],
)
def test_chat_says_what_is_wrong(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert chat_main(arguments) == 1
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_interrupted_training_continues_to_the_same_weights(
    tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    from ilm_lightning.engine.callbacks import Progress

    quick = ["evaluation.conditions=[own]", "evaluation.losses=false", "tuning.steps=6", "tuning.val_every=6"]
    quick.append("tuning.checkpoint_every_s=0")
    overrides = ["experiment=ilm_qformer", *tiny_overrides, *quick]
    _, whole = run(overrides)
    expected = load_file(whole / "model" / "model.safetensors")

    other = [x for x in overrides if not x.startswith(("artifacts", "outputs"))]
    other += [f"artifacts={tmp_path}/second/artifacts", f"outputs={tmp_path}/second/outputs"]
    original = Progress.on_train_batch_end
    stops = {"pretrain": 4, "tune": 3}

    def stop(self, trainer, *rest, **kwargs):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN003, ANN202
        original(self, trainer, *rest, **kwargs)
        if trainer.global_step == stops.get(self.label):
            del stops[self.label]
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "on_train_batch_end", stop)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(other)
    assert json.loads(next((tmp_path / "second/outputs").glob("*/status.json")).read_text())["state"] == "interrupted"
    _, resumed = run(other)
    found = load_file(resumed / "model" / "model.safetensors")
    assert stops == {}
    assert {name: torch.equal(found[name], tensor) for name, tensor in expected.items()} == dict.fromkeys(
        expected, True
    )


@pytest.mark.parametrize("rule", ["paper", "cold"])
@pytest.mark.slow
def test_marked_splits_run_and_say_so(
    rule: str, shared_overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["evaluation.losses=false", "tuning.steps=2", "tuning.val_every=2", "tasks.interpolation=two_items"]
    conditions = "evaluation.conditions=[own,constant,knn_copy]"
    experiment = "ilm_qformer_vg" if rule == "paper" else "ilm_mlp"
    _, folder = run([f"experiment={experiment}", f"data.split={rule}", conditions, *shared_overrides, *quick])
    assert json.loads((folder / "metrics.json").read_text())["protocol"]["split_rule"] == rule
    screen = capsys.readouterr().err
    assert f"marked row: data.split={rule}" in screen
    table = pl.read_parquet(folder / "predictions.parquet")
    blends = table.filter((pl.col("task") == "interpolation") & (pl.col("condition") == "own"))
    assert (blends["prompt"].str.count_matches("{item}", literal=True) == 2).all()


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ilm_lightning.train", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_missing_column_is_told_before_anything_heavy(tiny_overrides: list[str], tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("person,thing\n1,2\n", encoding="utf-8")
    overrides = [x for x in tiny_overrides if not x.startswith("data.interactions")]
    done = command(*overrides, f"data.interactions={bad}", cwd=tmp_path)
    assert done.returncode == 1
    assert "user" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "artifacts").exists()
    # other column names, as the documentation says it
    renamed = [f"data.interactions={bad}", "data.columns.user=person", "data.columns.item=nothing"]
    done = command(*overrides, *renamed, cwd=tmp_path)
    assert done.returncode == 1
    assert "nothing" in done.stderr


def test_model_folder_loads_by_itself(shared_overrides: list[str]) -> None:
    quick = ["evaluation.conditions=[own]", "evaluation.losses=false"]
    config = checked(["experiment=ilm_mlp", *shared_overrides, *quick])
    run_pipeline(config)
    folder = Path(config.outputs) / run_id(config)
    model = ItemLanguageModel.from_pretrained(folder / "model")
    chat = open_chat(folder)
    examples = chat.tokenizer.encode(
        [{"example_id": "a", "prompt": "Summarize {item}.", "slots": [[1]], "target": "A film."}]
    )
    batch = chat.collator(examples)
    with torch.inference_mode():
        assert torch.equal(model.target_logits(batch), chat.model.target_logits(batch))


def test_a_run_name_holds_one_configuration(shared_overrides: list[str]) -> None:
    quick = ["evaluation.conditions=[own]", "evaluation.losses=false", "run=mine"]
    run(["experiment=ilm_mlp", *shared_overrides, *quick])
    with pytest.raises(ValueError, match="another configuration"):
        run(["experiment=ilm_mlp", "seed=5", *shared_overrides, *quick])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lm.name=no-such-model", "no-such-model"),
        ("evaluation.scorer=no-such-scorer", "no-such-scorer"),
        ("adapter.hidden_size=32", "adapter.hidden_size=16"),
    ],
)
def test_what_is_missing_is_told_before_anything_is_built(
    override: str, message: str, tiny_overrides: list[str], tmp_path: Path
) -> None:
    with pytest.raises((ValueError, RuntimeError), match=message):
        run(["experiment=ilm_qformer", *tiny_overrides, override])
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.slow
def test_multirun_leaves_a_run_for_each_job_and_names_the_one_that_failed(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    quick = ["evaluation.conditions=[own]", "evaluation.losses=false", "tuning.steps=2", "tuning.val_every=2"]
    sweep = ["-m", "experiment=ilm_mlp", "adapter.num_queries=1,0,2"]
    extra = [x for x in tiny_overrides if not x.startswith("adapter.num_queries")]
    done = command(*sweep, *extra, *quick, cwd=tmp_path)
    assert done.returncode == 1
    assert "adapter.num_queries=0 must be above 0" in done.stderr
    runs = [json.loads(p.read_text()) for p in (tmp_path / "outputs").glob("*/status.json")]
    assert [run["state"] for run in runs] == ["finished", "finished"]
    (kept,) = (tmp_path / "outputs").glob("sweep-*.json")
    rows = json.loads(kept.read_text())
    assert [row["state"] for row in rows] == ["finished", "failed", "finished"]
    assert {row["sc"] for row in rows if row["sc"] is not None} == {run["objective"] for run in runs}
    # results name the single command that gives the same run
    metrics = json.loads((Path(tmp_path / rows[0]["folder"]) / "metrics.json").read_text())
    assert "experiment=ilm_mlp adapter.num_queries=1" in metrics["run"]["command"]
    # the same sweep again starts nothing
    again = command(*sweep, *extra, *quick, cwd=tmp_path)
    assert "2 finished before" in again.stderr
    assert "started" not in again.stderr


@pytest.mark.parametrize("table", ["table3", "table9", "table10"])
def test_a_table_is_five_rows(table: str) -> None:
    jobs = sweep_jobs(table)
    assert len(jobs) == 5
    assert len({checked(job).name for job in jobs}) == 5


def sweep_jobs(sweep: str, *arguments: str) -> list[list[str]]:
    """Overrides of each job of ``-m sweep=NAME …``, as Hydra's own sweeper makes them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    register_schema()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        params = compose("train", [f"sweep={sweep}"], return_hydra_config=True).hydra.sweeper.params
    overrides = [f"{key}={value}" for key, value in params.items()]
    parsed = OverridesParser.create().parse_overrides([*overrides, f"sweep={sweep}", *arguments])
    return BasicSweeper.split_arguments(parsed, None)[0]


@pytest.mark.slow
def test_a_run_is_resumed_by_its_name(tiny_overrides: list[str], tmp_path: Path) -> None:
    overrides = ["experiment=ilm_mlp", *tiny_overrides, "evaluation.conditions=[own]", "evaluation.losses=false"]
    config = checked(overrides)
    context = open_context(config)
    check_assets(context)
    # as far as a run comes that is stopped before phase 2
    train_variant(context)
    before = built(tmp_path)
    command = [sys.executable, "-m", "ilm_lightning.train", f"resume={run_id(config)}", f"outputs={config.outputs}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    after = built(tmp_path)
    assert after | before == after
    assert {stage: len(after[stage]) for stage in ("tune", "generate", "evaluate")} == dict.fromkeys(
        ("tune", "generate", "evaluate"), 1
    )
    (folder,) = Path(config.outputs).iterdir()
    assert folder.name == run_id(config)
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    # once more: nothing is left to do, and the result is the same file
    metrics = json.loads((folder / "metrics.json").read_text())
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, built(tmp_path)) == (0, after)
    again = json.loads((folder / "metrics.json").read_text())
    assert again == metrics


@pytest.mark.parametrize(
    "encoders", [["combined"], pytest.param(["semantic", "behavioral", "combined"], marks=pytest.mark.slow)], ids=len
)
def test_the_rows_of_table_3_share_vectors_and_phase_1(
    encoders: list[str], tiny_overrides: list[str], tmp_path: Path
) -> None:
    jobs = sweep_jobs("table3", f"encoder={','.join(encoders)}")
    assert len(jobs) == 5 * len(encoders)
    for job in jobs:
        config = checked([*(x for x in tiny_overrides if not x.startswith("adapter.num_queries")), *job])
        context = open_context(config)
        check_assets(context)
        train_variant(context)
    counts = {stage: len(folders) for stage, folders in built(tmp_path).items()}
    # vectors of every source are one artefact: ALS and text encoding once
    assert counts == {"prepare": 1, "als": 1, "encode": 1, "embed": 1, "tasks": 1, "pretrain": len(encoders)}


@pytest.mark.parametrize(("sweep", "jobs"), [("table2", 6), ("figure3", 24)])
def test_other_sweeps_have_their_jobs(sweep: str, jobs: int) -> None:
    found = sweep_jobs(sweep)
    assert len(found) == jobs
    assert len({run_id(checked(job)) for job in found[:6]}) == 6
