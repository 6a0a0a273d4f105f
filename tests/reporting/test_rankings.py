"""Tables 4 to 8 and claims 6, 8, 9 and 10 on recommendation runs whose truth is planted."""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from ilm_lightning import report
from ilm_lightning.evaluation.ranking import ranking_from_ranks
from ilm_lightning.reporting.claims import RANKED, Claim, go_through
from ilm_lightning.reporting.decide import Part, Verdict
from ilm_lightning.reporting.document import build
from ilm_lightning.reporting.ranking_cells import notes_of
from ilm_lightning.reporting.ranking_claims import ranking_parts
from ilm_lightning.reporting.ranking_tables import Mark, Rankings, RankingTable, marks
from impossible_parquet import impossible

USERS = 400
ROWS: dict[str, dict[str, Any]] = {
    "ilm": {"losses": ["itc", "itm", "itg", "iic"]},
    "it": {"losses": ["itc", "itm", "itg"]},
    "it_ui": {"losses": ["itc", "itm", "itg", "uic"]},
    "rand": {"init": "random"},
    "mlp1": {"kind": "mlp", "init": "random", "queries": 1},
    "collm": {"kind": "collm", "init": "random", "queries": 1, "user": "fold_in"},
    "user_llm": {"kind": "perceiver", "init": "random", "user": "history", "soft": False},
    "openp5": {"soft": False, "init": "random", "mode": "lora"},
    "t5": {"soft": False, "init": "random", "mode": "full", "encoder_decoder": True},
}


def recipe_of(row: dict[str, Any], steps: int) -> dict[str, Any]:
    recipe: dict[str, Any] = {
        "adapter": {"kind": row.get("kind", "qformer"), "init": row.get("init", "pretrained"),
                    "num_queries": row.get("queries", 8)},
        "tuning": {"mode": row.get("mode", "frozen"), "steps": steps, "batch_size": 8,
                   "lm_first_steps": 0},
        "tasks": {"history": 20, "soft_tokens": row.get("soft", True), "user_vector": row.get("user", "none")},
        "als": {"factors": 64}, "encoder_decoder": row.get("encoder_decoder", False),
    }  # fmt: skip
    if "losses" in row:
        recipe["pretraining"] = {"losses": row["losses"], "steps": 300, "batch_size": 32}
    return recipe


def write_ranking(
    root: Path,
    name: str,
    level: float,
    seed: int = 0,
    data: str = "Beauty",
    steps: int = 450,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    **protocol: Any,
) -> Path:
    """A run whose targets are in the first ten places with a given probability, for both tasks and prompt sets.

    ``changes`` are made in the sections of the recipe, and make a folder of their own.
    """
    draw = np.random.default_rng([seed, len(name), int(1000 * level)])
    # hard and easy users are the same for every run
    ease = np.random.default_rng(0).normal(0.0, 0.1, USERS)
    other = "".join(f"-{key}_{value}" for part in (changes or {}).values() for key, value in part.items())
    folder = root / f"{name}{other}-{data}-{seed}"
    folder.mkdir(parents=True)
    tables, ranking = [], {}
    for prompts in ("seen", "unseen"):
        ranking[prompts] = {}
        for task in ("sequential", "straightforward"):
            ranks = np.where(draw.random(USERS) < level + ease, draw.integers(1, 11, USERS), 0)
            ranking[prompts][task] = asdict(ranking_from_ranks(ranks))
            users = [f"u{user}" for user in range(USERS)]
            tables.append(pl.DataFrame({"task": task, "prompts": prompts, "user": users, "rank": ranks}))
    markov = asdict(ranking_from_ranks(np.arange(USERS) % 20 + 1)) | {"parameters": 77}
    stated = {
        "name": name, "data": data, "split": "test", "users": f"{USERS} of {USERS}", "candidates": "all 12,101 items",
        "decoding": "trie, 30 beams, seen items not filtered", "history": 20, "indexing": "sequential (file)",
        "language_model": "tiny", "seed": seed,
    } | protocol  # fmt: skip
    recipe = recipe_of(ROWS[name], steps)
    for section, changed in (changes or {}).items():
        recipe[section] = recipe.get(section, {}) | changed
    metrics = {
        "ranking": ranking,
        "baselines": {"Markov": markov},
        "protocol": stated,
        "recipe": recipe,
        "parameters": [{"component": "adapter", "trainable": 1000, "frozen": 5}],
        "counts": {"users": 22363, "items": 12101, "texts": 12101, "phase2_train": 2628260, "phase2_test": 44725},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "config.yaml").write_text(yaml.safe_dump({"name": name, "seed": seed} | metrics["recipe"]))
    pl.concat(tables).write_parquet(folder / "predictions.parquet")
    return folder


