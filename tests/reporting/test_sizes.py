"""The sizes that an undecided claim is told."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from synthetic import config_of, predictions_of, write_run

from ilm_lightning.evaluation.components import Components
from ilm_lightning.evaluation.statistics import Difference
from ilm_lightning.reporting.comparison import Comparison
from ilm_lightning.reporting.decide import Reading, decide_greater, to_move
from ilm_lightning.reporting.document import build
from ilm_lightning.reporting.pairing import Row
from ilm_lightning.reporting.query_sweep import QUERIES, decide_sweep
from ilm_lightning.reporting.sizes import sizes, what_it_takes

OPEN = Components(*np.array([[0.3], [0.04], [9.0], [4.0]]), n_runs=3, n_movies=40)


def comparison(mean: float, parts: Components = OPEN) -> Comparison:
    found = Difference(mean, mean - 1, mean + 1, 0.5, {}, parts.n_movies)
    return Comparison(tuple(range(parts.n_runs)), found, (mean - 1, mean + 1), parts)


def says(*words: str) -> list[str]:
    names = ("SC", "ROUGE-L", "slot accuracy")
    return to_move([Reading(name, word, "") for name, word in zip(names, words, strict=False)])


def test_a_verdict_waits_for_the_open_scorers() -> None:
    assert says("open", "open", "open") == ["SC", "ROUGE-L", "slot accuracy"]
    assert says("yes", "open", "open") == ["ROUGE-L", "slot accuracy"]
    # one second measure is enough
    assert says("open", "yes", "open") == ["SC"]
    assert says("open", "yes") == ["SC"]
    # nothing to wait for, or a contradiction that stays
    assert says("yes", "yes") == says("yes", "no") == says("yes", "no", "open") == says("open", "yes", "no") == []
    assert says() == []


def test_an_equality_that_is_not_in_sight_has_the_sizes_that_would_refute_it() -> None:
    text = what_it_takes(comparison(0.9), 0.5)
    refuting = sizes(OPEN, 0.4, None)
    assert text == (
        f"to tell the measured +0.90 from an equality within 0.5: {refuting}; "
        f"to show an equality within 0.5, were the truth 0: {sizes(OPEN, 0.0, 0.5)}"
    )
    assert what_it_takes(comparison(-0.9), 0.5) == text.replace("+0.90", "-0.90")
    near = what_it_takes(comparison(0.2), 0.5)
    assert near.startswith(f"to show an equality within 0.5 at the measured +0.20: {sizes(OPEN, 0.2, 0.5)}; to show")


def test_sizes_that_decide_nothing_are_not_told() -> None:
    two = replace(OPEN, n_runs=2)
    assert sizes(two, 50.0, None) == "about 3 seeds with 40 movies"
    assert re.fullmatch(r"about [\d,]+ seeds with 40 movies", sizes(two, 2.0, None))
    # more seeds alone are not enough
    assert re.fullmatch(
        r"about [\d,]+ movies with 3 seeds, or no number of seeds with 40 movies", sizes(two, 1.0, None)
    )
    assert sizes(OPEN, 50.0, None) == "about 10 movies with 3 seeds, or about 3 seeds with 40 movies"
    few = replace(OPEN, n_movies=4)
    assert sizes(few, 50.0, None) == "about 10 movies with 3 seeds, or about 3 seeds with 10 movies"
    assert sizes(few, 50.0, None, "users") == "about 10 users with 3 seeds, or about 3 seeds with 10 users"


def test_the_sizes_are_those_of_the_scorer_that_is_open(tmp_path: Path) -> None:
    for experiment, level in (("ilm_qformer", 58.0), ("ilm_mlp", 50.0)):
        for seed in range(3):
            noise = np.random.default_rng(int(level) + seed).normal(0, 15, 2 * 6 * 30)
            frame = predictions_of(level, seed, movies=30).with_columns(rouge_l=30 + pl.Series(noise))
            write_run(tmp_path / f"{experiment}-{seed}", config_of(experiment, seed=seed), frame)
    group = build([tmp_path], 500).sections[0].group
    part = decide_greater(group, Row("ILM-QFormer", "combined"), Row("ILM-MLP", "combined"), ("sc", "second"))
    assert [reading.says for reading in part.readings] == ["yes", "open"]
    assert "ROUGE-L does not decide; ROUGE-L: to tell the measured" in part.why
    assert "SC (all-MiniLM-L6-v2): to tell" not in part.why
    # more than the 30 there are
    movies, seeds = re.findall(r"(?:about ([\d,]+)|no number of) (?:movies|seeds) with", part.why)[:2]
    assert not movies or int(movies.replace(",", "")) > 30
    assert not seeds or int(seeds.replace(",", "")) > 3


def test_the_sizes_of_claim_7_are_those_of_its_corrected_level(tmp_path: Path) -> None:
    for q, level in zip(QUERIES, (50.0, 50.0, 50.2, 51.0, 50.2, 49.9), strict=True):
        for seed in range(3):
            frame = predictions_of(level, seed, movies=20, noise=6.0, seed_noise=0.02)
            write_run(tmp_path / f"{q}-{seed}", config_of("ilm_mlp", seed=seed, adapter__num_queries=q), frame)
    group = build([tmp_path], 500).sections[0].group
    part = decide_sweep(group, ("sc", "second"))[2]
    told = re.search(r"SC \(.*?\), (\d+) against (\d+) tokens: (.*); ROUGE-L", part.why)
    assert told is not None, part.why
    best, end = (next(c for c in group.columns if c.variant.queries == int(told[place])) for place in (1, 2))
    found = group.compare(best, end, "sc")
    assert found is not None
    assert told[3] == what_it_takes(found, None, 0.05 / 4)
    assert told[3] != what_it_takes(found, None)
