import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ilm_lightning.permissions import follow_umask


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_weights_are_as_readable_as_any_new_file(tmp_path: Path, umask: int) -> None:
    (tmp_path / "deep").mkdir(mode=0o700)
    files = [tmp_path / "a.safetensors", tmp_path / "deep" / "b.safetensors"]
    for file in files:
        save_file({"x": np.ones(2)}, file)
    plain = tmp_path / "plain"
    plain.write_text("x")
    private = tmp_path / "private.key"
    private.touch(mode=0o600)
    follow_umask(tmp_path)
    assert [mode(file) for file in files] == [mode(plain)] * 2 == [0o666 & ~umask] * 2
    assert mode(private) == 0o600 & ~umask
    # the process's own setting is as it was
    assert os.umask(umask) == umask


def test_one_file(tmp_path: Path, umask: int) -> None:
    file = tmp_path / "a.safetensors"
    save_file({"x": np.ones(2)}, file)
    follow_umask(file)
    assert mode(file) == 0o666 & ~umask
