"""Spark's ALS on this machine beside our own and the library ``implicit``: the same recommendations."""

import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from ilm_lightning.data.tables import Interactions
from ilm_lightning.embeddings.behavioral import fit_als
from ilm_lightning.embeddings.spark import fit_spark
from ilm_lightning.engine.composition import composed
from ilm_lightning.engine.validate import ConfigError, validate
from ilm_lightning.hardware import missing_for_spark

TOP = 10
SPARK = ["encoder.als.engine=spark"]
needs_spark = pytest.mark.skipif(missing_for_spark() is not None, reason=f"needs {missing_for_spark()}")


@pytest.fixture(scope="module")
def interactions() -> Interactions:
    """Tastes of rank 5, popular and rare items; one user and one item without interactions."""
    draw = np.random.default_rng(0)
    affinity = draw.normal(size=(150, 5)) @ draw.normal(size=(5, 80)) + draw.normal(size=80)
    seen = draw.random(affinity.shape) < 0.6 / (1 + np.exp(2 - affinity))
    seen[7], seen[:, 9] = False, False
    users, items = np.nonzero(seen)
    frame = pl.DataFrame(
        {
            "user": users.astype(np.uint32),
            "item": items.astype(np.uint32),
            "rating": np.ones(len(users), dtype=np.float32),
            "timestamp": np.zeros(len(users), dtype=np.int64),
        }
    )
    return Interactions(frame, [f"u{i}" for i in range(150)], 80)


def best(items: NDArray[np.float32], users: NDArray[np.float32], seen: NDArray[np.bool_]) -> list[set[int]]:
    scores = np.where(seen, -np.inf, users @ items.T)
    return [set(np.argsort(-row)[:TOP].tolist()) for row in scores]


def overlap(left: list[set[int]], right: list[set[int]]) -> float:
    return float(np.mean([len(a & b) / TOP for a, b in zip(left, right, strict=True)]))


def by_implicit(interactions: Interactions, factors: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    settings = {"factors": factors, "regularization": 1.0, "alpha": 5.0, "iterations": 15, "random_state": 0}
    model = AlternatingLeastSquares(**settings, num_threads=1, use_cg=False)
    with threadpool_limits(1, "blas"):
        model.fit(interactions.matrix(), show_progress=False)
    return model.item_factors, model.user_factors


@pytest.mark.slow
@needs_spark
def test_spark_recommends_what_others_do(interactions: Interactions, tmp_path: Path) -> None:
    settings = {"factors": 6, "iterations": 15, "seed": 1}
    items, users = fit_spark(interactions, **settings, num_threads=1, folder=tmp_path)
    assert (items.shape, users.shape, items.dtype) == ((80, 6), (150, 6), np.float32)
    # without interactions there is nothing to say
    assert not items[9].any()
    assert not users[7].any()
    assert (np.abs(items).sum(1) > 0).sum() == 79
    seen = interactions.matrix().toarray() > 0
    there = seen.any(1)
    spark, own = best(items, users, seen), best(*fit_als(interactions, **settings, num_threads=1), seen)
    library = best(*by_implicit(interactions, 6), seen)
    drawn = [set(np.random.default_rng(i).permutation(80)[:TOP].tolist()) for i in range(150)]

    def agreement(left: list[set[int]], right: list[set[int]]) -> float:
        kept = np.flatnonzero(there)
        return overlap([left[i] for i in kept], [right[i] for i in kept])

    assert agreement(spark, own) > 0.85
    assert agreement(spark, library) > 0.85
    assert agreement(spark, drawn) < 0.3


@needs_spark
def test_spark_refuses_what_it_cannot_factorise(interactions: Interactions, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"alpha=0\.5: Spark takes no confidence"):
        fit_spark(interactions, alpha=0.5, folder=tmp_path)
    nothing = Interactions(interactions.frame.clear(), interactions.user_ids, 80)
    with pytest.raises(ValueError, match="no interactions"):
        fit_spark(nothing, folder=tmp_path)
    assert threading.active_count() < 10


def test_what_spark_lacks_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = {"pyspark": None}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found.get(name))
    with pytest.raises(ConfigError, match=r"spark needs pyspark: pip install 'ilm-lightning\[spark\]'"):
        validate(composed(*SPARK))
    found["pyspark"] = object()  # type: ignore[assignment]
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(ConfigError, match="spark needs Java 17 or newer"):
        validate(composed(*SPARK))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").touch()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    validate(composed(*SPARK))
    with pytest.raises(ConfigError, match=r"encoder\.als\.alpha=0\.5"):
        validate(composed(*SPARK, "encoder.als.alpha=0.5"))
    with pytest.raises(ConfigError, match=r"needs encoder\.als\.engine=spark"):
        validate(composed("encoder.als.spark_master=yarn"))
    with pytest.raises(ConfigError, match="choose one of: own, implicit, spark"):
        validate(composed("encoder.als.engine=dask"))
