"""Loggers: what is refused before a run, what a phase hands over, and what stays out."""

import logging
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ilm_lightning.engine.artifacts import SCRATCH, Store
from ilm_lightning.engine.checks import ConfigError
from ilm_lightning.engine.command import mask_secrets
from ilm_lightning.engine.config import Config
from ilm_lightning.engine.config_logger import LoggerConfig
from ilm_lightning.engine.tracking import Tracker, axes, plain
from ilm_lightning.engine.validate_logger import check_logger
from wandb_reader import read_runs

KEY = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture(autouse=True)
def _nobody_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.mark.parametrize(
    ("settings", "package", "said"),
    [
        (LoggerConfig(wandb=True), "wandb", r"pip install 'ilm-lightning\[wandb\]'"),
        (LoggerConfig(tensorboard=True), "tensorboard", r"pip install 'ilm-lightning\[tensorboard\]'"),
    ],
)
def test_a_missing_package_is_told_with_the_command(
    settings: LoggerConfig, package: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=said):
        check_logger(settings)


def test_without_a_login_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="needs the wandb extra")
    online = LoggerConfig(wandb=True, offline=False)
    with pytest.raises(ConfigError, match="run `wandb login`, set WANDB_API_KEY, or take logger=wandb_offline"):
        check_logger(online)
    check_logger(replace(online, offline=True))
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_logger(online)
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    check_logger(online)
    monkeypatch.setenv("WANDB_API_KEY", KEY[:30])
    with pytest.raises(ConfigError, match="WANDB_API_KEY has 30 characters, a key at least 40") as caught:
        check_logger(online)
    assert KEY[:30] not in str(caught.value)
    check_logger(replace(online, offline=True))
    monkeypatch.delenv("WANDB_API_KEY")
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai\n login user\n password {KEY}\n")
    (tmp_path / "netrc").chmod(0o600)
    check_logger(online)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (LoggerConfig(samples=-1), "logger.samples=-1"),
        (LoggerConfig(sample_tokens=0), "logger.sample_tokens=0"),
        (LoggerConfig(tags=["x" * 65]), "1 to 64 characters"),
        (LoggerConfig(tags=[""]), "1 to 64 characters"),
    ],
)
def test_impossible_settings_are_named(settings: LoggerConfig, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_logger(settings)


def test_secrets_are_masked_wherever_they_stand() -> None:
    found = plain({"teacher": {"body": {"api_key": KEY, "seed": 3}, "url": "https://me:pass@host"}, "n": [1, None]})
    assert found == {"teacher": {"body": {"api_key": "***", "seed": 3}, "url": "https://***@host"}, "n": [1, None]}


def test_log_lines_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", KEY)
    record = logging.LogRecord("ilm_lightning", logging.INFO, "", 0, "answer of %s: %s, %d%%", ("x", KEY, 3), None)
    assert mask_secrets(record)
    assert record.getMessage() == "answer of x: ***, 3%"


def test_tags_are_the_axes_of_the_tables() -> None:
    config = Config(name="ilm_it")
    config.encoder.name, config.tuning.mode = "combined", "lora"
    config.adapter.kind, config.adapter.init = "qformer", "pretrained"
    config.pretraining.losses = ["itc", "itg"]
    config.data.name = "d" * 80
    tags = axes(config)
    assert {"row=ilm_it", "encoder=combined", "tuning=lora", "phase 1=itc+itg", "queries=8", "seed=0"} <= set(tags)
    assert max(map(len, tags)) == 64


def test_without_loggers_nothing_is_opened(tmp_path: Path) -> None:
    tracker = Tracker(Config(), tmp_path / "run", tmp_path / "artifacts", "tune")
    assert tracker.open(tmp_path) == []
    tracker.close([], tmp_path, True)
    tracker.results({"a": 1.0}, {}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_phase_that_continues_continues_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="needs the wandb extra")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    config = Config(name="row", seed=3, logger=LoggerConfig(wandb=True, group="night", tags=["mine"]))
    tracker = Tracker(config, tmp_path / "run", tmp_path / "artifacts", "tune")
    (tmp_path / "run").mkdir()
    store = Store(tmp_path / "artifacts")
    attempts = []

    def build(work: Path) -> dict[str, object]:
        folder = work / SCRATCH / "tune"
        folder.mkdir(parents=True, exist_ok=True)
        (logger,) = tracker.open(folder)
        attempts.append(logger)
        logger.log_metrics({"train/loss": 1.0 / len(attempts)}, step=len(attempts))
        finished = len(attempts) == 2
        tracker.close([logger], folder, finished)
        if not finished:
            raise KeyboardInterrupt
        return {}

    inputs = {"prepare": "prepare/0123456789abcdef"}
    with pytest.raises(KeyboardInterrupt):
        store.get("tune", {"steps": 2}, inputs, build)
    made = store.get("tune", {"steps": 2}, inputs, build)
    assert not (made.path / SCRATCH).exists()
    # the service writes beside us
    until = time.monotonic() + 30
    while not all(found.run for found in read_runs(tmp_path / "run")) and time.monotonic() < until:
        time.sleep(0.1)
    first, second = read_runs(tmp_path / "run")
    assert first.run.run_id == second.run.run_id
    assert (first.values("train/loss"), second.values("train/loss")) == ([1.0], [0.5])
    for run in (first, second):
        assert (run.run.run_group, run.run.job_type, run.run.display_name) == ("night", "tune", "row-tune-seed3")
        assert {"mine", "row=row", "seed=3"} <= set(run.run.tags)
        assert run.config["lineage"] == inputs
    # what was made is told once it is there
    assert [a.name for a in first.artifacts] == []
    (artifact,) = second.artifacts
    assert (artifact.name, artifact.type) == (f"tune-{made.key}", "tune")
    assert KEY.encode() not in b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
