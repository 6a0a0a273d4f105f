"""A run on the user's own tasks: trained, scored with their controls, asked again by the commands."""

import json
from pathlib import Path

import polars as pl
import pytest
from test_pipeline import run

from ilm_lightning.embed import main as embed
from ilm_lightning.engine.loaded import open_run, task_prompts
from warm import run_command

TASKS = """
tasks:
  tagline:
    phrasings: ["Write a tagline for {item}.", "What would the poster of {item} say?"]
    target: "{name}, {a label} of the {decade}."
  rival:
    items: 2
    partner: nearest
    phrasings: ["Which is longer, {item} or {item}?"]
    target: "{1.title} runs {1.minutes}, {2.title} {2.minutes}."
  said:
    phrasings: ["What was said of {item}?"]
    targets: said.csv
phrasings:
  summary: ["Tell me about {item} in brief."]
"""


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    (tmp_path / "said.csv").write_text("item,target\n" + "".join(f"m{i},It was said {i} times.\n" for i in range(60)))
    path = tmp_path / "my_tasks.yaml"
    path.write_text(TASKS, encoding="utf-8")
    return path


def test_own_tasks_are_trained_and_scored_like_the_others(
    task_file: Path, shared_overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    conditions = "evaluation.conditions=[own,shuffled,constant,knn_copy]"
    names = "tasks.names=[tagline,rival,said,summary]"
    _, folder = run(["experiment=ilm_mlp", *shared_overrides, conditions, names, f"tasks.file={task_file}"])
    table = pl.read_parquet(folder / "predictions.parquet")
    own = table.filter(pl.col("condition") == "own")
    assert set(own["task"]) == {"tagline", "rival", "said", "summary"}
    assert own.filter(pl.col("task") == "tagline")["prompt"].unique().to_list() == ["Write a tagline for {item}."]
    assert own.filter(pl.col("task") == "said")["target"].str.starts_with("It was said ").all()
    metrics = json.loads((folder / "metrics.json").read_text())
    for task in ("tagline", "rival", "said"):
        assert {"own", "shuffled", "constant", "knn_copy"} <= set(metrics["tasks"][task]["sc"])
    loaded = open_run(folder)
    assert set(task_prompts(loaded)) == {"tagline", "rival", "said", "summary"}
    # the commands know them from the run folder alone
    task_file.unlink()
    capsys.readouterr()
    wish = ["tasks=[tagline,rival]", "other=Film number 5", "max_new_tokens=2"]
    assert embed([str(folder), "title=Heat 2 (2025)", "genres=Crime", *wish]) == 0
    assert "rival" in capsys.readouterr().out
    assert embed([str(folder), "title=Heat 2 (2025)", "tasks=rival"]) == 1
    assert "rival is about two items" in capsys.readouterr().err


def test_a_changed_file_makes_other_examples_and_other_phrasings_join(
    task_file: Path, shared_overrides: list[str]
) -> None:
    from test_pipeline import checked

    from ilm_lightning.engine.pipeline import open_context
    from ilm_lightning.engine.stages.data import examples, prepare, read_examples
    from ilm_lightning.engine.stages.embed import embed as embed_stage

    wish = ["experiment=ilm_mlp", *shared_overrides, "run=own", f"tasks.file={task_file}"]
    context = open_context(checked(wish))
    prepared = prepare(context)
    embedded = embed_stage(context, prepared)
    made = examples(context, prepared, embedded)
    frame = read_examples(made)
    assert frame["task"].n_unique() == 27
    assert {"tagline", "summary"} <= set(made.report["examples"])
    assert made.report["teacher"].endswith(" and my_tasks.yaml")
    assert "Tell me about {item} in brief." in set(frame.filter(pl.col("split") == "train")["prompt"])
    said = task_file.parent / "said.csv"
    said.write_text(said.read_text().replace("3 times", "three times"))
    assert examples(context, prepared, embedded).id != made.id


@pytest.mark.parametrize(
    ("names", "teacher"),
    [
        ("tagline,next_item", "facts-3 and my_tasks.yaml"),
        ("next_item", "facts-3"),
        ("tagline", "facts-3 and my_tasks.yaml"),
        ("summary,next_item,tagline", "facts-3 and my_tasks.yaml"),
    ],
)
def test_own_tasks_mix_with_those_about_users(
    names: str, teacher: str, task_file: Path, shared_overrides: list[str]
) -> None:
    from test_pipeline import checked

    from ilm_lightning.engine.pipeline import open_context
    from ilm_lightning.engine.stages.data import examples, prepare, read_examples
    from ilm_lightning.engine.stages.embed import embed as embed_stage

    wish = [f"tasks.names=[{names}]", f"tasks.file={task_file}", "tasks.user_history=3"]
    context = open_context(checked(["experiment=ilm_mlp", *shared_overrides, *wish]))
    prepared = prepare(context)
    made = examples(context, prepared, embed_stage(context, prepared))
    assert set(read_examples(made)["task"]) == set(names.split(","))
    assert made.report["teacher"] == teacher


def test_items_that_are_no_films_need_own_tasks(
    shared_overrides: list[str], own_data: tuple[Path, Path], tmp_path: Path
) -> None:
    lamps = tmp_path / "lamps.csv"
    lamps.write_text("item,title,genres\n" + "".join(f"m{i},Lamp number {i},Lighting|Office\n" for i in range(60)))
    wish = [x for x in shared_overrides if not x.startswith("data.items")] + [f"data.items={lamps}"]
    with pytest.raises(ValueError, match=r"times 'no known genre'\); the built-in tasks are about films.*tasks\.file"):
        run(["experiment=ilm_mlp", *wish])
    path = tmp_path / "adverts.yaml"
    path.write_text("tasks:\n  advert:\n    phrasings: ['Sell {item}.']\n    target: 'Buy {title} for {genres}!'\n")
    conditions = ["evaluation.conditions=[own,constant]", "evaluation.losses=false"]
    _, folder = run(["experiment=ilm_mlp", *wish, *conditions, f"tasks.file={path}"])
    assert set(pl.read_parquet(folder / "predictions.parquet")["task"]) == {"advert"}


def test_mistakes_are_told_in_the_first_second(task_file: Path, shared_overrides: list[str], tmp_path: Path) -> None:
    task_file.write_text(TASKS.replace("{decade}", "{decad}"))
    arguments = [*shared_overrides, f"tasks.file={task_file}", f"artifacts={tmp_path}/artifacts"]
    done = run_command("ilm_lightning.train", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert "my_tasks.yaml: line 5, task 'tagline': unknown slot {decad} (did you mean decade?)" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "artifacts").exists()
    # the data is read for what the task file names
    assert done.heavy <= {"polars"}


def test_names_may_be_own_tasks(task_file: Path, shared_overrides: list[str]) -> None:
    from test_pipeline import checked

    file = f"tasks.file={task_file}"
    assert checked(["experiment=ilm_mlp", *shared_overrides, file, "tasks.names=[tagline]"]).tasks.names == ["tagline"]
    with pytest.raises(ValueError, match=r"tasks\.names=taglin is not known; choose one of: .*tagline"):
        checked(["experiment=ilm_mlp", *shared_overrides, file, "tasks.names=[taglin]"])
