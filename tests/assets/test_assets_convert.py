import ast
import hashlib
import inspect
import pickle
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

from ilm_lightning.assets import REGISTRY, ChecksumError, convert, resolve
from ilm_lightning.assets.cache import file_digest

TABLE = pd.DataFrame(
    {
        "rownames": [1, 2, 3, 4],
        "movieId": [31, 7, 31, 9],
        "title": pd.Categorical(["Dangerous Minds", "Heat", "Dangerous Minds", None]),
        "year": [1995.0, 1995.0, 1995.0, float("nan")],
        "genres": pd.Categorical(["Drama", "Action|Crime", "Drama", "(no genres listed)"]),
        "userId": [1, 1, 2, 2],
        "rating": [2.5, 5.0, 4.0, 0.5],
        "timestamp": [1260759144, 1260759179, 1260759182, 1260759185],
    }
)


def test_movielens_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TABLE.to_pickle(tmp_path / "movielens.pkl.xz", compression="xz")
    monkeypatch.setattr(convert, "MOVIELENS_TABLE_SHA256", file_digest(tmp_path / "movielens.pkl.xz"))
    convert.movielens_table(tmp_path, tmp_path / "out")
    ratings = pl.read_parquet(tmp_path / "out/ratings.parquet")
    movies = pl.read_parquet(tmp_path / "out/movies.parquet")
    assert ratings.schema == {"userId": pl.Int32, "movieId": pl.Int32, "rating": pl.Float32, "timestamp": pl.Int64}
    assert ratings.rows()[1] == (1, 7, 5.0, 1260759179)
    assert movies.schema == {"movieId": pl.Int32, "title": pl.String, "year": pl.Int16, "genres": pl.String}
    assert movies.rows() == [
        (7, "Heat", 1995, "Action|Crime"),
        (9, None, None, "(no genres listed)"),
        (31, "Dangerous Minds", 1995, "Drama"),
    ]


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (Path.write_text, (Path("evil.txt"), "ran"))


def test_a_table_that_is_not_the_pinned_one_is_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "movielens.pkl.xz").write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(ChecksumError, match="not opened"):
        convert.movielens_table(tmp_path, tmp_path / "out")
    assert not (tmp_path / "evil.txt").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_embedded_ratings_have_the_published_counts(tmp_path: Path) -> None:
    folder = resolve("movielens-small", cache_dir=tmp_path).path
    ratings = pl.read_parquet(folder / "ratings.parquet")
    movies = pl.read_parquet(folder / "movies.parquet")
    assert (len(ratings), ratings["userId"].n_unique(), len(movies)) == (100_004, 671, 9_066)
    assert ratings["movieId"].is_in(movies["movieId"].implode()).all()
    assert movies["title"].null_count() == 5


@pytest.mark.slow
def test_embedded_language_model_can_be_trained_and_speaks(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = resolve("smollm2-135m-instruct", cache_dir=tmp_path)
    model = AutoModelForCausalLM.from_pretrained(found.path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(found.path)
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert getattr(model.config, "quantization_config", None) is None
    tokens = tokenizer("The capital of France is", return_tensors="pt")
    with torch.inference_mode():
        best = model(**tokens).logits[0, -1].argmax()
    assert tokenizer.decode(best).strip() == "Paris"


# what the version in the registry was raised for; a change of what is written goes with a raise there
CONVERTERS = {
    "gguf": ("smollm2-135m-instruct", 1, "473dd77042aac635"),
    "movielens-table": ("movielens-small", 1, "0e45266a262ca00b"),
}


@pytest.mark.parametrize("name", CONVERTERS)
def test_a_changed_conversion_raises_the_assets_version(name: str) -> None:
    asset, version, pinned = CONVERTERS[name]
    tree = ast.parse(inspect.getsource(convert.CONVERSIONS[name])).body[0]
    assert isinstance(tree, ast.FunctionDef)
    code = "\n".join(ast.unparse(statement) for statement in tree.body[1:])
    found = hashlib.sha256(code.encode()).hexdigest()[:16]
    assert (REGISTRY[asset].version, found) == (version, pinned), "raise Asset.version, then write both here"


def test_every_conversion_is_pinned() -> None:
    used = {source.convert for asset in REGISTRY.values() for source in asset.sources} - {None}
    assert used == set(convert.CONVERSIONS) == set(CONVERTERS)
