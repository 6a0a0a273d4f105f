from pathlib import Path

import polars as pl
import pytest
from synthetic import config_of, planted, predictions_of, write_run

from ilm_lightning.reporting import markdown
from ilm_lightning.reporting.document import build
from ilm_lightning.reporting.records import keep_record

LEVELS = {("ilm_mlp", "combined"): 50.0, ("ilm_qformer", "combined"): 55.0}


def test_a_report_on_records_is_the_report_on_the_runs(tmp_path: Path) -> None:
    runs = planted(tmp_path / "runs", LEVELS)
    for run in sorted(runs.iterdir()):
        (run / "history-tune.csv").write_text("step,loss\n1,2.0\n", encoding="utf-8")
        assert keep_record(run, tmp_path / "kept" / run.name)
    of_runs, of_records = (markdown.write(build([folder], 500)) for folder in (runs, tmp_path / "kept"))
    assert of_records.replace(str(tmp_path / "kept"), str(runs)) == of_runs
    (record, *_) = sorted((tmp_path / "kept").iterdir())
    assert sorted(file.name for file in record.iterdir()) == [
        "config.yaml", "history-tune.csv", "metrics.json", "predictions.parquet", "status.json"
    ]  # fmt: skip


def test_a_record_is_smaller_and_written_only_when_the_run_changed(tmp_path: Path) -> None:
    frame = predictions_of(50.0, 0)
    others = frame.with_columns(condition=pl.lit("shuffled"), prompt=pl.lit("x"))
    run = write_run(tmp_path / "run", config_of("ilm_mlp"), pl.concat([frame, others]))
    record = tmp_path / "kept" / "run"
    assert keep_record(run, record)
    kept = pl.read_parquet(record / "predictions.parquet")
    assert set(kept["condition"].unique()) == {"own", "blind"}
    assert "prompt" not in kept.columns
    assert not keep_record(run, record)
    metrics = run / "metrics.json"
    metrics.write_text(metrics.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert keep_record(run, record)
    assert (record / "metrics.json").read_bytes() == metrics.read_bytes()


def test_a_record_keeps_the_ranks_of_recommenders_without_a_language_model(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", config_of("ilm_mlp"), predictions_of(50.0, 0))
    pl.DataFrame({"user": ["u1"], "Markov": [3]}).write_parquet(run / "baselines.parquet")
    assert keep_record(run, tmp_path / "kept" / "run")
    assert pl.read_parquet(tmp_path / "kept" / "run" / "baselines.parquet")["Markov"].to_list() == [3]


def test_a_record_does_not_say_where_the_data_lay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", config_of("ilm_mlp"), predictions_of(50.0, 0))
    config = run / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8") + "# /real/data/openp5 /real/database\n", encoding="utf-8")
    monkeypatch.setenv("ILM_DATA", "/real/data/")
    assert keep_record(run, tmp_path / "record")
    kept = (tmp_path / "record" / "config.yaml").read_text(encoding="utf-8")
    assert kept.endswith("# ${oc.env:ILM_DATA}/openp5 /real/database\n")
