"""What long work writes on a terminal."""

import io
import logging
import os
import subprocess
import sys

import pytest
from tqdm import tqdm

from ilm_lightning.progress import BesideBars, without_bars


def test_a_message_has_a_line_of_its_own_beside_a_bar() -> None:
    stream = io.StringIO()
    handler = BesideBars(stream)
    with tqdm(total=3, file=stream, desc="tune") as bar:
        bar.update(1)
        handler.emit(logging.makeLogRecord({"msg": "validation 1.25"}))
    # what a terminal shows: a carriage return begins the line anew
    lines = [line.split("\r")[-1] for line in stream.getvalue().split("\n")]
    assert "validation 1.25" in lines
    assert lines[-2].startswith("tune: ")


@pytest.mark.parametrize("decided", [None, "1"])
def test_bars_of_transformers_are_hidden_and_shown_again_without_a_warning(decided: str | None) -> None:
    # in a process of its own: the hub's client reads the environment when it is imported
    told = (
        "from transformers.utils import logging as bars\n"
        "from ilm_lightning.progress import without_bars\n"
        "with without_bars():\n"
        "    print(bars.is_progress_bar_enabled())\n"
        "print(bars.is_progress_bar_enabled())\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_DISABLE_PROGRESS_BARS"}
    if decided is not None:
        environment["HF_HUB_DISABLE_PROGRESS_BARS"] = decided
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", told],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == ["False", str(decided is None)], done.stderr


def test_bars_that_were_hidden_before_stay_hidden() -> None:
    from transformers.utils import logging as bars

    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        with without_bars():
            pass
        assert not bars.is_progress_bar_enabled()
    finally:
        if shown:
            bars.enable_progress_bar()
