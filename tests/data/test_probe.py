"""A file that kills who reads it kills a worker, not the run."""

import os
from pathlib import Path

import polars as pl
import pytest

from ilm_lightning.data import probe
from ilm_lightning.data.custom import read_custom
from ilm_lightning.data.errors import DataError
from ilm_lightning.data.probe import check_parquet
from ilm_lightning.data.tables import ItemCatalog
from impossible_parquet import impossible

EVENTS = pl.DataFrame({"user": ["u0", "u1", "u1"], "item": ["m0", "m1", "m2"]})
ITEMS = pl.DataFrame({"item": ["m0", "m1", "m2"], "title": ["Heat", "Big", "Alien"]})


def write(path: Path, frame: pl.DataFrame, damaged: bool = False) -> Path:
    frame.write_parquet(path)
    if damaged:
        path.write_bytes(impossible(path.read_bytes()))
    return path


def test_a_deadly_file_is_refused_and_the_next_one_read(tmp_path: Path) -> None:
    whole, deadly = write(tmp_path / "whole.parquet", EVENTS), write(tmp_path / "deadly.parquet", EVENTS, damaged=True)
    check_parquet(whole)
    first = probe._workers[os.getpid()].pid
    with pytest.raises(OSError, match="kills the process"):
        check_parquet(deadly)
    check_parquet(write(tmp_path / "other.parquet", ITEMS))
    assert probe._workers[os.getpid()].pid != first
    # it is not taken for read because it was looked at
    with pytest.raises(OSError, match="kills the process"):
        check_parquet(deadly)


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "whole.parquet", EVENTS)
    check_parquet(path)
    probe.stop()
    check_parquet(path)
    assert os.getpid() not in probe._workers
    path.write_bytes(impossible(path.read_bytes()))
    os.utime(path, ns=(1, 1))
    with pytest.raises(OSError, match="kills the process"):
        check_parquet(path)


def test_what_is_wrong_otherwise_is_for_the_reader_to_say(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("user,item\n")
    check_parquet(tmp_path / "text.parquet")
    with pytest.raises(FileNotFoundError):
        check_parquet(tmp_path / "missing.parquet")


def test_a_worker_of_before_a_fork_is_left_to_the_parent(tmp_path: Path) -> None:
    check_parquet(write(tmp_path / "whole.parquet", EVENTS))
    ours = probe._workers[os.getpid()]
    child = os.fork()
    if child == 0:
        # only what may be done after a fork: no polars
        theirs = probe._worker()
        probe.stop()
        os._exit(0 if theirs.pid != ours.pid else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ours.poll() is None


@pytest.mark.parametrize("which", ["e", "i"])
def test_the_users_files(which: str, tmp_path: Path) -> None:
    events = write(tmp_path / "e.parquet", EVENTS, damaged=which == "e")
    items = write(tmp_path / "i.parquet", ITEMS, damaged=which == "i")
    with pytest.raises(DataError, match=rf"{which}\.parquet: not readable \(damaged inside.*write the file again"):
        read_custom(events, items)


def test_a_catalogue_whose_bytes_nobody_compared(tmp_path: Path) -> None:
    ItemCatalog.from_rows([{"item_id": "6", "title": "Heat"}]).write(tmp_path / "items.parquet")
    assert len(ItemCatalog.read(tmp_path / "items.parquet")) == 1
    (tmp_path / "items.parquet").write_bytes(impossible((tmp_path / "items.parquet").read_bytes()))
    with pytest.raises(DataError, match=r"items\.parquet: not readable as parquet \(damaged inside"):
        ItemCatalog.read(tmp_path / "items.parquet")
