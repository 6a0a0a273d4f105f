"""What is measured on the texts of all conditions: encoders, facts of the catalogue, and bands of ratings."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ilm_lightning.data.tables import ItemCatalog
from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.engine.stages.context import Context

if TYPE_CHECKING:
    from ilm_lightning.evaluation.semantic import SentenceScorer
    from ilm_lightning.evaluation.slots import Facts, Mentions

ROLES = ("directors", "writers", "cast")
SEEN = {
    "genres": ("genres",),
    "years": ("title", "year"),
    "decades": ("title", "year", "decade"),
    "countries": ("countries",),
    "languages": ("languages",),
    "people": ROLES,
}
"""Kind of fact -> the text fields that tell it; the text of a title ends with the year. What free text and tags may
tell beside is not counted."""
BANDS = ((0, 5), (5, 20), (20, 100), (100, None))


@dataclass(frozen=True)
class Scorers:
    """The sentence encoders of an evaluation; one that serves twice is loaded once.

    Attributes:
        first: gives SC.
        second: gives the second opinion, where asked for.
        text: made the items' semantic vectors, so gives SC-input.
    """

    first: "SentenceScorer"
    second: "SentenceScorer | None"
    text: "SentenceScorer"


def load_scorers(context: Context) -> Scorers:
    """Load the encoders that the configuration names."""
    from ilm_lightning.evaluation.semantic import SentenceScorer

    loaded: dict[str, SentenceScorer] = {}

    def load(name: str) -> SentenceScorer:
        asset = context.asset(name)
        if asset.sha256 not in loaded:
            loaded[asset.sha256] = SentenceScorer(asset.path, name=asset.name)
        return loaded[asset.sha256]

    config = context.config.evaluation
    second = None if config.second_scorer is None else load(config.second_scorer)
    return Scorers(load(config.scorer), second, load(context.config.encoder.text_model))


@dataclass(frozen=True)
class Measures:
    """Scores of texts, and their summary.

    Attributes:
        context: the run.
        catalog: the items.
        vectors: of all sources.
        scorers: sentence encoders.
    """

    context: Context
    catalog: ItemCatalog
    vectors: ItemVectors
    scorers: Scorers

    @cached_property
    def find(self) -> "Mentions":
        """Finds the facts that a text names, people of the catalogue included."""
        from ilm_lightning.evaluation.slots import remembered, with_people
        from ilm_lightning.tasks.elm import mentions

        return remembered(with_people(mentions, people_of(self.catalog)))

    @cached_property
    def seen(self) -> tuple[str, ...]:
        """Kinds of facts that the items' vectors were made from."""
        return seen_facts(self.context)

    def scored(self, texts: pl.DataFrame) -> pl.DataFrame:
        """Add a column per score.

        Args:
            texts: rows of tasks that are answered in prose, all conditions.

        Returns:
            The rows with their scores.
        """
        from ilm_lightning.evaluation import scores

        table = scores.score(texts, self.scorers.first, self.scorers.second)
        table = self._input(table)
        return scores.score_slots(table, self.find, self._truth(texts), self.seen)

    def summary(self, table: pl.DataFrame) -> dict[str, Any]:
        """Sum scored rows up, as ``docs/measures.md`` describes it."""
        from ilm_lightning.evaluation.summary import summarise

        metrics = summarise(
            table,
            self.scorers.first,
            second=self.scorers.second,
            mentions=self.find,
            truth=self._truth(table),
            seen=self.seen,
            resamples=self.context.config.evaluation.bootstrap,
        )
        metrics["scorer_precision"] = self.scorers.first.precision
        metrics["seen_facts"] = list(self.seen)
        metrics["input_encoder"] = self.scorers.text.name
        metrics["sc_input_of_targets"] = self._targets_input(table)
        metrics["by_ratings"] = by_ratings(table, self.catalog)
        if "hard" in table.columns:
            hard = table.filter(pl.col("condition") == "hard_shuffled")
            metrics["hard_share"] = float(hard.select(pl.col("hard").cast(pl.Float64).mean()).item())
        return metrics

    def _input(self, table: pl.DataFrame) -> pl.DataFrame:
        """Add ``sc_input``; a text about a user has no item that it should be like."""
        from ilm_lightning.evaluation.scores import score_input

        about = table
        if "user" in table.columns:
            nothing = pl.lit([], dtype=table.schema["items"])
            about = table.with_columns(items=pl.when(pl.col("user").is_null()).then("items").otherwise(nothing))
        scored = score_input(about, self.scorers.text, self.vectors.raw("semantic"), self.vectors.has_text)
        return table.with_columns(scored["sc_input"])

    def _targets_input(self, table: pl.DataFrame) -> dict[str, Any]:
        """SC-input of the teacher's own targets, task by task and their mean: what a perfect text would get."""
        own = table.filter(pl.col("condition") == "own").with_columns(generated=pl.col("target"))
        means = self._input(own).group_by("task").agg(pl.col("sc_input").mean()).sort("task")
        tasks = {task: value for task, value in means.iter_rows() if value is not None}
        return {"all": float(np.mean(list(tasks.values()))) if tasks else None, "tasks": tasks}

    def _truth(self, table: pl.DataFrame) -> "dict[str, Facts]":
        """What is true of each example's items."""
        from ilm_lightning.tasks.elm import facts_of_item

        users = ["user"] if "user" in table.columns else []
        asked = table.unique("example_id", maintain_order=True).select("example_id", "items", "target", *users)
        known = {i: facts_of_item(self.catalog[i]) for i in {i for items in asked["items"].to_list() for i in items}}
        return {
            # what a profile says is true of the whole history; its own target is what was asked for
            row["example_id"]: self.find(row["target"])
            if row.get("user") is not None
            else merged([known[i] for i in row["items"]])
            for row in asked.iter_rows(named=True)
        }


def people_of(catalog: ItemCatalog) -> set[str]:
    """Everybody whom the catalogue names as director, writer or cast."""
    return {name for role in ROLES for name in catalog.frame[role].explode().drop_nulls().to_list()}


def seen_facts(context: Context) -> tuple[str, ...]:
    """Kinds of facts that the item's vector was made from."""
    if context.config.encoder.name == "behavioral":
        return ()
    fields = set(context.config.encoder.text_fields)
    return tuple(kind for kind, telling in SEEN.items() if fields & set(telling))


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


def by_ratings(table: pl.DataFrame, catalog: ItemCatalog) -> dict[str, dict[str, Any]]:
    """SC by how often the movie was rated: few ratings make poor behavioral vectors.

    Returns:
        Per band its number of movies and the mean SC per condition (examples weighted equally).
    """
    counts = catalog.frame.select(pl.col("index").cast(pl.Int64).alias("movie"), "n_ratings")
    joined = table.join(counts, on="movie", how="left")
    result: dict[str, dict[str, Any]] = {}
    for low, high in BANDS:
        band = pl.col("n_ratings") >= low
        part = joined.filter(band if high is None else band & (pl.col("n_ratings") < high))
        if part.is_empty():
            continue
        name = f"{low}+" if high is None else f"{low}-{high - 1}"
        means = part.group_by("condition", maintain_order=True).agg(pl.col("sc").mean()).sort("condition")
        result[name] = {"movies": part["movie"].n_unique(), "sc": dict(means.iter_rows())}
    return result
