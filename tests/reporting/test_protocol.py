"""What keeps two numbers apart."""

import json
from pathlib import Path
from typing import Any

import pytest
from synthetic import config_of, predictions_of, write_run

from ilm_lightning.reporting.protocol import protocol_of
from ilm_lightning.reporting.runs import read_runs


@pytest.mark.parametrize(
    ("told", "scorer"),
    [
        ({"scorer_precision": "bfloat16"}, "all-MiniLM-L6-v2 in bfloat16"),
        ({"scorer_precision": "float32"}, "all-MiniLM-L6-v2 in float32"),
        # written before it was told: as its machine encodes
        ({"run": {"hardware": {"bf16": True}}}, "all-MiniLM-L6-v2 in bfloat16"),
        ({"run": {"hardware": {"bf16": False}}}, "all-MiniLM-L6-v2 in float32"),
        ({"run": {"hardware": {"bf16": False, "gpus": ["H200"]}}}, "all-MiniLM-L6-v2 in bfloat16"),
        ({"run": {"hardware": {"bf16": False}}, "scorer_precision": "bfloat16"}, "all-MiniLM-L6-v2 in bfloat16"),
        ({}, "all-MiniLM-L6-v2"),
        ({"scorer": None}, "unknown"),
    ],
)
def test_the_scorers_precision_is_part_of_its_name(told: dict[str, Any], scorer: str, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", config_of("ilm_mlp"), predictions_of(50.0, 0))
    file = folder / "metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | told))
    ((run,), _, _) = read_runs([tmp_path])
    assert protocol_of(run, None).scorer == scorer
