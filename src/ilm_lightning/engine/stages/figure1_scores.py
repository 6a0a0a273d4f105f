"""Measures of the tasks of Figure 1 that semantic consistency does not fit, each beside its baselines."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ilm_lightning.data.tables import Interactions, ItemCatalog
from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.engine.stages.data import read_genome
from ilm_lightning.engine.stages.figure1 import JUDGED
from ilm_lightning.engine.stages.tune import Inputs
from ilm_lightning.evaluation import answers
from ilm_lightning.evaluation.consistency import behavioral_consistency, spearman
from ilm_lightning.tasks.figure1 import (
    GENOME_TAGS,
    NEXT_ITEM,
    RATING,
    USER_PROFILE,
    Traits,
    genre_tags,
    preference,
    read_taste,
)

if TYPE_CHECKING:
    from ilm_lightning.evaluation.semantic import SentenceScorer

Values = NDArray[np.float64]
Row = Mapping[str, Any]
TARGET = "target"
"""Condition of the teacher's own text: what the measure gives for a perfect answer."""


@dataclass(frozen=True)
class Scoring:
    """What the measures read.

    Attributes:
        inputs: artefacts.
        interactions: those that vectors were made from.
        catalog: the items.
        train: training examples.
        scorer: embeds texts.
        resamples: of the bootstrap.
    """

    inputs: Inputs
    interactions: Interactions
    catalog: ItemCatalog
    train: pl.DataFrame
    scorer: "SentenceScorer"
    resamples: int

    def measure(self, table: pl.DataFrame) -> dict[str, Any]:
        """Score the predictions of each task that has measures of its own.

        Args:
            table: predictions of all conditions.

        Returns:
            Per task what ``answers.compare`` returns.
        """
        scores = {GENOME_TAGS: self._tags, RATING: self._ratings, NEXT_ITEM: self._next, USER_PROFILE: self._profiles}
        found = {}
        for task, score in scores.items():
            rows = table.filter((pl.col("task") == task) & pl.col("generated").is_not_null())
            if rows.height:
                found[task] = score(_Rows(rows))
        return found

    def _tags(self, rows: "_Rows") -> dict[str, Any]:
        vocabulary = set(read_genome(self.inputs.prepared).tags)
        learned = self.train.filter(pl.col("task") == "genome_tags")["target"].to_list()
        counts = Counter(tag for text in learned for tag in text.split(", "))
        popular = ", ".join(tag for tag, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:10])

        # the vector holds the genres: naming them shows nothing, and is no mistake
        told = {name: genre_tags(self.catalog[row["about"]].genres, vocabulary) for name, row in rows.first.items()}
        values: dict[str, dict[str, Values]] = {}
        for name in ("f1", "precision", "recall", "known"):
            score = partial(_tag_value, name=name, vocabulary=vocabulary, told=told)
            values[name] = {**rows.texts(score), "popular": rows.own(partial(score, text=popular))}
        return answers.compare(values, rows.units, "f1", resamples=self.resamples)

    def _ratings(self, rows: "_Rows") -> dict[str, Any]:
        known = self.interactions.frame.select(*_KEYS, pl.col("rating").cast(pl.Float64))
        learners = self.train.filter(pl.col("task") == "rating")["user"].unique()
        overall = float(known.filter(pl.col("user").is_in(learners.implode()))["rating"].to_numpy().mean())
        by_user, by_item = _means(known, "user"), _means(known, "item")
        values_seen = known["rating"].to_numpy()
        low, high = float(values_seen.min()), float(values_seen.max())

        def error(row: Row, text: str) -> float:
            read = answers.read_rating(text, low, high)
            return _off_by(row, lambda _: overall if read is None else read)

        guesses: dict[str, Callable[[Row], float]] = {
            "user_mean": lambda row: by_user[row["user"]],
            "item_mean": lambda row: by_item.get(row["about"], overall),
            "user_and_item": lambda row: by_user[row["user"]] + by_item.get(row["about"], overall) - overall,
            "global_mean": lambda row: overall,
        }
        mae = rows.texts(error)
        mae |= {name: rows.own(partial(_off_by, guess=guess)) for name, guess in guesses.items()}
        expected = rows.candidates(lambda row, bits: abs(answers.expected_rating(bits, _scale(row)) - row["value"]))
        readable = rows.texts(lambda row, text: float(answers.read_rating(text, low, high) is not None))
        values = {"mae": mae, "readable": readable, **({"mae_expected": expected} if expected else {})}
        result = answers.compare(values, rows.units, "mae", resamples=self.resamples)
        for name, errors in (("rmse", mae), ("rmse_expected", expected)):
            if errors:
                result["measures"][name] = {key: answers.root_mean_square(own) for key, own in errors.items()}
        return result

    def _next(self, rows: "_Rows") -> dict[str, Any]:
        popularity = np.bincount(self.interactions.frame["item"].to_numpy(), minlength=len(self.catalog))
        vectors = ItemVectors.load(self.inputs.embedded.path)
        items = vectors.raw("behavioral").astype(np.float64)
        users = vectors.scaling["behavioral"].invert(vectors.user_sources["behavioral"]).astype(np.float64)
        unit = items / np.maximum(np.linalg.norm(items, axis=1, keepdims=True), 1e-12)
        labels = {_plain(item.label) for item in self.catalog}
        ranks = rows.candidates(lambda row, bits: float(answers.rank_of_first(-np.asarray(bits))))
        scores: dict[str, Callable[[Row, list[int]], Values]] = {
            "popularity": lambda row, drawn: popularity[drawn].astype(np.float64),
            "last_item": lambda row, drawn: unit[drawn] @ unit[row["items"][-1]],
            "als": lambda row, drawn: items[drawn] @ users[row["user"]],
        }
        for name, score in scores.items():
            ranks[name] = rows.own(partial(_baseline_rank, score=score))
        by_condition = {name: answers.rank_measures(own.astype(int).tolist()) for name, own in ranks.items()}
        by_condition["chance"] = answers.chance_measures([len(row["candidate_items"]) for row in rows.first.values()])
        values = {key: {name: own[key] for name, own in by_condition.items()} for key in by_condition["chance"]}
        values["exact"] = rows.texts(lambda row, text: float(_plain(text) == _plain(row["target"])))
        values["named"] = rows.texts(lambda row, text: float(_plain(text) in labels))
        result = answers.compare(values, rows.units, "mrr", resamples=self.resamples)
        return result | {"candidates": float(np.mean([len(row["candidate_items"]) for row in rows.first.values()]))}

    def _profiles(self, rows: "_Rows") -> dict[str, Any]:
        judged = Interactions.read(self.inputs.prepared.path / JUDGED, checked=True).frame
        users = {row["user"] for row in rows.first.values()}
        asked = judged.filter(pl.col("user").cast(pl.Int64).is_in(sorted(users)))
        shown = sorted(set(asked["item"].to_list()))
        place = {row: at for at, row in enumerate(shown)}
        truth: dict[int, dict[int, float]] = {}
        for user, item, rating in asked.select("user", "item", "rating").iter_rows():
            truth.setdefault(user, {})[place[item]] = rating
        space = self.scorer.embed([self.catalog.item_text(row) or "" for row in shown])
        written = rows.written()
        embedded = dict(zip(written, self.scorer.embed(written), strict=True))

        def consistency(row: Row, text: str) -> float:
            return float(behavioral_consistency(embedded[text][None], space, [truth[row["user"]]])[0])

        traits = Traits.of_all(list(self.catalog))
        counts = np.bincount(self.interactions.frame["item"].to_numpy(), minlength=len(self.catalog))

        def ranked(row: Row, score: Callable[[int], float]) -> float:
            asked = truth[row["user"]]
            return spearman([score(shown[at]) for at in asked], list(asked.values()))

        def read(row: Row, text: str) -> float:
            taste = read_taste(text)
            return ranked(row, lambda item: preference(taste, traits[item]))

        values = {"bc": rows.texts(consistency), "bc_facts": rows.texts(read)}
        values["bc"][TARGET] = rows.own(lambda row: consistency(row, row["target"]))
        values["bc_facts"][TARGET] = rows.own(lambda row: read(row, row["target"]))
        for by in values.values():
            by["popularity"] = rows.own(lambda row: ranked(row, lambda item: float(counts[item])))
        return answers.compare(values, rows.units, "bc_facts", resamples=self.resamples)


