"""Evaluation as a stage: texts from held-out movies' vectors, every control beside them, scores and intervals."""

import logging
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
from ilm_lightning.engine.stages.generate import chosen_examples, generate, own_prompts
from ilm_lightning.engine.stages.measures import Measures, load_scorers
from ilm_lightning.engine.stages.phase2 import train_control
from ilm_lightning.engine.stages.selection import configurations_tried
from ilm_lightning.engine.stages.tune import Inputs
from ilm_lightning.progress import track
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
    anew = title is not None or set(task_names(context.config)[1]) & set(OWN_PROMPT_TASKS)
    if "shuffled" in config.conditions and anew:
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
        "text_model": context.asset(context.config.encoder.text_model).sha256,
        **{f"texts_{name}": artifact for name, artifact in written.items()},
    }
    if config.second_scorer is not None:
        artifacts["second_scorer"] = context.asset(config.second_scorer).sha256
    return context.store.get("evaluate", settings, artifacts, lambda folder: _build(context, inputs, written, folder))


def _control(context: Context, inputs: Inputs, name: str, title: str | None) -> Artifact:
    """Train a control or reference at the variant's budget and write its texts."""
    other, bare, made = train_control(context, inputs, name)
    # with the title in every prompt the blind control reads it too
    reference = title if name == "blind" else name
    return generate(other, bare, made, reference, blind=name == "blind" and title is None)


def _build(context: Context, inputs: Inputs, written: dict[str, Artifact], folder: Path) -> dict[str, Any]:
    config = context.config.evaluation
    interactions, catalog, split = read_tables(inputs.prepared)
    frame = read_examples(inputs.examples)
    train = training_examples(frame, catalog, split)
    chosen = chosen_examples(frame, config.split, config.movies)
    vectors = ItemVectors.load(inputs.embedded.path)
    scorers = load_scorers(context)
    own = _texts(chosen, written["own"], "own")
    tables = [own, *rows_of.shuffled(own.filter(~own_prompts(context.config)), catalog, config)]
    if "constant" in config.conditions:
        tables.append(rows_of.constant(prose(own), constant_targets(context, inputs, scorers.first, prose(train))))
    if "knn_copy" in config.conditions:
        nearest = vectors.select(context.config.encoder.name)
        tables.append(rows_of.knn_copied(own.filter(pl.col("movie") >= 0), train, nearest))
    for name, artifact in written.items():
        if name != "own":
            asked = chosen.filter(own_prompts(context.config)) if name == "shuffled" else chosen
            tables.append(_texts(asked, artifact, name))
    table = pl.concat(tables, how="diagonal_relaxed")
    metrics = no_prose(own, scorers.first.name)
    if len(texts := prose(table)):
        measures = Measures(context, catalog, vectors, scorers)
        texts = measures.scored(texts)
        table = pl.concat([texts, table.filter(pl.col("task").is_in(ANSWER_TASKS))], how="diagonal_relaxed")
        metrics = measures.summary(texts)
    table.write_parquet(folder / "predictions.parquet")
    (folder / "words.json").write_bytes((written["own"].path / "words.json").read_bytes())
    own_measures = Scoring(inputs, interactions, catalog, train, scorers.first, config.bootstrap).measure(table)
    if own_measures:
        metrics["figure1"] = own_measures
    write_json(folder / "metrics.json", metrics)
    return {"sc": metrics["all"].get("sc"), "scorer": scorers.first.name}


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
    more = [name for name in ("user", "about", "value", "candidates", "candidate_items") if chosen[name].count()]
    frame = chosen.select("example_id", "task", "movie", "place", "items", "target", *more)
    joined = frame.join(texts, on="example_id", how="left", maintain_order="left")
    return joined.with_columns(pl.lit(condition).alias("condition"))


def protocol(context: Context, inputs: Inputs, tuned: Artifact) -> dict[str, Any]:
    """What stands beside each number."""
    config = context.config
    return {
        "name": config.name,
        "data": config.data.name,
        "teacher": inputs.examples.report["teacher"],
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
        "configurations_tried": configurations_tried(config),
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
        parts = train.sort("example_id").group_by("task", maintain_order=True)
        for (task,), part in track(parts, train["task"].n_unique(), "choosing each task's constant"):
            texts = part.sample(min(400, len(part)), seed=0)["target"].to_list()
            found[str(task)] = texts[constant_target(np.asarray(scorer.embed(texts)))]
        write_json(folder / "constants.json", found)
        return {"tasks": len(found)}

    made = context.store.get("constants", settings, artifacts, build)
    result: dict[str, str] = json.loads((made.path / "constants.json").read_text(encoding="utf-8"))
    return result
