"""Tags cleaned and chosen."""

import os
from pathlib import Path

import polars as pl
import pytest

from ilm_lightning.data.errors import DataError
from ilm_lightning.data.tags import LONGEST, TagSettings, best_user_tags, clean_tag


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  Film\tNoir \n", "film noir"),
        ("Wallace &amp; Gromit", "wallace & gromit"),
        ("&quot;quoted&quot;", "quoted"),
        ("50&#39;s", "50's"),
        ("RenÃ©e Zellweger", "renée zellweger"),
        ("Gael GarcÃ\xada Bernal", "gael garcía bernal"),
        ("Schindlerâ€™s list", "schindler’s list"),
        ("Ação", "ação"),
        ("aaâ", "aaâ"),
        ("坚强", "坚强"),
        ("Cafe\u0301", "café"),
        ("nul\x00byte\x07", "nul byte"),
        ("\x00\x00", ""),
        ("lost\ufffdchar", "lost char"),
        ("\xa0", ""),
        ("", ""),
        (":-)", ""),
        ("007", "007"),
        ('Dwayne "The Rock" Johnson', 'dwayne "the rock" johnson'),
        ('say "hi"', 'say "hi"'),
        ('"A" and "B"', '"a" and "b"'),
        ('" Film Noir "', "film noir"),
        ("“Film Noir”", "film noir"),
        ("„Film Noir“", "film noir"),
        ('"twice ""', "twice"),
        ('""', ""),
        ("x" * LONGEST, "x" * LONGEST),
        ("x" * (LONGEST + 1), ""),
    ],
)
def test_a_tag_is_cleaned(raw: str, clean: str) -> None:
    assert clean_tag(raw) == clean
    assert clean_tag(clean) == clean


def tags(*rows: tuple[int, int, str | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"userId": pl.UInt32, "movieId": pl.UInt32, "tag": pl.String}, orient="row")


def chosen(table: pl.DataFrame, **settings: object) -> dict[int, list[str]]:
    return dict(best_user_tags(table, **{"per_item": 9, **settings}).iter_rows())  # type: ignore[arg-type]


def test_tags_come_by_users_here_then_anywhere_then_name() -> None:
    table = tags(
        (1, 7, "Dark"), (2, 7, "dark "), (1, 7, "dark"),  # two users
        (1, 7, "zebra"), (1, 7, "apple"), (1, 7, "known"),
        (1, 8, "known"), (2, 8, "KNOWN"), (3, 8, ":-)"), (3, 8, None),
        (4, 9, ""),
    )  # fmt: skip
    assert chosen(table) == {7: ["dark", "known", "apple", "zebra"], 8: ["known"]}
    assert chosen(table, per_item=2) == {7: ["dark", "known"], 8: ["known"]}
    assert chosen(table, leave_out=frozenset({"dark", "known"})) == {7: ["apple", "zebra"]}


def test_the_order_of_the_file_does_not_matter() -> None:
    table = tags(*((user, movie, f"tag {user * movie % 5}") for user in range(1, 9) for movie in range(1, 6)))
    assert chosen(table) == chosen(table.reverse()) == chosen(table.sample(fraction=1.0, shuffle=True, seed=1))


def test_no_tags_at_all() -> None:
    assert chosen(tags()) == {}


@pytest.mark.parametrize("bad", [{"per_item": -1}, {"genome_per_item": -1}, {"genome_min_relevance": 1.5}])
def test_impossible_settings_are_named(bad: dict[str, float]) -> None:
    with pytest.raises(DataError, match=r"at least 0|\[0, 1\]"):
        TagSettings(**bad)  # type: ignore[arg-type]


def test_real_tags_are_readable_once_cleaned() -> None:
    root = os.environ.get("ILM_DATA")
    path = Path(root or "") / "ml-latest-2023-sample" / "tags.parquet"
    if not root or not path.is_file():
        pytest.skip("tags of ml-latest (2023) may not be redistributed: set ILM_DATA to the folder that holds them")
    raw = pl.read_parquet(path)
    clean = {tag: clean_tag(tag) for tag in raw["tag"].unique()}
    # remarks and signs leave; nearly every application stays
    kept = raw["tag"].replace_strict(clean) != ""
    assert kept.mean() > 0.995  # type: ignore[operator]
    assert not [tag for tag in clean.values() if "Ã" in tag or "ã©" in tag]
    assert len(set(clean.values())) < 0.95 * len(clean)
