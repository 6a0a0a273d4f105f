"""Evaluation as a stage: texts from held-out movies' vectors, every control beside them, scores and intervals."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.engine.artifacts import Artifact, source_hash, write_json
from ilm_lightning.engine.stages import predictions as rows_of
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.data import read_examples, read_tables, training_examples
from ilm_lightning.engine.stages.figure1 import task_names
from ilm_lightning.engine.stages.figure1_scores import Scoring
from ilm_lightning.engine.stages.generate import chosen_examples, generate
from ilm_lightning.engine.stages.phase2 import train_control
from ilm_lightning.engine.stages.tune import Inputs
from ilm_lightning.tasks.figure1.names import ANSWER_TASKS, OWN_PROMPT_TASKS

if TYPE_CHECKING:
    from ilm_lightning.evaluation.semantic import SentenceScorer

log = logging.getLogger("ilm_lightning")
CODE = 1
TRAINED = ("blind", "title", "facts")
"""Conditions that need a training run of their own."""


def evaluate(context: Context, inputs: Inputs, tuned: Artifact) -> Artifact:
    """Score the variant and its controls on the same held-out movies.

    Args:
        context: the run.
        inputs: artefacts before phase 2.
        tuned: the variant's phase 2.

    Returns:
        The artefact: ``predictions.parquet``, ``metrics.json``, ``words.json``.
    """
    config = context.config.evaluation
    title = "title" if context.config.tasks.title_in_prompt else None
    written = {"own": generate(context, inputs, tuned, title)}
    if "shuffled" in config.conditions and set(task_names(context.config)[1]) & set(OWN_PROMPT_TASKS):
        written["shuffled"] = generate(context, inputs, tuned, title, shuffled=True)
    for name in TRAINED:
        if name in config.conditions:
            written[name] = _control(context, inputs, name, title)
    settings = {
        "code": CODE,
        "sources": source_hash("evaluation"),
        "evaluation": asdict(config),
        "encoder": context.config.encoder.name,
    }
    artifacts: dict[str, Artifact | str] = {
        "prepare": inputs.prepared,
        "embed": inputs.embedded,
        "tasks": inputs.examples,
        "scorer": context.asset(config.scorer).sha256,
        **{f"texts_{name}": artifact for name, artifact in written.items()},
    }
    return context.store.get("evaluate", settings, artifacts, lambda folder: _build(context, inputs, written, folder))


def _control(context: Context, inputs: Inputs, name: str, title: str | None) -> Artifact:
    """Train a control or reference at the variant's budget and write its texts."""
    other, bare, made = train_control(context, inputs, name)
    # with the title in every prompt the blind control reads it too
    reference = title if name == "blind" else name
    return generate(other, bare, made, reference, blind=name == "blind" and title is None)


def _build(context: Context, inputs: Inputs, written: dict[str, Artifact], folder: Path) -> dict[str, Any]:
    from ilm_lightning.evaluation.semantic import SentenceScorer
    from ilm_lightning.evaluation.summary import score, summarise
    from ilm_lightning.tasks.elm import facts_of_item, mentions

    config = context.config.evaluation
    interactions, catalog, split = read_tables(inputs.prepared)
    frame = read_examples(inputs.examples)
    train = training_examples(frame, catalog, split)
    chosen = chosen_examples(frame, config.split, config.movies)
    vectors = ItemVectors.load(inputs.embedded.path).select(context.config.encoder.name)
    scorer = SentenceScorer(context.asset(config.scorer).path, name=context.asset(config.scorer).name)
    own = _texts(chosen, written["own"], "own")
    tables = [own, *rows_of.shuffled(own.filter(~pl.col("task").is_in(OWN_PROMPT_TASKS)), catalog, config)]
    if "constant" in config.conditions:
        tables.append(rows_of.constant(prose(own), constant_targets(context, inputs, scorer, prose(train))))
    if "knn_copy" in config.conditions:
        tables.append(rows_of.knn_copied(own.filter(pl.col("movie") >= 0), train, vectors))
    tables += [_texts(chosen, artifact, name) for name, artifact in written.items() if name != "own"]
    table = pl.concat(tables, how="diagonal_relaxed")
    if len(texts := prose(table)):
        answers = table.filter(pl.col("task").is_in(ANSWER_TASKS))
        table = pl.concat([score(texts, scorer), answers], how="diagonal_relaxed")
    table.write_parquet(folder / "predictions.parquet")
    (folder / "words.json").write_bytes((written["own"].path / "words.json").read_bytes())
    known = {i: facts_of_item(catalog[i]) for i in {i for items in chosen["items"].to_list() for i in items}}
    truth = {
        # what a profile says is true of the whole history; its own target is what was asked for
        row["example_id"]: mentions(row["target"])
        if row["user"] is not None
        else merged([known[i] for i in row["items"]])
        for row in chosen.iter_rows(named=True)
    }
    if len(texts):
        metrics = summarise(
            prose(table), scorer, mentions=mentions, truth=truth, seen=seen_facts(context), resamples=config.bootstrap
        )
        metrics["by_ratings"] = by_ratings(prose(table), catalog)
    else:
        metrics = no_prose(own, scorer.name)
    if "hard" in table.columns:
        metrics["hard_share"] = float(
            table.filter(pl.col("condition") == "hard_shuffled").select(pl.col("hard").cast(pl.Float64).mean()).item()
        )
    own_measures = Scoring(inputs, interactions, catalog, train, scorer, config.bootstrap).measure(table)
    if own_measures:
        metrics["figure1"] = own_measures
    write_json(folder / "metrics.json", metrics)
    return {"sc": metrics["all"].get("sc"), "scorer": scorer.name}