def found_in(root: Path) -> Rankings:
    made = build([root], 500).rankings
    assert made is not None
    return made


def table(found: Rankings, number: str, data: str = "Beauty") -> RankingTable:
    return next(t for t in found.tables if (t.number, t.data) == (number, data))


def claim(root: Path, number: int) -> Claim:
    document = build([root], 500)
    return next(c for c in go_through(document.main, document.rankings, 500) if c.number == number)


def test_one_table_holds_all_recommenders_with_their_protocols(tmp_path: Path) -> None:
    for name in ROWS:
        for seed in (0, 1):
            write_ranking(tmp_path, name, 0.3, seed)
    made = table(found_in(tmp_path), "6")
    own = {(line.row.name, line.prompts): line for line in made.lines if not line.row.printed}
    assert {name for name, _ in own} == {
        "ILM-IT-II (frozen)", "ILM-IT (frozen)", "ILM-IT-UI (frozen)", "ILM-rand (frozen)",
        "ILM-MLP, 1 token (frozen)", "CoLLM (frozen, user vector)", "User-LLM (frozen)", "OpenP5 (LoRA)", "Markov",
        "OpenP5 with an encoder-decoder (full)",
    }  # fmt: skip
    line = own["ILM-rand (frozen)", "unseen"]
    values = [json.loads((tmp_path / f"rand-Beauty-{s}" / "metrics.json").read_text()) for s in (0, 1)]
    expected = [v["ranking"]["unseen"]["sequential"]["ndcg"]["10"] for v in values]
    assert line.cells["NDCG@10"][:2] == pytest.approx((np.mean(expected), np.std(expected, ddof=1)))
    assert (line.row.parameters, line.row.budget, line.row.seeds) == (1000, (450, 8), (0, 1))
    markov = own["Markov", "—"]
    assert markov.cells["HR@10"][0] == 0.5
    assert markov.row.protocol.decoding == "whole catalogue scored, seen items not filtered"
    assert markov.letter != line.letter
    # the paper's numbers and OpenP5's own, under their own protocols
    printed = {(line.row.name, line.prompts): line.cells for line in made.lines if line.row.printed}
    assert printed["ILM-Qformer-pretrained", "seen"]["HR@10"][0] == 0.0282
    assert printed["SASRec (OpenP5's table)", "—"]["NDCG@10"][0] == 0.0318
    (beside,) = [entry for entry in made.mismatches if "ILM-Qformer-pretrained" in entry]
    assert beside.startswith("ILM-IT-II (frozen)")
    assert "language model 'tiny', not 'PaLM 2" in beside


def test_users_without_a_tie_are_rows_of_their_own_and_decide_no_claim(tmp_path: Path) -> None:
    for seed in range(3):
        for name, level in (("ilm", 0.6), ("rand", 0.3)):
            folder = write_ranking(tmp_path, name, level, seed)
            metrics = json.loads((folder / "metrics.json").read_text())
            # among the others the truth is the other way round
            ranks = np.array([1, 1, 1, 0]) if name == "rand" else np.array([1, 0, 0, 0])
            rows = [row for tasks in metrics["ranking"].values() for row in tasks.values()]
            for row in (*rows, *metrics["baselines"].values()):
                row["untied"] = asdict(ranking_from_ranks(ranks))
            (folder / "metrics.json").write_text(json.dumps(metrics))
    found = table(found_in(tmp_path), "6")
    cells = {
        (line.row.name.partition(" (")[0], line.row.protocol.users): line.cells["HR@10"][0]
        for line in found.lines
        if not line.row.printed and line.prompts in ("seen", "—")
    }
    part = f"4 without a tie at the end, of {USERS} of {USERS}"
    assert cells["ILM-rand", part] == 0.75
    assert cells["ILM-IT-II", part] == 0.25
    assert ("Markov", part) in cells
    assert cells["ILM-IT-II", f"{USERS} of {USERS}"] > cells["ILM-rand", f"{USERS} of {USERS}"]
    assert claim(tmp_path, 8).verdicts[RANKED] is Verdict.CONFIRMED
    whole = found_in(tmp_path)
    alone = replace(whole, rows=tuple(row for row in whole.rows if row.without_ties))
    assert alone.rows
    assert ranking_parts(8, alone) == ()


