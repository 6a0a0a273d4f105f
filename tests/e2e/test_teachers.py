"""Whole runs whose targets a language model writes: an endpoint on this machine, or a tiny model."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from e2e.test_pipeline import run
from ilm_lightning.tasks.teachers.errors import TeacherError
from tasks.parrot import SAYING, parrot
from tasks.teacher_server import LIST, TEXT, ChatServer, Fault, chat_server

KEY = "sk-very-secret-0123456789"
QUICK = [
    "experiment=ilm_mlp", "tasks.names=[summary,similarities,five_positive_characteristics]",
    "evaluation.conditions=[own]", "evaluation.losses=false", "tuning.steps=2", "tuning.val_every=2",
]  # fmt: skip
CAPS = ["teacher.max_train_examples=8", "teacher.max_validation_examples=2", "teacher.max_test_examples=4"]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setenv("ILM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TEACHER_KEY", KEY)
    with chat_server() as running:
        yield running


def endpoint(server: ChatServer) -> list[str]:
    return [
        "teacher=endpoint", f"teacher.url={server.url}", "teacher.model=org/tiny", "teacher.api_key_env=TEACHER_KEY",
        *CAPS,
    ]  # fmt: skip


def train(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ilm_lightning.train", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=dict(os.environ))


@pytest.mark.slow
def test_the_command_learns_from_an_endpoint_and_hides_the_key(
    tiny_settings: list[str], tmp_path: Path, server: ChatServer
) -> None:
    server.faults = [Fault(429, headers={"Retry-After": "0"}), Fault(200, b"{", cut=1)]
    arguments = [*QUICK, *tiny_settings, *endpoint(server), "teacher.body.top_k=3"]
    done = train(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "42 questions, 0 answered before, 42 to be sent" in done.stderr
    assert len(server.bodies) == 42 + 2
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert server.bodies[0]["top_k"] == 3
    folder = next((tmp_path / "outputs").glob("*/metrics.json")).parent
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["protocol"]["teacher"] == "endpoint org/tiny (prompts-2, greedy)"
    assert "teacher: endpoint org/tiny (prompts-2, greedy)" in " ".join(done.stderr.split())
    taught = metrics["run"]["taught"]
    assert (taught["asked"], taught["targets"], taught["usage"]["answer_tokens"]) == (42, 42, 42 * 50)
    assert taught["settings"]["request"] == {"max_tokens": 256, "temperature": 0.0, "top_k": 3}
    assert set(pl.read_parquet(folder / "predictions.parquet")["target"]) == {TEXT, LIST}
    assert "a language model's answers" in (folder / "model" / "README.md").read_text()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in files if b"very-secret" in path.read_bytes()] == []
    assert "very-secret" not in done.stderr + done.stdout


def test_an_endpoint_that_dies_in_the_middle_costs_nothing(
    tiny_overrides: list[str], tmp_path: Path, server: ChatServer, caplog: pytest.LogCaptureFixture
) -> None:
    count = {"left": 15}

    def reply(body: dict[str, object]) -> str:
        count["left"] -= 1
        server.faults = [Fault(401)] * 99 if count["left"] == 0 else []
        return TEXT

    server.reply = reply
    overrides = [*QUICK[:1], "tasks.names=[summary,pitch]", *QUICK[2:], *tiny_overrides, *endpoint(server)]
    with pytest.raises(TeacherError, match="refuses the API key"):
        run([*overrides, "teacher.concurrency=1"])
    assert json.loads(next((tmp_path / "outputs").glob("*/status.json")).read_text())["state"] == "failed"
    assert len(server.bodies) == 16
    with chat_server() as moved:
        # another address, another pace: the same run and the same answers
        _, folder = run([*overrides, f"teacher.url={moved.url}/v1", "teacher.requests_per_minute=100000"])
        assert len(list((tmp_path / "outputs").iterdir())) == 1
        assert len(moved.bodies) == 28 - 15
        assert not {*moved.questions()} & {*server.questions()[:15]}
        assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    # nobody is there any more: what is finished needs nobody
    run([*overrides, f"teacher.url={moved.url}/v1"])
    assert "going on with the 28 answers" in caplog.text


def test_an_endpoint_that_is_down_is_told_before_anything_is_computed(
    tiny_overrides: list[str], tmp_path: Path, server: ChatServer
) -> None:
    with chat_server() as gone:
        pass
    with pytest.raises(TeacherError, match=f"{gone.url}/v1/chat/completions cannot be reached.*start the server"):
        run([*QUICK, *tiny_overrides, *endpoint(gone)])
    assert not (tmp_path / "artifacts").exists()


def test_a_local_model_teaches(tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILM_CACHE", str(tmp_path / "cache"))
    folder = parrot(tmp_path / "parrot")
    overrides = [*QUICK[:1], "tasks.names=[summary,interpolation]", *QUICK[2:], *tiny_overrides, *CAPS]
    _, results = run([*overrides, "teacher=lm", f"teacher.model={folder}", "teacher.dtype=float32"])
    protocol = json.loads((results / "metrics.json").read_text())["protocol"]
    assert protocol["teacher"] == "lm parrot (prompts-2, greedy)"
    assert set(pl.read_parquet(results / "predictions.parquet")["target"]) == {SAYING}
    stores = list((tmp_path / "cache" / "teachers").glob("parrot-*.sqlite"))
    assert len(stores) == 1
