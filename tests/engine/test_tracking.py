import sys
from pathlib import Path

import pytest

from ilm_lightning.engine.config import Config
from ilm_lightning.engine.tracking import wandb_logger


def test_missing_wandb_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"pip install 'ilm-lightning\[wandb\]'"):
        wandb_logger(Config(), tmp_path, "tune")
