"""Text of held-out movies, planted on the way into each stage that trains or picks, is refused there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ilm_lightning.data.errors import LeakError
from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.engine.composition import composed
from ilm_lightning.engine.pipeline import open_context
from ilm_lightning.engine.stages import evaluate, tune
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.data import examples, prepare, read_examples, read_tables, training_examples
from ilm_lightning.engine.stages.embed import embed
from ilm_lightning.engine.stages.pretrain import pretrain
from ilm_lightning.engine.stages.tune import Inputs
from ilm_lightning.engine.validate import validate
from ilm_lightning.pretraining import pairs


@pytest.fixture(scope="module")
def opened(shared_overrides: list[str]) -> Callable[..., tuple[Context, Inputs]]:
    def build(*more: str) -> tuple[Context, Inputs]:
        config = composed("experiment=ilm_qformer_random", *shared_overrides, *more)
        validate(config)
        context = open_context(config)
        prepared = prepare(context)
        embedded = embed(context, prepared)
        return context, Inputs(prepared, embedded, examples(context, prepared, embedded))

    return build


def planted(about: int) -> Callable[[Any], pl.DataFrame]:
    """Examples with one held-out example relabelled as training: its only movie, or the second movie of its pair."""

    def read(made: Any) -> pl.DataFrame:
        frame = read_examples(made)
        held_out = frame.filter((pl.col("split") == "test") & (pl.col("items").list.len() == about)).head(1)
        train = frame.filter((pl.col("split") == "train") & (pl.col("items").list.len() == 1)).head(1)
        if about == 2:
            pair = [train["items"].item()[0], held_out["items"].item()[1]]
            held_out = held_out.with_columns(items=pl.Series([pair]))
        return pl.concat([frame, held_out.with_columns(split=pl.lit("train"))])

    return read


@pytest.mark.parametrize("rule", ["strict", "cold"])
@pytest.mark.parametrize("about", [1, 2])
def test_phase_2_refuses_a_held_out_movie_alone_or_in_a_pair(
    about: int, rule: str, opened: Callable[..., tuple[Context, Inputs]], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, inputs = opened(f"data.split={rule}")
    monkeypatch.setattr(tune, "read_examples", planted(about))
    with pytest.raises(LeakError, match="a test item, would enter training"):
        tune.tune(context, inputs)


def test_constant_answers_and_copied_targets_refuse_it(
    opened: Callable[..., tuple[Context, Inputs]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    context, inputs = opened()
    monkeypatch.setattr(evaluate, "read_examples", planted(1))
    with pytest.raises(LeakError, match="a test item, would enter training"):
        evaluate._build(context, inputs, {}, tmp_path)


@pytest.mark.parametrize("losses", ["[itc]", "[vg]"])
def test_phase_1_refuses_a_held_out_text(
    losses: str, opened: Callable[..., tuple[Context, Inputs]], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, inputs = opened(f"pretraining.losses={losses}")
    original = pairs.text_pairs

    def leaky(texts: list[str], rows: np.ndarray, *rest: Any) -> Any:
        _, _, split = read_tables(inputs.prepared)
        return original(texts, np.append(rows, np.flatnonzero(split == "validation")[0]), *rest)

    monkeypatch.setattr(pairs, "text_pairs", leaky)
    with pytest.raises(LeakError, match="a validation item, would enter training"):
        pretrain(context, inputs.prepared, inputs.embedded)


def test_under_the_papers_split_each_task_keeps_its_own_movies_apart(
    opened: Callable[..., tuple[Context, Inputs]],
) -> None:
    _, inputs = opened("data.split=paper")
    _, catalog, split = read_tables(inputs.prepared)
    assert set(split) == {"train"}
    frame = read_examples(inputs.examples)
    train = training_examples(frame, catalog, split)
    held_out = frame.filter(pl.col("split") != "train").select("task", first=pl.col("items").list.first())
    seen = train.select("task", first=pl.col("items").list.first())
    assert held_out.join(seen, on=["task", "first"], how="semi").is_empty()
    # a movie that is held out in one task trains another
    assert not held_out.join(seen, on="first", how="semi").is_empty()
    with pytest.raises(LeakError, match=r"would train on film number .* and be scored on it"):
        training_examples(planted(1)(inputs.examples), catalog, split)


def test_cold_movies_have_no_behavioral_vector(opened: Callable[..., tuple[Context, Inputs]]) -> None:
    _, warm = opened()
    _, cold = opened("data.split=cold")
    _, catalog, split = read_tables(cold.prepared)
    held_out = split != "train"
    vectors, known = ItemVectors.load(cold.embedded.path), ItemVectors.load(warm.embedded.path)
    assert (vectors.sources["behavioral"][held_out] == 0).all()
    assert (known.sources["behavioral"][held_out] != 0).any(axis=1).all()
    assert (vectors.sources["semantic"][held_out] != 0).any(axis=1).all()
    assert (vectors.sources["behavioral"][~held_out] != 0).any(axis=1).all()
    interactions, _, _ = read_tables(cold.prepared)
    assert not held_out[interactions.frame["item"].to_numpy()].any()
    assert catalog.frame["n_ratings"].sum() > len(interactions)


@pytest.mark.parametrize("task", ["rating", "next_item", "user_profile"])
def test_tasks_about_users_refuse_it_too(
    task: str, opened: Callable[..., tuple[Context, Inputs]], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, inputs = opened(f"tasks.names=[{task}]")
    _, catalog, split = read_tables(inputs.prepared)
    frame = read_examples(inputs.examples)
    training_examples(frame, catalog, split)
    held_out = int(np.flatnonzero(split == "test")[0])
    column = "items" if task == "rating" else "reads"
    first = pl.int_range(pl.len()) == 0
    train = frame.filter(pl.col("split") == "train").with_columns(
        pl.when(first).then(pl.concat_list(column, pl.lit(held_out))).otherwise(column).alias(column)
    )
    leaky = pl.concat([train, frame.filter(pl.col("split") != "train")])
    monkeypatch.setattr(tune, "read_examples", lambda _: leaky)
    with pytest.raises(LeakError, match="a test item, would enter training"):
        tune.tune(context, inputs)
    # a user on both sides
    user = (
        frame.filter(pl.col("split") == "test")
        .head(1)
        .with_columns(
            split=pl.lit("train"), items=pl.lit([int(np.flatnonzero(split == "train")[0])]), reads=pl.lit(None)
        )
    )
    with pytest.raises(LeakError, match=f"task '{task}' would train on user .* and be scored on it"):
        training_examples(pl.concat([frame, user], how="vertical_relaxed"), catalog, split)
