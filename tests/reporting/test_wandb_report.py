"""What is sent to Weights & Biases, caught by a client that keeps it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from synthetic import HOSTILE, config_of, planted, predictions_of, write_run
from test_rankings import write_ranking

from ilm_lightning import dashboard

wandb = pytest.importorskip("wandb", reason="needs the wandb extra")
interface = pytest.importorskip("wandb_workspaces.reports.v2.interface", reason="needs the wandb extra")


class Client:
    """Answers as the service would, and keeps what it was sent."""

    default_entity = "team"

    def __init__(self, *_: Any, **__: Any) -> None:
        self.created: list[str] = []

    def projects(self, entity: str) -> list[Any]:
        return []

    def create_project(self, name: str, entity: str) -> None:
        self.created.append(f"{entity}/{name}")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []

    def execute(api: Any, query: str, variables: Any = None) -> dict[str, Any]:
        if "upsertView" not in str(query):
            return {"project": {"internalId": "UHJvamVjdEludGVybmFsSWQ6MQ=="}}
        kept.append(dict(variables))
        view = {"id": "VmlldzoxMjM=", "name": "n", "displayName": variables["displayName"], "spec": variables["spec"],
                "description": "", "project": {"name": "ilm", "entityName": "team"}}  # fmt: skip
        return {"upsertView": {"view": view}}

    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr(interface, "_get_api", Client)
    monkeypatch.setattr(interface, "execute_graphql", execute)
    monkeypatch.setattr(interface.wandb, "Api", Client)
    monkeypatch.setattr(interface.Report, "url", property(lambda self: f"https://wandb.ai/team/ilm/reports/{self.id}"))
    monkeypatch.setattr(interface.wandb, "termlog", lambda *_: None)
    monkeypatch.setattr("ilm_lightning.reporting.wandb_report.logged_in", lambda: True)
    return kept


def publish(root: Path, *more: str) -> int:
    command = [
        str(root / "runs"),
        "--html",
        str(root / "p.html"),
        "--resamples",
        "200",
        "--wandb",
        "ilm",
        "--entity",
        "team",
    ]
    return dashboard.main([*command, *more])


def test_tables_claims_and_panels_are_sent(
    sent: list[dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = planted(tmp_path / "runs", {("ilm_qformer", "combined"): 55.0, ("ilm_mlp", "combined"): 50.0})
    secret = config_of("ilm_qformer_lora")
    write_run(root / "x", secret, predictions_of(52.0, 0), protocol={"teacher": f"facts {HOSTILE} {'f' * 40}"})
    assert publish(tmp_path, "--title", "Tables of tonight") == 0
    assert "W&B report: https://wandb.ai/team/ilm/reports/VmlldzoxMjM=" in caplog.text
    (request,) = sent
    assert (request["entityName"], request["projectName"], request["displayName"]) == (
        "team",
        "ilm",
        "Tables of tonight",
    )
    spec = json.loads(request["spec"])
    text = json.dumps(spec)
    assert "f" * 40 not in text
    kinds = [block["type"] for block in spec["blocks"]]
    assert kinds.count("panel-grid") == 6  # results and two stages of two protocols
    assert any("Table 3: language tasks, combined vectors" in json.dumps(b) for b in spec["blocks"])
    tables = [b["content"] for b in spec["blocks"] if b["type"] == "markdown-block"]
    assert any("| ILM-QFormer (3 seeds, 450 × 8)" in t and "**55." in t for t in tables)
    assert any("7. Quality rises" in t for t in tables)
    assert not any("<script" in t or "<u>" in t for t in tables)


def test_panels_ask_for_the_rows_of_the_table(sent: list[dict[str, Any]], tmp_path: Path) -> None:
    planted(tmp_path / "runs", {("ilm_qformer", "combined"): 55.0, ("ilm_mlp", "combined"): 50.0}, seeds=(0,))
    assert publish(tmp_path) == 0
    results, *grids = [b for b in json.loads(sent[0]["spec"])["blocks"] if b["type"] == "panel-grid"]
    bars = json.dumps(results)
    assert '"evaluate"' in bars
    assert bars.count('"Bar Chart"') == 4
    assert all(name in bars for name in ("test/sc/own", "run/seconds/tune", "run/peak_memory_gib", '"texts"'))
    asked = json.dumps(grids[0])
    assert '"ilm_mlp"' in asked
    assert '"ilm_qformer"' in asked
    assert '"tune"' in asked
    assert "val/loss" in asked
    assert '"pretrain"' in json.dumps(grids[1])


def test_recommendation_is_sent_too(sent: list[dict[str, Any]], tmp_path: Path) -> None:
    for name in ("ilm", "rand"):
        write_ranking(tmp_path / "runs", name, 0.4)
    assert publish(tmp_path) == 0
    blocks = json.loads(sent[0]["spec"])["blocks"]
    (told,) = [b["content"] for b in blocks if b["type"] == "markdown-block" and "### Table 6, Beauty" in b["content"]]
    assert "| ILM-rand (frozen) | seen |" in told
    assert "**." in told
    assert "<u>" not in told
    asked = [json.dumps(b) for b in blocks if b["type"] == "panel-grid"]
    assert len(asked) == 3
    assert "test/hr@10/sequential, seen" in asked[0]
    assert '"lists"' in asked[0]
    assert "val/hr10" in asked[1]
    assert '"rand"' in asked[1]


def test_figure_3_is_sent(sent: list[dict[str, Any]], tmp_path: Path) -> None:
    for queries in (1, 8):
        config = config_of("ilm_mlp", adapter__num_queries=queries)
        write_run(tmp_path / "runs" / str(queries), config, predictions_of(50.0 + queries, 0))
    assert publish(tmp_path) == 0
    blocks = json.loads(sent[0]["spec"])["blocks"]
    assert any("Figure 3: number of soft tokens" in b.get("content", "") for b in blocks)


def test_without_a_login_the_page_is_there_and_the_error_says_what_to_do(
    sent: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ilm_lightning.reporting.wandb_report.logged_in", lambda: False)
    planted(tmp_path / "runs", {("ilm_qformer", "combined"): 55.0}, seeds=(0,))
    assert publish(tmp_path) == 1
    assert "wandb login" in caplog.text
    assert (tmp_path / "p.html").is_file()
    assert sent == []


def test_a_refusal_of_the_service_is_told(
    sent: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> SimpleNamespace:
        raise wandb.errors.CommError(f"permission denied for {'f' * 40}")

    monkeypatch.setattr(interface, "execute_graphql", refuse)
    planted(tmp_path / "runs", {("ilm_qformer", "combined"): 55.0}, seeds=(0,))
    assert publish(tmp_path) == 1
    assert "did not take the report: permission denied for ***" in caplog.text
