"""``python -m ilm_lightning.prepare`` as a user types it."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from ilm_lightning.engine.artifacts import Store
from ilm_lightning.engine.config import Config, DataConfig
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.openp5 import load_sequences, prepare_openp5
from warm import Done, run_command


def run(*arguments: str, folder: Path, **environment: str) -> Done:
    return run_command("ilm_lightning.prepare", *arguments, cwd=folder, **environment)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "Shop"
    folder.mkdir()
    lines = ["ann soap gel comb oil", "bob gel soap oil", "cid oil comb soap gel"]
    (folder / "user_sequence.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "texts.tsv").write_text(
        "asin\ttitle\tbrand\tcategories\nsoap\tRose \"Soap\"\tAcme\t'Beauty', 'Bath', 'Soap & Co'\n"
        "gel\tGel\t\t'Beauty'\n"
    )
    return tmp_path


def test_statistics_of_any_folder_are_printed(shop: Path) -> None:
    done = run(
        "data=openp5", f"data.path={shop / 'Shop'}", "data.name=Shop", f"data.items={shop / 'texts.tsv'}", folder=shop
    )
    assert done.returncode == 0, done.stderr
    for text in ("phase 2: training examples", "40", "sequential (written anew)"):
        assert text in done.stderr
    # no run began
    assert not (shop / "outputs").exists()


@pytest.mark.parametrize("kind", ["custom", pytest.param("openp5", marks=pytest.mark.slow)])
def test_preparing_loads_no_torch(shop: Path, kind: str) -> None:
    rows = [f"u{user},i{item},5,{item}" for user in range(4) for item in range(user, user + 5)]
    (shop / "events.csv").write_text("\n".join(["user,item,rating,timestamp", *rows]) + "\n")
    (shop / "items.csv").write_text("item,title\n" + "".join(f"i{item},Film {item}\n" for item in range(9)))
    own = {
        "openp5": ["data=openp5", f"data.path={shop / 'Shop'}", "data.name=Shop", f"data.items={shop / 'texts.tsv'}"],
        "custom": [
            "data=custom",
            f"data.interactions={shop / 'events.csv'}",
            f"data.items={shop / 'items.csv'}",
            "data.min_ratings=1",
        ],
    }
    code = (
        "import sys; from ilm_lightning.engine.command import hydra_command; from ilm_lightning.prepare import run; "
        "status = hydra_command('train', run, in_turn=True); sys.exit(9 if 'torch' in sys.modules else status)"
    )
    for said in ("done in", "there already"):
        done = subprocess.run(
            [sys.executable, "-c", code, *own[kind]], cwd=shop, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert said in done.stderr


def test_a_sweep_prepares_one_data_set_after_another(shop: Path) -> None:
    rows = [f"{user},{item},5,{time}" for user in "abcde" for time, item in enumerate("vwxyz")]
    (shop / "Raw").mkdir()
    # a's last two items have one time
    (shop / "Raw" / "ratings_Shop.csv").write_text("\n".join(rows).replace("a,z,5,4", "a,z,5,3") + "\n")
    done = run("-m", "data=openp5", "data.name=Shop", f"data.path={shop / 'Shop'},{shop / 'Raw'}", folder=shop)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("phase 2: training examples") == 2
    (line,) = [line for line in done.stderr.splitlines() if "users whose last two items have the same time" in line]
    assert "1" in line.split("time")[1]
    failed = run("-m", "data=openp5", "data.name=Shop", f"data.path={shop / 'None'},{shop / 'Raw'}", folder=shop)
    assert failed.returncode == 1
    assert "None: there is no such file or folder" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_stage_keeps_everything(shop: Path) -> None:
    data = DataConfig(name="Shop", kind="openp5", path=str(shop / "Shop"), items=str(shop / "texts.tsv"), min_ratings=0)
    context = Context(Config(data=data), Store(shop / "artifacts"), shop)
    made = prepare_openp5(context)
    sequences, indexing = load_sequences(made)
    assert sequences.item_ids == ["soap", "gel", "comb", "oil"]
    assert sequences.items(2).tolist() == [3, 2, 0, 1]
    assert indexing.items == ["1001", "1002", "1004", "1003"]
    items = pl.read_parquet(made.path / "items.parquet")
    assert items["title"].to_list() == ['Rose "Soap"', "Gel", "", ""]
    assert items["genres"].to_list()[:2] == [["Bath", "Soap & Co"], []]
    assert items["tags"].to_list()[:2] == [["Acme"], []]
    assert made.report["items_without_text"] == 2
    # what is held out is in no table that training reads
    pairs = pl.read_parquet(made.path / "interactions.parquet").select("user", "item").rows()
    assert set(pairs) == {(0, 0), (0, 1), (1, 1), (2, 3), (2, 2)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data=openp5_beauty"], "set ILM_DATA"),
        (["data=openp5", "data.name=Shop"], "needs data.path=FOLDER"),
        (["data=openp5", "data.name=Shop", "data.path=."], "user_sequence.txt is missing"),
        (["data=openp5", "data.name=Shop", "data.path=Shop", "data.items=none.tsv"], "data.items=none.tsv"),
        (["data=openp5", "data.name=Shop", "data.path=Shop", "data.indexing=alphabetic"], "data.indexing=alphabetic"),
        (["data=openp5", "data.name=Shop", "data.path=Shop", "data.items=Shop"], "neither movies.dat nor u.item"),
        (["data=openp5", "data.name=Shop", "data.path=Shop", "data.items=odd.tsv"], "column 'brand' is missing"),
        (["data=openp5", "data.name=Shop", "data.path=Shop", "data.items=other.tsv"], "none of the 4 items"),
    ],
)
def test_bad_input_is_told(shop: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ILM_DATA", raising=False)
    (shop / "odd.tsv").write_text("asin\ttitle\n")
    (shop / "other.tsv").write_text("asin\ttitle\tbrand\tcategories\nx\tX\t\t\n")
    done = run(*arguments, folder=shop)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_of_raw_data_that_is_not_there_is_told(shop: Path) -> None:
    gone = str(shop / "gone")
    for arguments in (["data=openp5_ml100k"], ["data=openp5_ml100k", "data.items=null"]):
        done = run(*arguments, folder=shop, ILM_DATA=gone)
        assert done.returncode == 1
        assert f"ILM_DATA={gone}: there is no such folder" in done.stderr
        assert "set ILM_DATA to the folder of the raw data" in done.stderr
    # nothing is read from it here
    own = ["data=openp5", f"data.path={shop / 'Shop'}", "data.name=Shop", "data.items=null"]
    assert run(*own, folder=shop, ILM_DATA=gone).returncode == 0
