"""What is wrong with the user's own small files is told before anything heavy, large ones wait."""

from pathlib import Path

import pytest

from ilm_lightning.data.errors import DataError
from ilm_lightning.engine.config import DataConfig
from ilm_lightning.engine.validate_custom import SMALL_BYTES, check_custom_files

EVENTS = "user,item\nann,heat\nann,alien\nbob,heat\nbob,alien\n"
ITEMS = "item,title,genres\nheat,Heat,Crime\nalien,Alien,Horror\nunseen,Nobody rated me,\n"


def files(folder: Path, events: str = EVENTS, items: str = ITEMS, min_ratings: int = 1) -> DataConfig:
    (folder / "events.csv").write_text(events, encoding="utf-8")
    (folder / "items.csv").write_text(items, encoding="utf-8")
    paths = {name: str(folder / f"{file}.csv") for name, file in (("interactions", "events"), ("items", "items"))}
    return DataConfig(name="mine", kind="custom", min_ratings=min_ratings, **paths)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("events", "items", "min_ratings", "message"),
    [
        ("user,item\n", ITEMS, 1, "events.csv: no interactions"),
        (EVENTS, "item,title\n", 1, "items.csv: no items"),
        ("user,item\na,heat\nb,heat\n", "item,title\nheat,Heat\n", 1, "at least two are needed"),
        ("user,item,rating\na,heat,great\n", ITEMS, 1, "'great', which is not a number"),
        (EVENTS, ITEMS, 5, r"0 of 3 items have at least 5 ratings; lower data\.min_ratings"),
    ],
)
def test_rows_of_small_files_are_checked(
    events: str, items: str, min_ratings: int, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        check_custom_files(files(tmp_path, events, items, min_ratings))


def test_good_rows_pass_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    check_custom_files(files(tmp_path))
    assert caplog.text == ""


def test_large_files_are_read_by_the_stage_alone(tmp_path: Path) -> None:
    wrong = "user,item,rating\na,heat,great\n"
    check_custom_files(files(tmp_path, wrong + "b,heat,\n" * (SMALL_BYTES // 8)))
    with pytest.raises(DataError, match="column 'item' is missing"):
        check_custom_files(files(tmp_path, "user,thing\n" + "b,heat\n" * (SMALL_BYTES // 6)))
