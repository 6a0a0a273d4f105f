"""Evaluation as a stage: texts from held-out movies' vectors, every control beside them, scores and intervals."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.engine.artifacts import Artifact, write_json
from ilm_lightning.engine.stages import predictions as rows_of
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.data import read_examples, read_tables
from ilm_lightning.engine.stages.tune import MODEL, Inputs, control, prompts_with, tokenised, tune

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
    trained = {name: _tune_control(context, inputs, name) for name in TRAINED if name in config.conditions}
    settings = {"code": CODE, "evaluation": asdict(config), "encoder": context.config.encoder.name}
    artifacts: dict[str, Artifact | str] = {
        "prepare": inputs.prepared,
        "embed": inputs.embedded,
        "tasks": inputs.examples,
        "tune": tuned,
        "scorer": context.asset(config.scorer).sha256,
        "lm": context.asset(context.config.lm.name).sha256,
        **trained,
    }
    return context.store.get(
        "evaluate", settings, artifacts, lambda folder: _build(context, inputs, tuned, trained, folder)
    )


def _tune_control(context: Context, inputs: Inputs, name: str) -> Artifact:
    other = Context(control(context.config, name), context.store, context.run_folder, context._assets)
    return tune(other, replace(inputs, pretrained=None), None if name == "blind" else name)


def chosen_examples(frame: pl.DataFrame, split: str, movies: int) -> pl.DataFrame:
    """The examples that are scored: for each task the first movies in a fixed random order, one phrasing for all.

    With one phrasing a task, the text from another movie's vector is that movie's own text: the shuffled control is
    exact and costs nothing.

    Args:
        frame: all examples.
        split: ``test`` or ``validation``.
        movies: movies per task.

    Returns:
        Examples with the columns ``movie`` (first item) and ``place`` (rank of the movie in the order).
    """
    from ilm_lightning.tasks.elm import PROMPTS

    part = frame.filter(pl.col("split") == split).with_columns(movie=pl.col("items").list.first())
    order = sorted(part["movie"].unique().to_list(), key=_position)
    places = pl.DataFrame({"movie": order, "place": range(len(order))}, schema_overrides={"movie": pl.Int64})
    first = {task: prompts[0] for task, prompts in PROMPTS.items()}
    return (
        part.join(places, on="movie")
        .sort("task", "place")
        .group_by("task", maintain_order=True)
        .head(movies)
        .with_columns(prompt=pl.col("task").replace_strict(first))
    )


def _position(movie: int) -> str:
    return hashlib.blake2b(str(movie).encode(), digest_size=8).hexdigest()


def _build(
    context: Context, inputs: Inputs, tuned: Artifact, trained: dict[str, Artifact], folder: Path
) -> dict[str, Any]:
    from ilm_lightning.evaluation.semantic import SentenceScorer
    from ilm_lightning.evaluation.summary import score, summarise
    from ilm_lightning.tasks.elm import facts_of_item, mentions

    config = context.config.evaluation
    _, catalog, split = read_tables(inputs.prepared)
    frame = read_examples(inputs.examples)
    chosen = chosen_examples(frame, config.split, config.movies)
    vectors = ItemVectors.load(inputs.embedded.path).select(context.config.encoder.name)
    scorer = SentenceScorer(context.asset(config.scorer).path, name=context.asset(config.scorer).name)
    title = "title" if context.config.tasks.title_in_prompt else None
    own = generated(context, tuned, prompts_with(chosen, catalog, title), vectors, folder, "own")
    tables = [own, *rows_of.shuffled(own, catalog, config)]
    if "constant" in config.conditions:
        constants = constant_targets(context, inputs, scorer)
        tables.append(rows_of.constant(own, constants))
    if "knn_copy" in config.conditions:
        tables.append(rows_of.knn_copied(own, frame.filter(pl.col("split") == "train"), vectors, split))
    for name, artifact in trained.items():
        prompts = prompts_with(chosen, catalog, None if name == "blind" else name)
        tables.append(generated(context, artifact, prompts, vectors, folder, name))
    table = score(pl.concat(tables, how="diagonal_relaxed"), scorer)
    table.write_parquet(folder / "predictions.parquet")
    known = {i: facts_of_item(catalog[i]) for i in {i for items in chosen["items"].to_list() for i in items}}
    truth = {row["example_id"]: merged([known[i] for i in row["items"]]) for row in chosen.iter_rows(named=True)}
    metrics = summarise(
        table, scorer, mentions=mentions, truth=truth, seen=seen_facts(context), resamples=config.bootstrap
    )
    metrics["protocol"] = protocol(context, tuned)
    write_json(folder / "metrics.json", metrics)
    return {"sc": metrics["all"]["sc"], "scorer": scorer.name}


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


def protocol(context: Context, tuned: Artifact) -> dict[str, Any]:
    """What stands beside each number."""
    config = context.config
    return {
        "name": config.name,
        "data": config.data.name,
        "teacher": config.tasks.teacher,
        "split": config.evaluation.split,
        "decoding": f"greedy, at most {config.evaluation.max_new_tokens} new tokens, first phrasing of each task",
        "language_model": context.asset(config.lm.name).name,
        "encoder": config.encoder.name,
        "tuning": config.tuning.mode,
        "title_in_prompt": config.tasks.title_in_prompt,
        "seed": config.seed,
        "tune": tuned.id,
    }


def generated(
    context: Context, tuned: Artifact, frame: pl.DataFrame, vectors: ItemVectors, folder: Path, condition: str
) -> pl.DataFrame:
    """Texts and target losses of one trained model.

    Args:
        context: the run.
        tuned: phase 2 of the variant, the blind control or a reference.
        frame: examples with the prompts to use.
        vectors: the encoder's item vectors.
        folder: where the soft tokens' nearest words go (own only).
        condition: name of the rows.

    Returns:
        The examples with ``condition``, ``generated``, ``cut_off``, ``loss`` (nats a target token) and ``bits``.
    """
    import torch

    from ilm_lightning.lm import Collator, ItemLanguageModel, generate, load_backbone, target_losses

    config = context.config.evaluation
    asset = context.asset(context.config.lm.name)
    backbone = load_backbone(asset.path, "frozen", context.lm_dtype, name=asset.name)
    model = ItemLanguageModel.from_pretrained(tuned.path / MODEL, backbone)
    if context.config.trainer.accelerator != "cpu" and torch.cuda.is_available():
        model = model.to("cuda")
    tokenizer, examples = tokenised(context, model.num_queries, frame)
    collator = Collator(vectors.tensors())
    label = f"{condition}: texts"
    if condition == "blind":
        # the soft tokens say nothing of the item: one text per distinct prompt
        firsts = {row["prompt"]: i for i, row in reversed(list(enumerate(frame.iter_rows(named=True))))}
        made = generate(
            model,
            [examples[i] for i in firsts.values()],
            collator,
            tokenizer,
            config.max_new_tokens,
            config.batch_size,
            label,
        )
        by_prompt = dict(zip(firsts, zip(made.texts, made.cut_off, strict=True), strict=True))
        texts = [by_prompt[prompt][0] for prompt in frame["prompt"]]
        cut = [by_prompt[prompt][1] for prompt in frame["prompt"]]
    else:
        made = generate(model, examples, collator, tokenizer, config.max_new_tokens, config.batch_size, label)
        texts, cut = made.texts, made.cut_off
    columns = {"generated": list(texts), "cut_off": list(cut)}
    if config.losses:
        losses = target_losses(model, examples, collator, label=f"{condition}: losses")
        columns |= {"loss": [float(row.mean()) for row in losses.token_losses], "bits": losses.bits.tolist()}
    if condition == "own":
        write_json(folder / "words.json", soft_words(model, tokenizer, collator, frame, config.samples))
    table = frame.select("example_id", "task", "movie", "place", "items", "prompt", "target")
    return table.with_columns(pl.lit(condition).alias("condition"), *(pl.Series(k, v) for k, v in columns.items()))


def soft_words(model: Any, tokenizer: Any, collator: Any, frame: pl.DataFrame, count: int) -> list[dict[str, Any]]:
    """Nearest vocabulary words of the soft tokens of the first few movies."""
    from ilm_lightning.evaluation.words import nearest_words

    movies = frame.sort("place")["movie"].unique(maintain_order=True).to_list()[:count]
    soft = model.soft_tokens(collator.slot_sources([(movie,) for movie in movies]))
    embedding = model.lm.get_input_embeddings().weight
    return [
        {"movie": movie, "words": nearest_words(tokens.detach().cpu(), embedding.cpu(), tokenizer.tokenizer, 4)}
        for movie, tokens in zip(movies, soft, strict=True)
    ]


def constant_targets(context: Context, inputs: Inputs, scorer: "SentenceScorer") -> dict[str, str]:
    """For each task the training target nearest to all others under the scorer, among at most 400 drawn once."""
    import json

    config = context.config.evaluation
    settings = {"code": CODE, "sample": 400}
    artifacts: dict[str, Artifact | str] = {"tasks": inputs.examples, "scorer": context.asset(config.scorer).sha256}

    def build(folder: Path) -> dict[str, Any]:
        from ilm_lightning.evaluation.controls import constant_target

        train = read_examples(inputs.examples).filter(pl.col("split") == "train").sort("example_id")
        found = {}
        for (task,), part in train.group_by("task", maintain_order=True):
            texts = part.sample(min(400, len(part)), seed=0)["target"].to_list()
            found[str(task)] = texts[constant_target(np.asarray(scorer.embed(texts)))]
        write_json(folder / "constants.json", found)
        return {"tasks": len(found)}

    made = context.store.get("constants", settings, artifacts, build)
    result: dict[str, str] = json.loads((made.path / "constants.json").read_text(encoding="utf-8"))
    return result
