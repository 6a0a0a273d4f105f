"""The commands of recommendation on tiny models and an invented shop."""

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from ilm_lightning import baselines, recommend, train
from ilm_lightning.data.openp5 import Sequences
from ilm_lightning.embeddings.behavioral import fit_als
from ilm_lightning.embeddings.vectors import ItemVectors, fit_scaling
from ilm_lightning.engine.artifacts import Artifact, Store
from ilm_lightning.engine.callbacks import Progress
from ilm_lightning.engine.config import AlsConfig, Config, EncoderConfig, TasksConfig
from ilm_lightning.engine.loaded import RunError, find_run
from ilm_lightning.engine.runs import write_status
from ilm_lightning.engine.stages import recommend as recommend_stage
from ilm_lightning.engine.stages.baselines import NAMES
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.openp5 import load_sequences
from ilm_lightning.engine.stages.users_before import UsersBefore
from ilm_lightning.engine.validate_openp5 import BASELINES
from ilm_lightning.tasks.openp5.examples import chosen_users
from wandb_reader import read_runs

OFFLINE = "logger=wandb_offline"


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    with pytest.raises(SystemExit) as end:
        train.main()
    return int(end.value.code or 0)


def finished_all(overrides: list[str]) -> list[Path]:
    return list(Path(next(o for o in overrides if o.startswith("outputs=")).split("=", 1)[1]).iterdir())


def finished(overrides: list[str]) -> Path:
    (folder,) = finished_all(overrides)
    return folder


def check_tracked(folder: Path, metrics: dict[str, Any]) -> None:
    """HR on validation and the lists behind it, over time and for the same users; at the end HR on test."""
    history = pl.read_csv(folder / "history-tune.csv").filter(pl.col("name") == "val/hr10")
    lists = pl.read_csv(folder / "samples-tune.csv")
    assert lists.columns == ["step", "example", "task", "prompt", "target", "list", "rank"]
    by_step = lists.group_by("step", maintain_order=True)
    assert history["value"].to_list() == [pytest.approx((part["rank"] > 0).mean()) for _, part in by_step]
    assert len({tuple(part["example"]) for _, part in by_step}) == 1
    runs = {found.run.job_type: found for found in read_runs(folder)}
    assert runs["tune"].values("val/hr10") == [pytest.approx(value) for value in history["value"]]
    last = runs["tune"].tables["samples"][-1]
    assert [row[1] for row in last["data"]] == lists["example"].to_list()
    hr = metrics["ranking"]["seen"]["sequential"]["hr"]["10"]
    assert runs["evaluate"].history[0]["test/hr@10/sequential, seen"] == pytest.approx(hr)
    assert "test/ndcg@5/Markov" in runs["evaluate"].history[0]
    assert "items" in runs["evaluate"].tables["lists"][0]["columns"]


@pytest.mark.parametrize(
    "extra",
    [
        ["experiment=ilm_qformer", "encoder=behavioral", "tasks.user_vector=fold_in"],
        ["experiment=ilm_mlp", "tuning=lora", "evaluation.filter_seen=true", "evaluation.users=7"],
        pytest.param(["experiment=ilm_mlp", "tuning=lora", "evaluation.users=7", OFFLINE], marks=pytest.mark.slow),
        pytest.param(
            ["experiment=openp5_collm", "tuning.lm_first_steps=3", "evaluation.filter_seen=true", "evaluation.users=7"],
            marks=pytest.mark.slow,
        ),
        pytest.param(["experiment=openp5_user_llm"], marks=pytest.mark.slow),
    ],
    ids=["ilm", "mlp", "tracked", "collm", "user_llm"],
)
def test_a_run_ranks_held_out_items(
    overrides: list[str], extra: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*extra, *overrides], monkeypatch) == 0, capsys.readouterr().err
    folder = finished(overrides)
    metrics = json.loads((folder / "metrics.json").read_text())
    table = pl.read_parquet(folder / "predictions.parquet")
    users = 7 if "evaluation.users=7" in extra else 20
    assert len(table) == 4 * users
    for name in ("seen", "unseen"):
        for task in ("sequential", "straightforward"):
            row = metrics["ranking"][name][task]
            part = table.filter((pl.col("prompts") == name) & (pl.col("task") == task))
            assert row["users"] == users == len(part)
            ranks = part["rank"].to_numpy()
            assert row["hr"]["10"] == pytest.approx(((ranks > 0) & (ranks <= 10)).mean())
            for target, rank, items in part.select("target", "rank", "items").iter_rows():
                assert len(items) == len(set(items))
                assert (items.index(target) + 1 if target in items else 0) == rank
            full = part["items"].list.len().min() == 10
            assert (row["invalid"] == 0) == full
            assert full or "evaluation.filter_seen=true" in extra
    assert set(metrics["baselines"]) == {"Markov", "popularity", "item-kNN", "ALS"}
    screen = capsys.readouterr().err
    assert "Markov" in screen
    # CoLLM's language model learned the text first, and the exported one knows it
    first = "experiment=openp5_collm" in extra
    assert screen.count("recommend done in") == (2 if first else 1)
    assert (folder / "model" / "lm_updates").is_dir() == first
    assert metrics["counts"]["users"] == 20
    assert list(folder.glob("history*.csv"))
    if OFFLINE in extra:
        check_tracked(folder, metrics)
    check_als(metrics, overrides)
    with pytest.raises(RunError, match="trained to recommend"):
        find_run(str(folder))
    # a repeated command finds everything
    assert run([*extra, *overrides], monkeypatch) == 0
    assert "recommend" not in [line.split()[0] for line in capsys.readouterr().err.splitlines() if "done in" in line]
    check_command(folder, capsys)