def prose(table: pl.DataFrame) -> pl.DataFrame:
    """The rows of tasks that are answered in prose, which is what semantic consistency measures."""
    return table.filter(~pl.col("task").is_in(ANSWER_TASKS))


def no_prose(own: pl.DataFrame, scorer: str) -> dict[str, Any]:
    """What ``summarise`` returns, for a run without any task that is answered in prose."""
    counts = {"n_examples": own["example_id"].n_unique(), "n_movies": own["movie"].n_unique(), "n_tasks": 0}
    empty: dict[str, Any] = {"tasks": {}, "all": {}, "differences": {}, "spread": {}, "uninformative": []}
    return {"scorer": scorer, **counts, **empty}


def _texts(chosen: pl.DataFrame, written: Artifact, condition: str) -> pl.DataFrame:
    """Rows of one condition: the examples with the texts that were written for them."""
    texts = pl.read_parquet(written.path / "texts.parquet")
    if condition == "shuffled":
        chosen = chosen.filter(pl.col("task").is_in(OWN_PROMPT_TASKS))
    more = [name for name in ("user", "about", "value", "candidates", "candidate_items") if chosen[name].count()]
    frame = chosen.select("example_id", "task", "movie", "place", "items", "target", *more)
    joined = frame.join(texts, on="example_id", how="left", maintain_order="left")
    return joined.with_columns(pl.lit(condition).alias("condition"))


def by_ratings(table: pl.DataFrame, catalog: Any) -> dict[str, dict[str, Any]]:
    """SC by how often the movie was rated: few ratings make poor behavioral vectors.

    Returns:
        Per band its number of movies and the mean SC per condition (examples weighted equally).
    """
    counts = catalog.frame.select(pl.col("index").cast(pl.Int64).alias("movie"), "n_ratings")
    joined = table.join(counts, on="movie", how="left")
    result: dict[str, dict[str, Any]] = {}
    for low, high in ((0, 5), (5, 20), (20, 100), (100, None)):
        band = pl.col("n_ratings") >= low
        part = joined.filter(band if high is None else band & (pl.col("n_ratings") < high))
        if part.is_empty():
            continue
        name = f"{low}+" if high is None else f"{low}-{high - 1}"
        means = part.group_by("condition", maintain_order=True).agg(pl.col("sc").mean()).sort("condition")
        result[name] = {"movies": part["movie"].n_unique(), "sc": dict(means.iter_rows())}
    return result


def merged(facts: Sequence[Any]) -> dict[str, set[Any]]:
    """Union of several items' facts, kind by kind."""
    result: dict[str, set[Any]] = {}
    for one in facts:
        for kind, value in one.items():
            if value is not None:
                result.setdefault(kind, set()).update(
                    value if isinstance(value, set | frozenset | list | tuple) else {value}
                )
    return result


def seen_facts(context: Context) -> tuple[str, ...]:
    """Kinds of facts that the item's vector was made from."""
    if context.config.encoder.name == "behavioral":
        return ()
    fields = context.config.encoder.text_fields
    return tuple(
        kind for kind, field in (("genres", "genres"), ("years", "title"), ("decades", "title")) if field in fields
    )


def protocol(context: Context, inputs: Inputs, tuned: Artifact) -> dict[str, Any]:
    """What stands beside each number."""
    config = context.config
    return {
        "name": config.name,
        "data": config.data.name,
        "teacher": inputs.examples.report.get("teacher", config.teacher.kind),
        "split": config.evaluation.split,
        "split_rule": config.data.split,
        "decoding": f"greedy, at most {config.evaluation.max_new_tokens} new tokens, first phrasing of each task",
        "language_model": context.asset(config.lm.name).name,
        "encoder": config.encoder.name,
        "tuning": config.tuning.mode,
        "learning_rates": tuned.report["learning_rates"],
        "lr_trials": len(tuned.report["trials"]),
        "title_in_prompt": config.tasks.title_in_prompt,
        "seed": config.seed,
        "tune": tuned.id,
    }


def constant_targets(context: Context, inputs: Inputs, scorer: "SentenceScorer", train: pl.DataFrame) -> dict[str, str]:
    """For each task the training target nearest to all others under the scorer, among at most 400 drawn once."""
    import json

    config = context.config.evaluation
    settings = {"code": CODE, "sample": 400}
    artifacts: dict[str, Artifact | str] = {"tasks": inputs.examples, "scorer": context.asset(config.scorer).sha256}

    def build(folder: Path) -> dict[str, Any]:
        from ilm_lightning.evaluation.controls import constant_target

        found = {}
        for (task,), part in train.sort("example_id").group_by("task", maintain_order=True):
            texts = part.sample(min(400, len(part)), seed=0)["target"].to_list()
            found[str(task)] = texts[constant_target(np.asarray(scorer.embed(texts)))]
        write_json(folder / "constants.json", found)
        return {"tasks": len(found)}

    made = context.store.get("constants", settings, artifacts, build)
    result: dict[str, str] = json.loads((made.path / "constants.json").read_text(encoding="utf-8"))
    return result
