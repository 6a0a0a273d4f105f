"""The item head through the commands, on the invented shop of the other recommendation runs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from test_recommendation import check_command, finished, run

from ilm_lightning.engine.artifacts import Store
from ilm_lightning.engine.composition import composed
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.data import prepare
from ilm_lightning.engine.stages.embed import embed
from ilm_lightning.engine.stages.item_head import rank_batch
from ilm_lightning.engine.stages.openp5 import load_sequences
from ilm_lightning.engine.stages.recommend import Bench
from ilm_lightning.engine.stages.tune import Inputs
from ilm_lightning.lm.item_head import RankBatch
from ilm_lightning.tasks.openp5 import Example


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(
            ["experiment=ilm_qformer", "encoder=behavioral", "tasks.user_vector=fold_in", "tasks.head_sample=6"],
            marks=pytest.mark.slow,
        ),
        ["experiment=ilm_mlp", "tuning=lora", "evaluation.filter_seen=true", "evaluation.users=7"],
    ],
)
def test_a_run_ranks_the_whole_catalogue(
    overrides: list[str],
    extra: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["tasks.head=item", *extra, *overrides]
    assert run(arguments, monkeypatch) == 0, capsys.readouterr().err
    told = capsys.readouterr().err
    assert ("of 6 items drawn each step" in told) == ("tasks.head_sample=6" in extra)
    assert ("of all 15 items, exact" in told) == ("tasks.head_sample=6" not in extra)
    folder = finished(overrides)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["protocol"]["decoding"].startswith("item head (ours): all items ranked")
    table = pl.read_parquet(folder / "predictions.parquet")
    for name in ("seen", "unseen"):
        for task in ("sequential", "straightforward"):
            row = metrics["ranking"][name][task]
            part = table.filter((pl.col("prompts") == name) & (pl.col("task") == task))
            ranks = part["rank"].to_numpy()
            # every target has a place, lists or not
            assert ranks.min() >= 1
            assert ranks.max() <= 15
            for cut in (5, 10):
                hit = ranks <= cut
                assert row["hr"][str(cut)] == pytest.approx(hit.mean())
                assert row["ndcg"][str(cut)] == pytest.approx((hit / np.log2(ranks + 1)).mean())
            assert row["invalid"] == row["duplicates"] == 0
            for target, rank, items in part.select("target", "rank", "items").iter_rows():
                assert len(items) == len(set(items))
                assert (items.index(target) + 1 if target in items else 0) == (rank if rank <= len(items) else 0)
    check_command(folder, capsys)
    # a repeated command finds everything
    assert run(arguments, monkeypatch) == 0
    assert not any("done in" in line for line in capsys.readouterr().err.splitlines())


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["tasks.head=both"], "tasks.head=both"),
        (["tasks.head_sample=-1"], "tasks.head_sample=-1"),
        (["evaluation.decoding=free"], "tasks.head=item writes no text"),
        (["adapter=constant"], "gives all the same"),
        (["tasks=elm", "data=movielens_small", "data.path=null", "data.items=null"], "only recommendation ranks items"),
    ],
)
def test_bad_settings_are_told(
    overrides: list[str],
    extra: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["experiment=ilm_mlp", "tasks.head=item", *overrides, *extra], monkeypatch) == 1
    assert message in capsys.readouterr().err


def test_no_target_stands_in_its_prompt(overrides: list[str], tmp_path: Path) -> None:
    config = composed("experiment=ilm_mlp", "tasks.head=item", "tasks.user_vector=fold_in", *overrides)
    context = Context(config, Store(tmp_path / "artifacts"), tmp_path)
    prepared = prepare(context)
    inputs = Inputs(prepared, embed(context, prepared), prepared)
    sequences, indexing = load_sequences(prepared)

    def batch_with(target: int) -> RankBatch:
        values = sequences.values.copy()
        values[3] = target
        changed = replace(sequences, values=values)
        bench = Bench(context, inputs, 2, (changed, indexing))
        return rank_batch(bench, [Example(0, 3, prompt) for prompt in bench.prompts.training])

    own = int(sequences.values[3])
    other = next(item for item in range(sequences.n_items) if item not in sequences.items(0))
    one, two = batch_with(own), batch_with(other)
    assert one.targets.tolist() == [own, own]
    assert two.targets.tolist() == [other, other]
    assert torch.equal(one.prompts.input_ids, two.prompts.input_ids)
    assert torch.equal(one.prompts.slot_index, two.prompts.slot_index)
    for name, rows in one.prompts.sources.items():
        assert torch.equal(rows, two.prompts.sources[name])