_KEYS = (pl.col("user").cast(pl.Int64), pl.col("item").cast(pl.Int64))


class _Rows:
    """One task's predictions, looked at example by example."""

    def __init__(self, table: pl.DataFrame) -> None:
        own = table.filter(pl.col("condition") == "own")
        self.first: dict[str, Row] = {row["example_id"]: row for row in own.iter_rows(named=True)}
        self.units = [row["movie"] for row in self.first.values()]
        self._table = table

    @cached_property
    def _by_condition(self) -> dict[str, list[Row]]:
        parts = self._table.partition_by("condition", as_dict=True, maintain_order=True)
        return {str(name): list(part.iter_rows(named=True)) for (name,), part in parts.items()}

    def written(self) -> list[str]:
        """Every distinct text and target."""
        texts = (text for row in self._table.select("generated", "target").iter_rows() for text in row)
        return list(dict.fromkeys(texts))

    def own(self, value: Callable[[Row], float]) -> Values:
        """A value of each example."""
        return np.array([value(row) for row in self.first.values()], dtype=np.float64)

    def texts(self, value: Callable[[Row, str], float]) -> dict[str, Values]:
        """A value of each example's text under each condition, several texts of one averaged."""
        return {
            name: self._mean(rows, lambda row: value(row, row["generated"]))
            for name, rows in self._by_condition.items()
        }

    def candidates(self, value: Callable[[Row, list[float]], float]) -> dict[str, Values]:
        """A value of each example's candidate bits under each condition that has them."""
        return {
            name: self._mean(rows, lambda row: value(row, row["candidate_bits"]))
            for name, rows in self._by_condition.items()
            if all(row.get("candidate_bits") for row in rows)
        }

    def _mean(self, rows: list[Row], value: Callable[[Row], float]) -> Values:
        found: dict[str, list[float]] = {name: [] for name in self.first}
        for row in rows:
            found[row["example_id"]].append(value(row))
        return np.array([np.mean(own) if own else np.nan for own in found.values()], dtype=np.float64)


def _tag_value(row: Row, text: str, name: str, vocabulary: set[str], told: Mapping[str, set[str]]) -> float:
    found = answers.tag_score(text, row["target"].split(", "), vocabulary, told[row["example_id"]])
    return float(getattr(found, name))


def _means(ratings: pl.DataFrame, key: str) -> dict[int, float]:
    return dict(ratings.group_by(key).agg(pl.col("rating").mean()).iter_rows())


def _off_by(row: Row, guess: Callable[[Row], float]) -> float:
    return abs(guess(row) - float(row["value"]))


def _baseline_rank(row: Row, score: Callable[[Row, list[int]], Values]) -> float:
    return float(answers.rank_of_first(score(row, row["candidate_items"])))


def _scale(row: Row) -> list[float]:
    return [float(step) for step in row["candidates"]]


def _plain(title: str) -> str:
    """A title as answers write it, for comparison."""
    return title.strip().strip(".\"'").strip().lower()