def check_als(metrics: dict[str, Any], overrides: list[str]) -> None:
    """The baseline knows each user up to the target, as the model does."""
    made = {name.split("/")[0]: name for name in metrics["run"]["artifacts"]}
    root = Path(next(o for o in overrides if o.startswith("artifacts=")).split("=", 1)[1])
    factors = ItemVectors.load(root / made["embed"]).raw("behavioral")
    manifest = json.loads((root / made["prepare"] / "manifest.json").read_text())
    sequences, _ = load_sequences(Artifact("prepare", "", root / made["prepare"], manifest))
    hits = []
    for user in chosen_users(len(sequences), metrics["baselines"]["ALS"]["users"]):
        *known, target = sequences.items(int(user)).tolist()
        met = factors[known]
        als = AlsConfig()
        gram = factors.T @ factors + (als.alpha - 1) * met.T @ met + als.regularization * np.eye(factors.shape[1])
        scores = factors @ np.linalg.solve(gram, als.alpha * met.sum(0))
        if "filtered" in metrics["protocol"]["decoding"] and "not" not in metrics["protocol"]["decoding"]:
            scores[known] = -np.inf
        hits.append((scores > scores[target]).sum() < 5)
    assert metrics["baselines"]["ALS"]["hr"]["5"] == pytest.approx(np.mean(hits))


def check_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = recommend.main([f"run={folder}", "user=u3", "k=3"]), capsys.readouterr().out
    assert known[0] == 0
    assert known[1].count("Thing") >= 4
    assert "asked for" not in known[1]
    check_few(folder, capsys)
    answer = recommend.recommend_for({"run": str(folder), "history": "i2| Thing 7|i4", "k": "12"})
    found, history, catalog = answer.items, answer.history, answer.catalog
    assert [catalog[row].item_id for row in history] == ["i2", "i7", "i4"]
    assert len(found) == 12
    assert len({one.row for one in found} | set(history)) == 15
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    for arguments, message in (
        ([f"run={folder}", "user=nobody"], "user=nobody is not in Shop"),
        ([f"run={folder}", "history=Thing 99"], "the nearest are"),
        ([f"run={folder}", "history= , "], "history is empty"),
        ([f"run={folder}"], "either user=ID or history"),
        ([f"run={folder}", "user=u1", "k=0"], "k=0"),
        ([f"run={folder}", "user=u1", "task=both"], "task=both"),
        ([f"run={folder.parent}", "user=u1"], "holds no finished run"),
        (["user=u1"], "which run?"),
    ):
        assert recommend.main(arguments) == 1
        assert message in capsys.readouterr().err


