"""A finished run opened again."""

from pathlib import Path

import pytest
import torch

from exported import exported
from ilm_lightning.engine.loaded import open_run


# on any processor, one of each pair is not what `auto` would take
@pytest.mark.parametrize(
    ("section", "key", "value", "dtype"),
    [
        ("lm", "dtype", "float32", torch.float32),
        ("lm", "dtype", "bfloat16", torch.bfloat16),
        ("trainer", "precision", "32-true", torch.float32),
        ("trainer", "precision", "bf16-mixed", torch.bfloat16),
    ],
)
def test_a_run_answers_in_the_arithmetic_that_it_was_evaluated_in(
    section: str, key: str, value: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    folder = exported(tmp_path)
    config = folder / "config.yaml"
    head, mark, rest = config.read_text().partition(f"\n{section}:\n")
    config.write_text(head + mark + rest.replace(f"  {key}: auto", f"  {key}: {value}", 1))
    run = open_run(folder)
    assert getattr(getattr(run.config, section), key) == value
    run.load_model()
    assert next(run.model.lm.parameters()).dtype == dtype
