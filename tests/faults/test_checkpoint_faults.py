"""A phase stopped anywhere and its checkpoints damaged: it ends with the weights of the phase that nobody touched."""

import logging
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.test_training import STEPS, KilledError, Tiny, run
from faults.declared import Fault, fault, marks
from ilm_lightning.engine.checkpoints import BEST, LAST, PREVIOUS, read_checkpoint

AREA = "Checkpoints"
SET_ASIDE = "named, the one before used, same weights at the end"


class Code:
    """What an attacker would put into a pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/ilm-pickle-was-run",)


def stopped(folder: Path, at: int = 7) -> Path:
    """A phase killed in its step; returns the folder of its checkpoints."""
    with pytest.raises(KilledError):
        run(folder, Tiny(kill_at=at))
    return folder / "checkpoints" / "tiny"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run(tmp_path_factory.mktemp("whole"), Tiny())


def ends_the_same(folder: Path, whole: Any) -> None:
    report, state, history = run(folder, Tiny())
    assert report == whole[0]
    assert all(torch.equal(state[name], tensor) for name, tensor in whole[1].items())
    assert history == whole[2]


def flip(path: Path) -> None:
    """Change one bit in the middle of a tensor: the checksum is what notices."""
    with zipfile.ZipFile(path) as packed:
        largest = max((i for i in packed.infolist() if "/data/" in i.filename), key=lambda i: i.file_size)
    data = bytearray(path.read_bytes())
    lengths = struct.unpack_from("<HH", data, largest.header_offset + 26)
    place = largest.header_offset + 30 + sum(lengths) + largest.file_size // 2
    data[place] ^= 4
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "cut at a random place": lambda path: os.truncate(path, random.Random(1).randrange(path.stat().st_size)),
    "empty": lambda path: path.write_bytes(b""),
    "of zeros, as a power cut leaves it": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "one bit of a weight flipped": flip,
    "a pickle that runs a program": lambda path: torch.save({"global_step": 4, "x": Code()}, path),
    "an old-style pickle": lambda path: path.write_bytes(pickle.dumps({"global_step": 4, "x": Code()})),
    "a table of something else": lambda path: torch.save({"a": torch.ones(3)}, path),
}


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(d, id=w.replace(" ", "-"), marks=marks(Fault(AREA, f"the last checkpoint: {w}", SET_ASIDE)))
        for w, d in DAMAGES.items()
    ],
)
def test_damaged_last(
    damage: Callable[[Path], Any],
    whole: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    seen: Callable[[str], None],
) -> None:
    folder = stopped(tmp_path)
    step = read_checkpoint(folder / LAST)["global_step"]
    damage(folder / LAST)
    caplog.set_level(logging.INFO)
    ends_the_same(tmp_path, whole)
    assert not Path("/tmp/ilm-pickle-was-run").exists()
    assert f"continues from step {step - 1}" in caplog.text
    seen(next(m for m in caplog.messages if "damaged" in m))


@fault(AREA, "the last two checkpoints cut", "both named, the phase begins anew, same weights at the end")
def test_both_damaged(
    whole: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, seen: Callable[[str], None]
) -> None:
    folder = stopped(tmp_path)
    for name in (LAST, PREVIOUS):
        os.truncate(folder / name, 100)
    ends_the_same(tmp_path, whole)
    told = [m for m in caplog.messages if "damaged" in m]
    assert len(told) == 2
    seen(told[1])


@fault(AREA, "the best weights so far damaged", "the phase begins anew, same weights at the end")
def test_best_damaged(
    whole: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, seen: Callable[[str], None]
) -> None:
    folder = stopped(tmp_path)
    os.truncate(folder / BEST, 100)
    ends_the_same(tmp_path, whole)
    seen(next(m for m in caplog.messages if "damaged" in m))


@fault(AREA, "killed between writing a checkpoint and putting it in place", "the one before used, same weights")
def test_killed_between(
    whole: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, seen: Callable[[str], None]
) -> None:
    folder = stopped(tmp_path)
    (folder / LAST).replace(folder / "last.ckpt.new")
    caplog.set_level(logging.INFO)
    ends_the_same(tmp_path, whole)
    seen(next(m for m in caplog.messages if "continues" in m))


@fault(AREA, "the folder of artefacts moved between kill and restart", "continues, same weights")
def test_moved(whole: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, seen: Callable[[str], None]) -> None:
    # the best of step 4 must still be known: validations after step 8 are worse
    stopped(tmp_path / "old", at=10)
    (tmp_path / "old").replace(tmp_path / "new")
    caplog.set_level(logging.INFO)
    ends_the_same(tmp_path / "new", whole)
    seen(next(m for m in caplog.messages if "continues" in m))


@fault(AREA, "killed while a line of the loss history is written", "the line is written anew, none twice")
def test_torn_history(whole: Any, tmp_path: Path, seen: Callable[[str], None]) -> None:
    folder = stopped(tmp_path)
    with (folder / "history.csv").open("a") as stream:
        stream.write("9,0.1,val/loss,9.9\r\n8,0.1,val")
    ends_the_same(tmp_path, whole)
    lines = (tmp_path / "history-tiny.csv").read_text().splitlines()
    assert len(lines) == len(set(lines))
    assert all(line.count(",") == 3 for line in lines)
    seen("each step once")


@fault(AREA, "many checkpoints in a phase", "the last two and the best kept, none after the phase")
def test_retention(tmp_path: Path, seen: Callable[[str], None]) -> None:
    folder = stopped(tmp_path, STEPS - 1)
    seen(", ".join(sorted(path.name for path in folder.glob("*.ckpt*"))))