def check_refused_without_torch(folder: Path) -> None:
    """A user or an item that is not there needs no model to be told."""
    code = (
        "import sys; from ilm_lightning.recommend import main; "
        "status = main(sys.argv[1:]); sys.exit(9 if 'torch' in sys.modules else status)"
    )
    for asked, message in (("user=99999", "user=99999 is not in Shop"), ("history=Thing 99", "the nearest are")):
        done = subprocess.run(
            [sys.executable, "-c", code, f"run={folder}", asked], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1, done.stderr
        assert message in done.stderr


def check_few(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A history that is not shown whole, and a list that is shorter than asked for, say so."""
    assert recommend.main([f"run={folder}", "history=i1,i2,i3,i4,i5,i6", "k=50"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert told.startswith("after (the last 5 of 6) Thing 2, Thing 3, Thing 4, Thing 5, Thing 6: ")
    assert "9 of the 50 asked for: the catalogue holds 15, and the 6 of the history are not recommended" in told
    assert recommend.main([f"run={folder}", "history=i1,i2", "k=1"]) == 0
    assert capsys.readouterr().out.startswith("after Thing 1, Thing 2:")


def test_a_search_that_ends_early_says_how_wide_it_was() -> None:
    answer = recommend.Answer([recommend.Recommended(3, -1.0)], [0, 1, 1], range(9), 30)  # type: ignore[arg-type]
    assert answer.shortage(1) == ""
    assert answer.shortage(10) == (
        "1 of the 10 asked for: of the 7 outside the history no more could be ranked with 30 beams; a larger k "
        "searches with more"
    )


def test_what_cannot_be_asked_is_told_before_anything_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    for history in ("", " , ", "|"):
        with pytest.raises(recommend.RecommendError, match="history is empty; name at least one item"):
            recommend.parse(["run=nowhere", f"history={history}"])
    for k in ("²", "0", "-1", "1.5", "", "9" * 5_000):
        with pytest.raises(RunError, match=f"k={k} is no number above 0"):
            recommend.parse(["run=nowhere", "user=u1", f"k={k}"])
    assert recommend.main(["--help"]) == 0
    assert "the items held out for validation and test" in " ".join(capsys.readouterr().out.split())


def test_a_run_that_cannot_recommend_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("outputs") / "mlp1"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("name: mlp\n")

    def told(run: str) -> str:
        assert recommend.main([f"run={run}", "user=u1"]) == 1
        return capsys.readouterr().err.strip()

    assert told("mlp1") == "error: run=mlp1: there is no such folder; did you mean outputs/mlp1?"
    assert told("outputs/mlp2").endswith("there is no such folder; did you mean outputs/mlp1?")
    assert told("/elsewhere").endswith("there is no such folder; give a folder under outputs/")
    assert "holds no finished run (model/config.json is missing)" in told("outputs/mlp1")
    for state, named in (("interrupted", "interrupted"), ("running", "still running, or killed")):
        write_status(folder, state)
        assert told("outputs/mlp1") == (
            f"error: outputs/mlp1 is not finished ({named}): the same train command continues it, as does "
            "python -m ilm_lightning.train resume=outputs/mlp1"
        )
    write_status(folder, "finished")
    (folder / "model").mkdir()
    (folder / "items").mkdir()
    for name in ("model/config.json", "metrics.json"):
        (folder / name).write_text("{}")
    assert "was trained on language tasks: ask it with python -m ilm_lightning.chat" in told("outputs/mlp1")


def test_a_run_recommends_from_what_it_was_trained_on(
    overrides: list[str],
    shop: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = tmp_path / "own"
    shutil.copytree(shop, data)
    mine = [o.replace(str(shop), str(data)) for o in overrides]
    extra = ["tuning.steps=1", "tuning.val_every=1", "evaluation.users=2", "evaluation.prompt_sets=[seen]"]
    assert run(["experiment=ilm_mlp", *mine, *extra, "logger.samples=0"], monkeypatch) == 0
    folder, sequences = finished(overrides), data / "Shop" / "user_sequence.txt"
    asked = {"run": str(folder), "user": "u3"}
    before = recommend.recommend_for(asked).items
    # prompts without items taught a frozen language model nothing: they are not tested, and no list is made of them
    assert set(json.loads((folder / "metrics.json").read_text())["ranking"]["seen"]) == {"sequential"}
    assert recommend.main([f"run={folder}", "user=u3", "task=straightforward"]) == 1
    assert "learned nothing from straightforward prompts" in " ".join(capsys.readouterr().err.split())
    check_refused_without_torch(folder)
    assert recommend.main(["--help"]) == 0
    assert "run=FOLDER user=ID" in capsys.readouterr().out
    # users that came later move every item's row, and change nothing
    original = sequences.read_text()
    sequences.write_text("new i9 i8 i7 i6\n" + original)
    assert recommend.recommend_for(asked).items == before
    artifacts = Path(next(o for o in overrides if o.startswith("artifacts=")).split("=", 1)[1])
    shutil.rmtree(artifacts / "prepare")
    assert recommend.main([f"run={folder}", "user=u3"]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "is not what" in told
    assert "21 users for 20" in told
    sequences.write_text(original)
    assert recommend.recommend_for(asked).items == before
    shutil.rmtree(artifacts)
    shutil.rmtree(data)
    assert recommend.main([f"run={folder}", "user=u3"]) == 1
    assert "there is no such folder any more" in " ".join(capsys.readouterr().err.split())


def test_free_beams_report_what_names_no_item(overrides: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    extra = ["experiment=ilm_mlp", "evaluation.decoding=free", "evaluation.users=3", "evaluation.prompt_sets=[unseen]"]
    assert run([*extra, *overrides], monkeypatch) == 0
    metrics = json.loads((finished(overrides) / "metrics.json").read_text())
    # an untrained model of random weights writes no item ids
    assert metrics["ranking"]["unseen"]["sequential"]["invalid"] > 0.9
    assert "seen" not in metrics["ranking"]


def test_what_is_no_items_form_leaves_the_list_of_free_beams(
    overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def planted(context: Context, bench: recommend_stage.Bench, model: Any, examples: Any, label: str) -> np.ndarray:
        targets = bench.sequences.targets(context.config.evaluation.split)
        lists = np.full((len(examples), 10), -1)
        for row, example in enumerate(examples):
            lists[row, 1::2] = [(targets[example.user] + step) % 15 for step in (1, 0, 2, 3, 4)]
            # of an item's form, but of no item: it stays before the others
            lists[row, 0] = -2
        return lists

    monkeypatch.setattr(recommend_stage, "ranked_lists", planted)
    extra = ["experiment=ilm_mlp", "evaluation.decoding=free", "evaluation.prompt_sets=[seen]", "logger.samples=0"]
    assert run([*extra, *overrides], monkeypatch) == 0
    folder = finished(overrides)
    row = json.loads((folder / "metrics.json").read_text())["ranking"]["seen"]["sequential"]
    assert row["invalid"] == pytest.approx(0.5)
    assert row["ndcg"]["10"] == row["ndcg"]["5"] == pytest.approx(1 / np.log2(4))
    # the file that claims are decided by says the same
    table = pl.read_parquet(folder / "predictions.parquet")
    assert set(table["rank"]) == {3}
    assert all(items.index(target) == 2 for target, items in table.select("target", "items").iter_rows())


@pytest.mark.slow
def test_interrupted_training_on_shared_histories_continues_to_the_same_weights(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["tuning.history=shared", "tuning.steps=6", "tuning.val_every=6", "tuning.checkpoint_every_s=0"]
    quick += ["evaluation.users=3", "evaluation.prompt_sets=[seen]", "tuning=lora", "tuning.batch_size=12"]
    mine = ["experiment=ilm_mlp", *overrides, *quick]
    assert run(mine, monkeypatch) == 0, capsys.readouterr().err
    assert "histories shared" in capsys.readouterr().err
    other = [x for x in mine if not x.startswith(("artifacts", "outputs"))]
    other += [f"artifacts={tmp_path}/second/artifacts", f"outputs={tmp_path}/second/outputs"]
    original, stops = Progress.on_train_batch_end, [3]

    def stop(self: Progress, trainer: Any, *rest: Any, **kwargs: Any) -> None:
        original(self, trainer, *rest, **kwargs)
        if [trainer.global_step] == stops:
            stops.clear()
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "on_train_batch_end", stop)
    assert run(other, monkeypatch) == 130
    assert run(other, monkeypatch) == 0
    assert stops == []
    assert "continues from step" in capsys.readouterr().err
    one, two = (load_file(finished(x) / "model" / "model.safetensors") for x in (mine, other))
    assert {name: torch.equal(two[name], tensor) for name, tensor in one.items()} == dict.fromkeys(one, True)
    # less is read than the examples hold, and the artefact says how much
    made = json.loads((finished(mine) / "metrics.json").read_text())["run"]["artifacts"]
    (name,) = (name for name in made if name.startswith("recommend/"))
    root = Path(next(o for o in overrides if o.startswith("artifacts=")).split("=", 1)[1])
    report = json.loads((root / name / "manifest.json").read_text())["report"]
    assert report["mean_tokens_read"] < 0.8 * report["mean_tokens"]


@pytest.mark.slow
def test_windows_may_move_in_blocks(
    overrides: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = ["tuning.history=blocks", "tuning.history_block=2", "tuning=full", "tasks.user_vector=full"]
    extra.append("tasks.head=item")
    extra += ["evaluation.users=3", "evaluation.prompt_sets=[seen]"]
    assert run(["experiment=ilm_mlp", *overrides, *extra], monkeypatch) == 0
    metrics = json.loads((finished(overrides) / "metrics.json").read_text())
    assert metrics["ranking"]["seen"]["sequential"]["users"] == 3
    # users' own factors are all that such a run knows of them
    arguments = [f"run={finished(overrides)}", "history=i2,i3"]
    assert recommend.main(arguments) == 1
    assert "which a history alone does not have; give user=ID" in " ".join(capsys.readouterr().err.split())
    assert recommend.main([arguments[0], "user=u3"]) == 0


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["tasks=elm"], "give data=openp5_"),
        (["data.name=???"], "error: data.name has no value, and what was chosen needs one: add data.name=…\n"),
        (["tasks.prompts=none.txt"], "tasks.prompts=none.txt"),
        (["tasks.user_vector=late"], "tasks.user_vector=late"),
        (["evaluation.beams=3"], "cannot fill lists"),
        (["evaluation.prompt_sets=[]"], "evaluation.prompt_sets is empty"),
        (["evaluation.top_k=5"], "HR@10 and NDCG@10 need lists of 10"),
        (["evaluation.decoding=free", "evaluation.filter_seen=true"], "needs evaluation.decoding=trie"),
        (["data.items=null"], "needs item texts"),
        (["tasks.soft_tokens=false"], "nothing to train"),
        (["tuning.history=packed"], "tuning.history=packed"),
        (["tuning.history=blocks", "tuning.history_block=5"], "must lie between 1 and tasks.history=4"),
        (
            ["tasks=elm", "data=movielens_small", "data.path=null", "data.items=null", "tuning.history=shared"],
            "only recommendation's prompts hold histories",
        ),
        (["tasks.user_vector=history"], "set adapter=perceiver"),
        (["tasks.names=[sequential]"], "holds only the lines you want"),
        (["tasks.file=my_tasks.yaml"], "tasks.file=my_tasks.yaml: recommendation's tasks are those of its prompt file"),
        (["tuning.lm_first_steps=-1"], "lm_first_steps=-1"),
    ],
)
def test_bad_settings_are_told(
    overrides: list[str],
    extra: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["experiment=ilm_mlp", *overrides, *extra], monkeypatch) == 1
    assert message in capsys.readouterr().err


def rank_without_model(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["baselines", *arguments])
    with pytest.raises(SystemExit) as end:
        baselines.main()
    return int(end.value.code or 0)


def test_baselines_without_a_language_model(
    overrides: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # neither prompts nor a language model are read
    mine = [o for o in overrides if not o.startswith(("lm.", "tasks", "evaluation.b"))]
    assert rank_without_model([*mine, "evaluation.filter_seen=true"], monkeypatch) == 0, capsys.readouterr().err
    told = " ".join(capsys.readouterr().err.split())
    assert "seen items filtered" in told
    assert "encoding item texts" not in told
    folder = finished(overrides)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(NAMES) == set(BASELINES)
    assert set(metrics["baselines"]) == {NAMES[name] for name in BASELINES if name != "sasrec"}
    ranks = pl.read_parquet(folder / "baselines.parquet")
    assert ranks["user"].to_list() == [f"u{u}" for u in range(20)]
    for name, row in metrics["baselines"].items():
        assert row["hr"]["5"] == pytest.approx((ranks[name] <= 5).mean())
    assert rank_without_model([*mine, "evaluation.baselines=[als]", "evaluation.users=3"], monkeypatch) == 0
    assert "3 of 20" in capsys.readouterr().err
    # a sweep ranks here, one setting after another; nothing is trained
    swept = ["-m", *mine, "evaluation.baselines=[item_knn]", "evaluation.knn_neighbours=2,5"]
    assert rank_without_model(swept, monkeypatch) == 0
    said = capsys.readouterr().err
    assert said.count("item-kNN") >= 2
    artifacts = Path(next(o for o in overrides if o.startswith("outputs=")).split("=", 1)[1])
    swept_runs = [json.loads(path.read_text()) for path in artifacts.glob("baselines-*/metrics.json")]
    mine_too = [m for m in swept_runs if set(m["baselines"]) == {"item-kNN"}]
    assert sorted(m["baseline_settings"]["item-kNN"]["neighbours"] for m in mine_too) == [2, 5]
    assert sorted(m["run"]["command"].split("knn_neighbours=")[1].split()[0] for m in mine_too) == ["2", "5"]
    assert "tune" not in said


@pytest.mark.skipif(find_spec("replay") is None, reason="RePlay is not installed: pip install 'ilm-lightning[sasrec]'")
def test_sasrec_is_trained_once_for_every_test(
    overrides: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["evaluation.sasrec.width=8", "evaluation.sasrec.epochs=2", "evaluation.sasrec.length=5"]
    mine = [o for o in overrides if not o.startswith(("lm.", "tasks", "evaluation.b"))]
    mine += [*small, "evaluation.baselines=[sasrec]"]
    found = []
    for extra in ([], ["evaluation.filter_seen=true"], ["evaluation.users=3"]):
        assert rank_without_model([*mine, *extra], monkeypatch) == 0
        assert ("sasrec    pass 1" in capsys.readouterr().err) == (extra == [])
        folder = max(finished_all(overrides), key=lambda path: path.stat().st_mtime_ns)
        found.append(pl.read_parquet(folder / "baselines.parquet"))
    everybody, filtered, few = found
    # with fewer items above it a target cannot fall
    assert (filtered["SASRec"] <= everybody["SASRec"]).all()
    assert few.equals(everybody.filter(pl.col("user").is_in(few["user"].to_list())))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["evaluation.baselines=[]"], "evaluation.baselines is empty"),
        (["evaluation.baselines=[als,svd]"], "evaluation.baselines=svd"),
        (["evaluation.users=-1"], "must be 0 (all) or more"),
        (["evaluation.baselines=[sasrec]", "evaluation.sasrec.heads=3"], "multiple of evaluation.sasrec.heads=3"),
        (["evaluation.baselines=[sasrec]", "evaluation.sasrec.dropout=1.0"], "below 1"),
        (["evaluation.baselines=[sasrec]", "evaluation.sasrec.epochs=0"], "evaluation.sasrec.epochs=0"),
        (["data=movielens_small"], "rank held-out items of sequences"),
    ],
)
def test_bad_settings_of_baselines_are_told(
    overrides: list[str],
    extra: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mine = [o for o in overrides if not o.startswith(("lm.", "tasks", "data"))] if "data" in extra[0] else overrides
    assert rank_without_model([*mine, *extra], monkeypatch) == 1
    assert message in capsys.readouterr().err


def test_a_users_vector_knows_nothing_of_the_target(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    original = np.concatenate([rng.permutation(12)[:8] for _ in range(30)]).astype(np.int32)
    names = [str(i) for i in range(30)]

    def sequences_of(values: np.ndarray) -> Sequences:
        return Sequences("Shop", names, names[:12], np.arange(31) * 8, values)

    # item factors are the same on both sides: only what the user met before may matter
    items, users = fit_als(sequences_of(original).training_interactions(), 4)
    scaling = fit_scaling(items, np.ones(12, bool))
    sources, owners = {"behavioral": scaling.apply(items)}, {"behavioral": scaling.apply(users)}
    vectors = ItemVectors(sources, owners, np.ones(12, bool), {"behavioral": scaling})

    def vectors_with(target: int, mode: str) -> torch.Tensor:
        changed = original.copy()
        changed[3] = target
        config = Config(encoder=EncoderConfig(als=AlsConfig(factors=4)), tasks=TasksConfig(user_vector=mode))
        before = UsersBefore(sequences_of(changed), vectors, Context(config, Store(tmp_path), tmp_path))
        found: torch.Tensor = before(np.array([0, 0]), np.array([3, 4]))["behavioral"]
        return found

    one, two = (vectors_with(int(original[place]), "fold_in") for place in (3, 7))
    assert torch.equal(one[0], two[0])
    # what comes after the target does know it
    assert not torch.equal(one[1], two[1])
    # the user's own factors were fitted on all training items, whatever the position
    full = vectors_with(int(original[3]), "full")
    assert torch.equal(full[0], full[1])
    # as a history: the items before, and among them the target once it has been met
    one, two = (vectors_with(int(original[place]), "history") for place in (3, 7))
    assert torch.equal(one[0], two[0])
    assert not torch.equal(one[1], two[1])
    assert torch.equal(one[1, -4:], torch.from_numpy(sources["behavioral"])[original[:4]])