def test_baselines_of_other_settings_are_rows_apart(tmp_path: Path) -> None:
    for factors in (32, 64):
        folder = write_ranking(tmp_path, "ilm", 0.5, data=f"Beauty{factors}")
        metrics = json.loads((folder / "metrics.json").read_text())
        row = asdict(ranking_from_ranks(np.full(USERS, factors // 8)))
        metrics["protocol"]["data"] = "Beauty"
        metrics |= {"ranking": {}, "baselines": {"ALS": row, "item-kNN": row}}
        metrics["baseline_settings"] = {"ALS": {"factors": factors, "alpha": 5.0}, "item-kNN": {"neighbours": 20}}
        (folder / "metrics.json").write_text(json.dumps(metrics))
    lines = [line for line in table(found_in(tmp_path), "6").lines if not line.row.printed]
    found = {line.row.label: line.cells["HR@5"][0] for line in lines}
    assert found["ALS (factors=32)"] == 1.0
    assert found["ALS (factors=64)"] == 0.0
    # equal settings are one row
    assert "item-kNN" in found


def test_table_4_is_the_mean_over_tasks(tmp_path: Path) -> None:
    for name in ("it", "ilm", "rand"):
        write_ranking(tmp_path, name, 0.3)
    made = table(found_in(tmp_path), "4")
    own = {line.row.name: line for line in made.lines if not line.row.printed and line.prompts == "seen"}
    assert set(own) == {"ILM-IT (frozen)", "ILM-IT-II (frozen)"}
    metrics = json.loads((tmp_path / "it-Beauty-0" / "metrics.json").read_text())
    both = [metrics["ranking"]["seen"][task]["hr"]["5"] for task in ("sequential", "straightforward")]
    assert own["ILM-IT (frozen)"].cells["HR@5"][0] == pytest.approx(np.mean(both))
    assert {"ILM-ITC", "ILM-ITC-IIC", "ILM-ITC-UIC"} <= {line.row.name for line in made.lines if line.row.printed}


def test_a_second_run_of_a_seed_is_told_and_does_not_count(tmp_path: Path) -> None:
    write_ranking(tmp_path / "a", "ilm", 0.3)
    write_ranking(tmp_path / "b", "ilm", 0.9)
    for path in (tmp_path / "b").rglob("metrics.json"):
        metrics = json.loads(path.read_text())
        metrics["ranking"]["seen"]["sequential"]["invalid"] = 0.6
        path.write_text(json.dumps(metrics))
    found = build([tmp_path], 500)
    assert found.rankings is not None
    rows = [row for row in found.rankings.rows if row.name.startswith("ILM")]
    assert [row.seeds for row in rows] == [(0,)]
    assert rows[0].runs[0].path.parent == tmp_path / "a"
    assert rows[0].invalid < 0.6
    (problem,) = [problem for problem in found.problems if "same settings and seed" in problem.what]
    assert "left out" in problem.what
    assert problem in found.rankings.problems


def test_baselines_of_two_runs_are_nothing_to_tell(tmp_path: Path) -> None:
    write_ranking(tmp_path / "a", "ilm", 0.3)
    write_ranking(tmp_path / "b", "rand", 0.3)
    found = found_in(tmp_path)
    assert [row.left_out for row in found.rows if row.name == "Markov"] == [()]
    assert not found.problems


def test_another_number_of_validation_examples_is_a_row_apart(tmp_path: Path) -> None:
    for examples in (50, 100):
        write_ranking(tmp_path / str(examples), "ilm", 0.3, changes={"tuning": {"val_examples": examples}})
    labels = [row.label for row in found_in(tmp_path).rows if row.name.startswith("ILM")]
    assert len(labels) == 2
    assert all("val_examples" in label for label in labels)


def test_counts_stand_beside_table_5(tmp_path: Path) -> None:
    write_ranking(tmp_path, "rand", 0.3)
    counts = {line.name: line for line in found_in(tmp_path).counts}
    assert (counts["train_examples"].paper, counts["train_examples"].agrees) == (2628260, "equal")
    assert counts["test_examples"].agrees == "differs"
    assert counts["item_text_pairs"].agrees == f"the paper counts a draw of 90 %: {10879 / 12101:.4f} of ours"


def test_phase_1_losses_stand_beside_table_8(tmp_path: Path) -> None:
    for name, last in (("it", 4.0), ("ilm", 3.0)):
        for seed in (0, 1, 2):
            folder = write_ranking(tmp_path, name, 0.3, seed)
            lines = ["step,seconds,name,value", "100,1,train/itg_nll,2.5", "100,1,val/itg_nll,5.0"]
            lines.append(f"200,2,val/itg_nll,{last + 0.01 * seed}")
            (folder / "history-pretrain.csv").write_text("\n".join(lines) + "\n")
    losses = {line.name: line for line in found_in(tmp_path).losses}
    assert losses["ILM-IT-II"].held_out == pytest.approx(3.01)
    assert losses["ILM-IT-II"].train == 2.5
    assert losses["ILM-IT-II"].paper == (2.0232, 3.2567)
    assert losses["ILM-IT"].sd == pytest.approx(0.01)
    told = claim(tmp_path, 6).parts["phase-1 evaluation loss"]
    ends_below = next(part for part in told if part.text == "Beauty: ILM-IT-II ends below IT (Table 8)")
    assert ends_below.verdict is Verdict.CONFIRMED
    shuffled = next(part for part in told if "shuffled item-item" in part.text)
    assert "these runs" in shuffled.why
    assert shuffled.missing == (
        "ILM-IT-II with shuffled item-item pairs: python -m ilm_lightning.train -m experiment=openp5_ilm "
        "data=openp5_beauty pretraining.shuffled_pairs=true seed=0,1,2",
    )


def phase_1_run(root: Path, name: str, seed: int, losses: Sequence[float], steps: int = 300, **changed: Any) -> None:
    """A run with a history of phase 1: its held-out text loss at equal distances up to the last step."""
    folder = write_ranking(root, name, 0.3, seed, changes={"pretraining": {"steps": steps, **changed}})
    every = steps // len(losses)
    rows = [f"{every * (i + 1)},1,val/itg_nll,{loss}" for i, loss in enumerate(losses)]
    (folder / "history-pretrain.csv").write_text("\n".join(["step,seconds,name,value", *rows]) + "\n")


def test_shuffled_pairs_are_a_row_of_table_8_and_of_no_other(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        phase_1_run(tmp_path, "it", seed, (4.5, 4.0 + 0.01 * seed))
        phase_1_run(tmp_path, "ilm", seed, (4.0, 3.0 + 0.01 * seed))
        phase_1_run(tmp_path, "ilm", seed, (4.0, 3.5 + 0.01 * seed), shuffled_pairs=True)
    found = found_in(tmp_path)
    losses = {line.name: line for line in found.losses}
    assert losses["ILM-IT-II"].held_out == pytest.approx(3.01)
    assert losses["ILM-IT-II (shuffled pairs)"].held_out == pytest.approx(3.51)
    assert losses["ILM-IT-II (shuffled pairs)"].paper is None
    assert {line.row.label for line in table(found, "6").lines if line.row.name.startswith("ILM-IT")} == {
        "ILM-IT (frozen)", "ILM-IT-II (frozen)"
    }  # fmt: skip
    told = {part.text: part for part in claim(tmp_path, 6).parts["phase-1 evaluation loss"]}
    shuffled = told["Beauty: ILM-IT-II with true pairs below shuffled item-item pairs"]
    assert shuffled.verdict is Verdict.CONFIRMED
    assert "-0.5000 nats over seeds 0, 1, 2" in shuffled.readings[0].numbers


def test_equal_text_steps_are_those_of_a_run_of_that_length_where_there_is_one(tmp_path: Path) -> None:
    text = "Beauty: ILM-IT-II ends below IT at equal text steps"

    def at_equal_text() -> Part:
        parts = claim(tmp_path, 6).parts["phase-1 evaluation loss"]
        return next(part for part in parts if part.text.startswith(text))

    for seed in (0, 1, 2):
        phase_1_run(tmp_path, "it", seed, (6.0, 5.0, 4.0))
        phase_1_run(tmp_path, "ilm", seed, (5.0, 4.5, 4.2))
    # 210 of 300 steps read texts; at 200 and 300 steps IT has 5.0 and 4.0
    part = at_equal_text()
    assert part.readings[0].numbers.startswith("-0.7000 nats")
    # which favours the pairs
    assert part.text.endswith("read on its way")
    assert part.verdict is Verdict.UNDECIDED
    assert part.missing[0].endswith("pretraining.steps=210 seed=0,1,2")
    # fewer seeds than there are of the longer run
    phase_1_run(tmp_path, "it", 0, (6.0, 4.4), steps=210)
    phase_1_run(tmp_path, "it", 7, (6.0, 4.4), steps=210)
    assert at_equal_text().readings[0].numbers.startswith("-0.7000 nats")
    for seed in (1, 2):
        phase_1_run(tmp_path, "it", seed, (6.0, 4.4), steps=210)
    part = at_equal_text()
    assert part.readings[0].numbers.startswith("-0.2000 nats")
    assert (part.text, part.verdict) == (text, Verdict.CONFIRMED)


def test_what_favours_the_pairs_can_refute_them(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        phase_1_run(tmp_path, "it", seed, (4.0, 3.9, 3.8))
        phase_1_run(tmp_path, "ilm", seed, (5.0, 4.5, 4.2))
    parts = claim(tmp_path, 6).parts["phase-1 evaluation loss"]
    part = next(part for part in parts if part.text.endswith("read on its way"))
    assert part.verdict is Verdict.REFUTED


def test_weights_of_the_losses_are_rows_apart(tmp_path: Path) -> None:
    phase_1_run(tmp_path, "ilm", 0, (4.0, 3.0), loss_weights={"iic": 1.0})
    phase_1_run(tmp_path, "ilm", 1, (4.0, 2.0), loss_weights={"iic": 0.1})
    assert sorted(line.held_out for line in found_in(tmp_path).losses) == [2.0, 3.0]


def test_rows_that_were_trained_otherwise_decide_nothing(tmp_path: Path) -> None:
    for seed in range(3):
        write_ranking(tmp_path, "ilm", 0.6, seed, changes={"tuning": {"mode": "full"}})
        write_ranking(tmp_path, "rand", 0.3, seed)
    assert "way of tuning" in claim(tmp_path, 8).parts[RANKED][0].why
    for seed in range(3):
        write_ranking(tmp_path, "ilm", 0.6, seed, changes={"tuning": {"history": "blocks"}})
    assert "windows of training" in claim(tmp_path, 8).parts[RANKED][0].why
    assert "ILM-IT-II (frozen, blocks)" in {row.label for row in found_in(tmp_path).rows}
    # shared histories are the same examples
    for seed in range(3):
        write_ranking(tmp_path, "ilm", 0.6, seed, changes={"tuning": {"history": "shared"}})
    assert claim(tmp_path, 8).verdicts[RANKED] is Verdict.CONFIRMED


@pytest.mark.parametrize(
    ("changes", "stated"),
    [
        ({}, {"encoder": "semantic"}),
        ({"als": {"factors": 8}}, {}),
        ({"tasks": {"user_vector": "fold_in"}}, {}),
        ({"tuning": {"lm_first_steps": 50}}, {}),
    ],
)
def test_rows_with_other_inputs_decide_nothing(
    tmp_path: Path, changes: Mapping[str, Mapping[str, Any]], stated: Mapping[str, str]
) -> None:
    for seed in range(3):
        encoder = stated.get("encoder", "behavioral")
        write_ranking(tmp_path, "ilm", 0.6, seed, changes=changes, encoder=encoder)
        write_ranking(tmp_path, "rand", 0.3, seed, encoder="behavioral")
    part = claim(tmp_path, 8).parts[RANKED][0]
    assert part.verdict is Verdict.UNDECIDED
    assert "share protocol, windows of training, vectors, way of tuning" in part.why


def test_blocks_of_another_length_decide_nothing(tmp_path: Path) -> None:
    for seed in range(3):
        for name, level, length in (("ilm", 0.6, 2), ("rand", 0.3, 20)):
            write_ranking(
                tmp_path, name, level, seed, changes={"tuning": {"history": "blocks", "history_block": length}}
            )
    assert "windows of training" in claim(tmp_path, 8).parts[RANKED][0].why


def test_numbers_of_queries_are_rows_apart(tmp_path: Path) -> None:
    write_ranking(tmp_path, "ilm", 0.3, 0)
    write_ranking(tmp_path, "ilm", 0.3, 1, changes={"adapter": {"num_queries": 1}})
    seeds = {row.label: row.seeds for row in found_in(tmp_path).rows if row.name != "Markov"}
    assert seeds == {
        "ILM-IT-II (frozen) (adapter.num_queries=1)": (1,), "ILM-IT-II (frozen) (adapter.num_queries=8)": (0,)
    }  # fmt: skip


def test_the_command_of_a_missing_row_is_trained_like_its_counterpart(tmp_path: Path) -> None:
    folder = write_ranking(tmp_path, "ilm", 0.3)
    metrics = json.loads((folder / "metrics.json").read_text())
    words = "data=openp5_beauty lm.name=smollm2-360m-instruct tuning.history=blocks tuning.steps=450"
    metrics["run"] = {"command": f"python -m ilm_lightning.train experiment=openp5_ilm {words} seed=0"}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (below,) = claim(tmp_path, 8).parts[RANKED][0].missing
    assert (
        below == f"ILM-rand: python -m ilm_lightning.train data=openp5_beauty experiment=openp5_ilm_rand {words[19:]}"
    )
    (above,) = claim(tmp_path, 10).parts[RANKED][1].missing
    assert above.endswith("experiment=openp5_encoder_decoder lm.name=FOLDER_OF_A_T5 tuning.steps=450")


def test_controls_alone_say_what_is_missing(tmp_path: Path) -> None:
    phase_1_run(tmp_path, "ilm", 0, (4.0, 3.0), shuffled_pairs=True)
    part = claim(tmp_path, 8).parts[RANKED][0]
    assert part.why == "these runs are missing"
    assert len(part.missing) == 2


def test_validation_items_and_the_item_head_decide_nothing(tmp_path: Path) -> None:
    for seed in range(4):
        for name, level in (("ilm", 0.6), ("rand", 0.3)):
            write_ranking(tmp_path / "validation", name, level, seed, split="validation")
            write_ranking(tmp_path / "head", name, level, seed, changes={"tasks": {"head": "item"}})
    assert claim(tmp_path, 8).parts[RANKED][0].why == "these runs are missing"
    for seed in range(3):
        for name, level in (("ilm", 0.3), ("rand", 0.6)):
            write_ranking(tmp_path / "test", name, level, seed)
    part = claim(tmp_path, 8).parts[RANKED][0]
    assert part.verdict is Verdict.REFUTED
    assert "trie, 30 beams" in part.text
    assert part.readings[0].numbers.endswith("seeds 0, 1, 2")


def test_vectors_of_another_kind_or_size_are_rows_apart(tmp_path: Path) -> None:
    write_ranking(tmp_path, "ilm", 0.3, 0, encoder="behavioral")
    write_ranking(tmp_path, "ilm", 0.3, 1, encoder="semantic")
    write_ranking(tmp_path, "ilm", 0.3, 2, encoder="behavioral", changes={"als": {"factors": 8}})
    # prompts of text alone have no vectors
    write_ranking(tmp_path, "openp5", 0.3, 0, encoder="behavioral")
    write_ranking(tmp_path, "openp5", 0.3, 1, encoder="semantic", changes={"als": {"factors": 8}})
    seeds = {row.label: row.seeds for row in found_in(tmp_path).rows if row.name != "Markov"}
    assert seeds == {
        "ILM-IT-II (frozen) (als.factors=64, encoder=behavioral)": (0,),
        "ILM-IT-II (frozen) (als.factors=64, encoder=semantic)": (1,),
        "ILM-IT-II (frozen) (als.factors=8, encoder=behavioral)": (2,),
        "OpenP5 (LoRA)": (0, 1),
    }


@pytest.mark.parametrize(
    ("levels", "seeds", "verdict"),
    [
        ((0.6, 0.3), (0, 1, 2), Verdict.CONFIRMED),
        ((0.3, 0.6), (0, 1, 2), Verdict.REFUTED),
        ((0.4, 0.4), (0, 1, 2), Verdict.UNDECIDED),
        ((0.6, 0.3), (0,), Verdict.UNDECIDED),
    ],
)
def test_what_was_planted_is_found(
    tmp_path: Path, levels: tuple[float, float], seeds: Sequence[int], verdict: Verdict
) -> None:
    for seed in seeds:
        write_ranking(tmp_path, "ilm", levels[0], seed)
        write_ranking(tmp_path, "rand", levels[1], seed)
    found = claim(tmp_path, 8)
    assert found.verdicts[RANKED] is verdict
    part = found.parts[RANKED][0]
    assert part.text.startswith("Beauty, sequential: ILM-IT-II above ILM-rand")
    assert [reading.scorer for reading in part.readings] == ["HR@10", "NDCG@10"]
    assert f"{USERS} users" in part.readings[0].numbers


def test_an_undecided_claim_says_how_many_users_and_seeds_would_tell(tmp_path: Path) -> None:
    for seed in range(3):
        write_ranking(tmp_path, "ilm", 0.42, seed)
        write_ranking(tmp_path, "rand", 0.4, seed)
    part = claim(tmp_path, 8).parts[RANKED][0]
    assert part.verdict is Verdict.UNDECIDED
    assert re.search(
        r"neither above nor below by both measures; HR@10: to tell the measured [+-]0\.\d{4} from 0: (about [\d,]+|no "
        rf"number of) users with 3 seeds, or (about [\d,]+|no number of) seeds with {USERS} users; NDCG@10: to tell",
        part.why,
    ), part.why


def test_one_seed_says_how_many_are_needed(tmp_path: Path) -> None:
    write_ranking(tmp_path, "ilm", 0.6)
    write_ranking(tmp_path, "rand", 0.3)
    write_ranking(tmp_path, "rand", 0.3, seed=1)
    part = claim(tmp_path, 8).parts[RANKED][0]
    # no number of users would decide
    assert part.why == "1 seed of at least 3: the spread over trainings is not known"
    # the seed that both have
    assert part.readings[0].numbers.endswith("seeds 0")


@pytest.mark.parametrize("harm", ["cut", "impossible", "missing", "other columns", "no rank"])
def test_damaged_predictions_are_named_and_the_other_seeds_decide(tmp_path: Path, harm: str) -> None:
    for seed in range(4):
        write_ranking(tmp_path, "ilm", 0.6, seed)
        write_ranking(tmp_path, "rand", 0.3, seed)
    file = tmp_path / "ilm-Beauty-3" / "predictions.parquet"
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:-50])
    elif harm == "impossible":
        # in a reader without guard it ends the process
        file.write_bytes(impossible(file.read_bytes()))
    elif harm == "missing":
        file.unlink()
    else:
        frame = pl.read_parquet(file)
        rank = pl.lit(None, pl.Int64).alias("rank") if harm == "no rank" else pl.lit("first").alias("rank")
        frame.with_columns(rank).write_parquet(file)
    part = claim(tmp_path, 8).parts[RANKED][0]
    assert part.verdict is Verdict.CONFIRMED
    assert part.readings[0].numbers.endswith("seeds 0, 1, 2")
    assert ("ilm-Beauty-3: predictions.parquet is damaged (" in part.why) == (harm != "missing")


def test_claim_10_puts_ilm_between_both_kinds_of_openp5(tmp_path: Path) -> None:
    for seed in range(3):
        for name, level in (("openp5", 0.2), ("ilm", 0.4), ("t5", 0.7)):
            write_ranking(tmp_path, name, level, seed, language_model=name)
    found = claim(tmp_path, 10)
    assert found.verdicts[RANKED] is Verdict.CONFIRMED
    assert [part.text.split(": ", 1)[1].split(" (")[0] for part in found.parts[RANKED]] == [
        "ILM-IT-II above OpenP5", "OpenP5 with an encoder-decoder above ILM-IT-II",
    ]  # fmt: skip
    mismatches = table(found_in(tmp_path), "6").mismatches
    assert any(
        entry.startswith("OpenP5 with an encoder-decoder (full)") and "OpenP5-T5" in entry for entry in mismatches
    )


def test_rows_that_cannot_be_compared_are_not(tmp_path: Path) -> None:
    for seed in range(3):
        write_ranking(tmp_path, "ilm", 0.6, seed)
        write_ranking(tmp_path, "rand", 0.3, seed, decoding="trie, 10 beams, seen items filtered")
        write_ranking(tmp_path, "mlp1", 0.3, seed, steps=900)
    assert "share protocol" in claim(tmp_path, 8).parts[RANKED][0].why
    assert "budget and a seed" in claim(tmp_path, 9).parts[RANKED][0].why
    part = claim(tmp_path, 10).parts[RANKED][0]
    assert part.why == "these runs are missing"
    assert "experiment=openp5_text" in part.missing[0]
    assert "data=openp5_beauty" in part.missing[0]


def places(node: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of nested mappings, to a depth of three."""
    for key, value in node.items() if isinstance(node, dict) and len(at) < 3 else ():
        yield (*at, key)
        yield from places(value, (*at, key))


def test_whatever_an_older_version_lacks_the_other_runs_are_reported(tmp_path: Path) -> None:
    write_ranking(tmp_path, "rand", 0.3)
    file = write_ranking(tmp_path, "ilm", 0.4) / "metrics.json"
    whole = file.read_text()
    told = {}
    for place in places(json.loads(whole)):
        *path, last = place
        metrics = json.loads(whole)
        node = metrics
        for key in path:
            node = node[key]
        del node[last]
        file.write_text(json.dumps(metrics))
        document = build([tmp_path], 200)
        found = document.rankings
        assert found is not None
        assert "ILM-rand (frozen)" in {line.row.name for line in table(found, "6").lines}
        go_through(document.main, found, 200)
        told[".".join(place)] = [problem.what for problem in document.problems]
    assert told["recipe.adapter"] == [
        "a part of it is damaged or of another version and left out: recipe.adapter is missing; the training command "
        "writes it anew"
    ]
    assert told["baselines.Markov.hr"] == [
        "metrics.json is damaged or of another version: baselines.Markov.hr is missing; the training command writes it "
        "anew"
    ]
    assert told["ranking.seen.sequential"] == []
    assert len(told) > 50


def test_settings_apart_are_rows_apart(tmp_path: Path) -> None:
    write_ranking(tmp_path, "rand", 0.3, 0)
    write_ranking(tmp_path, "rand", 0.3, 1, steps=900)
    labels = {row.label for row in found_in(tmp_path).rows if row.name.startswith("ILM-rand")}
    assert labels == {"ILM-rand (frozen) (steps=(450, 8))", "ILM-rand (frozen) (steps=(900, 8))"}


def test_rows_that_counting_pairs_beats_are_named(tmp_path: Path) -> None:
    # Markov's target is in the first ten for half of the users
    for name, level in (("ilm", 0.8), ("rand", 0.2)):
        write_ranking(tmp_path, name, level)
    found = table(found_in(tmp_path), "6")
    letter = next(line.letter for line in found.lines if line.row.name.startswith("ILM-rand"))
    named = {f"ILM-rand (frozen), {prompts}, {letter}" for prompts in ("seen", "unseen")}
    assert set(found.below_markov) == named
    assert notes_of(found)[0] == f"Not above Markov's HR@10 on the same users: {'; '.join(found.below_markov)}."


def test_best_and_next_best_are_of_one_protocol_and_one_set_of_prompts(tmp_path: Path) -> None:
    for name, level in (("ilm", 0.6), ("mlp1", 0.3), ("it", 0.29)):
        write_ranking(tmp_path, name, level)
    write_ranking(tmp_path, "rand", 0.9, decoding="trie, 10 beams, seen items filtered")
    made = table(found_in(tmp_path), "6")
    marked = list(zip(made.lines, marks(made), strict=True))
    found = {(line.row.name, line.prompts): mark.get("HR@10") for line, mark in marked}
    for prompts in ("seen", "unseen"):
        assert found["ILM-IT-II (frozen)", prompts] == Mark(1, noise=False)
        ranks = {name: found[name, prompts] for name in ("ILM-MLP, 1 token (frozen)", "ILM-IT (frozen)")}
        assert sorted(mark.rank if mark else 0 for mark in ranks.values()) == [0, 2]
        # alone under its protocol, and nobody's rival
        assert found["ILM-rand (frozen)", prompts] is None
    assert all(not mark for line, mark in marked if line.row.printed)


def test_a_lead_within_two_standard_errors_may_be_noise(tmp_path: Path) -> None:
    for name in ("ilm", "it"):
        folder = write_ranking(tmp_path, name, 0.5)
        metrics = json.loads((folder / "metrics.json").read_text())
        row = metrics["ranking"]["seen"]["sequential"]
        # the difference of 0.06 is 3 standard errors of HR@5's, and 1.5 of HR@10's
        row["hr"] = {"5": 0.50 + 0.06 * (name == "ilm"), "10": 0.70 + 0.06 * (name == "ilm")}
        row["hr_error"] = {"5": 0.02 / 2**0.5, "10": 0.04 / 2**0.5}
        (folder / "metrics.json").write_text(json.dumps(metrics))
    made = table(found_in(tmp_path), "6")
    found = {(line.row.name, line.prompts): mark for line, mark in zip(made.lines, marks(made), strict=True)}
    best = found["ILM-IT-II (frozen)", "seen"]
    assert (best["HR@5"], best["HR@10"]) == (Mark(1, noise=False), Mark(1, noise=True))


def test_the_command_writes_tables_and_claims(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    committed = tmp_path / "committed"
    committed.mkdir()
    folder = write_ranking(tmp_path / "runs", "ilm", 0.4)
    # a metrics file without its run, and one of baselines alone
    metrics = json.loads((folder / "metrics.json").read_text())
    (committed / "baselines.json").write_text(json.dumps(metrics | {"ranking": {}}))
    write_ranking(tmp_path / "runs", "rand", 0.4)
    out = tmp_path / "out"
    arguments = [str(tmp_path / "runs"), str(committed), "--out", str(out), "--claims", "--resamples", "200"]
    with caplog.at_level("INFO"):
        assert report.main(arguments) == 0
    text = (out / "report.md").read_text()
    assert "### Table 6, Beauty: sequential recommendation" in text
    assert "| *ILM-Qformer-pretrained* | seen | .0227 | .0174 | .0282 | .0192 |" in text
    assert "mixes two indexings" in text
    assert len(re.findall(r"\*\*\.\d{4}\*\*", text)) >= 8
    written = (out / "report.tex").read_text()
    assert r"\textit{ILM-Qformer-pretrained} & seen & .0227 & .0174 & .0282 & .0192 &" in written
    assert "Table 4, Beauty: phase-1 losses" in written
    assert "Table 5: counts" in written
    assert written.count(r"\begin{tabular}") == written.count(r"\end{tabular}") == 4
    assert "claim 8: undecided" in caplog.text
    assert "ILM-IT-II" in (out / "claims.md").read_text()
    with (out / "rankings.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    mine = next(line for line in lines if line["recommender"] == "Markov" and line["measure"] == "HR@5")
    assert (mine["mean"], mine["parameters"], mine["split"]) == ("0.25", "77", "test")


def test_vectors_of_a_fixed_seed_are_not_pooled_with_those_of_the_runs_own(tmp_path: Path) -> None:
    for seed, of_als in enumerate((0, 0, None)):
        # without steps of the language model alone their seed does nothing
        write_ranking(
            tmp_path, "ilm", 0.3, seed, changes={"als": {"seed": of_als}, "tuning": {"lm_first_seed": of_als}}
        )
    rows = {row.apart: row.seeds for row in found_in(tmp_path).rows if row.is_called("ILM-IT-II")}
    assert rows == {"als.seed=0": (0, 1), "als.seed=None": (2,)}
