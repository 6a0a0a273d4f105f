import pytest

from ilm_lightning.engine.validate import TASKS
from ilm_lightning.reporting import paper


def test_values_are_the_printed_ones() -> None:
    # read off the paper
    assert paper.table("2").value("all", "ILM-Combined") == 85.44
    assert paper.table("3").value("five neg char.", "ILM-QFormer-fullyfinetune") == 93.89
    assert paper.table("10").value("all", "ILM-QFormer") == 80.87
    assert paper.table("4").value("ILM-ITC-UIC(seen)", "Beauty HR@10") == 0.027
    assert paper.table("8").value("ILM-IT-II", "Beauty eval") == 3.2567
    assert paper.openp5_baselines()["SASRec"]["Beauty NDCG@10"] == 0.0318


def test_full_columns_of_tables_3_9_10_are_table_2() -> None:
    for encoder, number in paper.ENCODER_TABLES.items():
        column = f"ILM-{encoder.capitalize()}"
        for row in paper.table("2").rows:
            assert paper.table(number).value(row, "ILM-QFormer-fullyfinetune") == paper.table("2").value(row, column)
            assert paper.table(number).value(row, "ELM") == paper.table("2").value(row, "ELM")


@pytest.mark.parametrize("number", ["2", "3", "9", "10"])
def test_mean_is_that_of_24_tasks(number: str) -> None:
    table = paper.table(number)
    printed = [row for row in table.rows if row != paper.ALL]
    assert len(printed) == 23
    for column in table.columns:
        total = sum(table.value(row, column) for row in printed) + table.value(paper.UNPRINTED, column)
        assert total / 24 == pytest.approx(table.value(paper.ALL, column), abs=0.011)


def test_every_task_has_its_row() -> None:
    assert set(paper.TASK_ROWS) == set(TASKS)
    rows = set(paper.table("3").rows) - {paper.ALL}
    assert set(paper.TASK_ROWS.values()) - rows == {paper.UNPRINTED}


def test_misprints_and_source_are_told() -> None:
    assert "impossible" in paper.table("6").notes[0]
    assert "impossible" in paper.table("8").notes[0]
    assert "bolds ELM" in paper.table("10").notes[1]
    assert "Item Language Model" in paper.source()


def test_what_is_not_printed_is_an_error() -> None:
    with pytest.raises(paper.PaperError, match="no Table 12"):
        paper.table("12")
    with pytest.raises(paper.PaperError, match="no row 'haiku'"):
        paper.table("3").value("haiku", "ELM")
    with pytest.raises(paper.PaperError, match="its columns are ELM, ILM-MLP"):
        paper.table("3").value("all", "CoLLM")
    assert paper.table("3").find("all", "CoLLM") is None
