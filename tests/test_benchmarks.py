"""Benchmarks that are commands of their own, at toy sizes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from generated_25m import script

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(file: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / file), *arguments]
    # no GPU: the test is of the script, not of the machine
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.slow
def test_the_gpu_ladder_runs_at_a_toy_size_and_saves_every_rung(tmp_path: Path) -> None:
    out = tmp_path / "ladder.json"
    done = run("gpu_ladder.py", "--size", "toy", "--device", "cpu", "--out", str(out))
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    names = [rung["name"] for rung in found["rungs"]]
    for kind in ("frozen", "lora", "full"):
        for way in ("transformers, labels=", "ours", "ours, activations twice"):
            assert f"phase 2, toy, {kind}: {way}" in names
    assert {"phase 1: ours, bf16", "phase 1: transformers, padded passes, fp32"} <= set(names)
    assert any(name.startswith("greedy decoding") for name in names)
    operations: dict[str, set[float]] = {}
    for rung in found["rungs"]:
        assert rung["ms"] > 0
        assert rung["floor_ms"] > 0
        assert rung["mfu"] is None or 0 < rung["mfu"] < 1.5
        operations.setdefault(rung["name"].partition(":")[0], set()).add(rung["gflop"])
    # ways of the same work are held against the same operations, however many each of them does
    assert all(len(one) == 1 for kind, one in operations.items() if kind.startswith("phase"))
    assert all(min(one) > 0 for kind, one in operations.items() if kind.startswith("phase"))
    assert found["measured_gb_per_s"] > 0
    assert all("GPU alone" in reason for reason in found["left_out"].values())


@pytest.mark.slow
def test_a_used_up_budget_leaves_rungs_out(tmp_path: Path) -> None:
    out = tmp_path / "ladder.json"
    done = run("gpu_ladder.py", "--size", "toy", "--device", "cpu", "--out", str(out), "--budget-s", "0")
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["rungs"] == []
    assert "budget of 0 s" in found["left_out"]["phase 1: ours, fp32"]


@pytest.mark.slow
def test_growth_is_saved_row_by_row_and_other_axes_stay(tmp_path: Path) -> None:
    out = tmp_path / "growth.json"
    for axes in (["head", "examples"], ["head"]):
        done = run("growth.py", "--only", *axes, "--directions", "10000", "--out", str(out))
        assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert [row["axis"] for row in found["rows"]] == ["examples"] * 3 + ["head"] * 4
    assert all(row["cpu_s"] > 0 for row in found["rows"])
    assert found["command"].startswith("python benchmarks/growth.py --only head")
    assert str(tmp_path) not in found["command"]


@pytest.fixture
def benchmarks_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.usefixtures("benchmarks_path")
@pytest.mark.slow
def test_ways_take_turns_and_the_least_round_counts() -> None:
    harness = script("harness")
    seen: list[str] = []
    ways = {"peer": lambda: seen.append("peer"), "ours": lambda: seen.append("ours")}
    timings = harness.interleave(ways, rounds=3)
    assert seen == ["peer", "ours"] * 5
    assert timings["peer"].cpu_s == min(timings["peer"].cpu_rounds)
    assert len(timings["ours"].wall_rounds) == 3


@pytest.mark.usefixtures("benchmarks_path")
@pytest.mark.slow
def test_memory_is_what_a_run_adds() -> None:
    harness = script("harness")
    timings = harness.interleave({"much": lambda: bytearray(64 << 20), "little": lambda: bytearray(1 << 20)}, rounds=1)
    if timings["much"].peak_bytes is None:
        pytest.skip("this system does not tell a process's highest use of memory")
    assert timings["much"].peak_bytes > 56 << 20
    assert timings["little"].peak_bytes < 16 << 20


@pytest.mark.usefixtures("benchmarks_path")
def test_the_ladder_renews_its_document(tmp_path: Path) -> None:
    harness, ladder = script("harness"), script("ladder")
    fast, slow = (harness.Timing(seconds, seconds, 2**20, (seconds,), (seconds,)) for seconds in (1.0, 4.0))
    ways = {"theirs": slow, "ours": fast}
    rungs = [
        harness.Rung("met", "theirs", "ours", 3.0, ways, {"threads": 1}, exact="equal"),
        harness.Rung("missed", "theirs", "ours", 5.0, ways),
        harness.Rung("impossible", "theirs", "ours", 5.0, ways, cannot="one core"),
        harness.Rung("wrong", "theirs", "ours", 3.0, ways, exact="loss to 1e-02", same=False),
    ]
    rows = [rung.to_dict() for rung in rungs]
    assert [row["met"] for row in rows] == [True, False, False, False]
    page = tmp_path / "speed.md"
    page.write_text("# Title\n\n<!-- ladder -->\nold\n<!-- /ladder -->\n\nEnd.\n", encoding="utf-8")
    for _ in range(2):
        ladder.document(page, rows, ["met: threads 1"])
    text = page.read_text(encoding="utf-8")
    assert "old" not in text
    assert text.startswith("# Title\n\n<!-- ladder -->")
    assert text.endswith("<!-- /ladder -->\n\nEnd.\n")
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert "**4.00** | 3 | equal" in table[1]
    assert "5 (missed)" in table[2]
    assert "5 (one core)" in table[3]
    assert "**4.00** | 3 | **no**: loss to 1e-02" in table[4]


@pytest.mark.usefixtures("benchmarks_path")
def test_ways_that_differ_are_told_apart() -> None:
    exactness = script("exactness")
    one, two, bad = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0 + 1e-4]), torch.tensor([1.0, float("nan")])
    assert exactness.largest([(one, one), (two, one)]) == pytest.approx(5e-5, rel=1e-2)
    zero = torch.zeros(2)
    assert exactness.largest([(zero, zero)]) == 0
    for pair in ((two, one), (one, zero)):
        assert not exactness.judged(torch.float32, 0.0, exactness.largest([(one, one), pair])).within
    # a NaN is no agreement, wherever it stands among the tensors
    assert not exactness.judged(torch.float32, 0.0, exactness.largest([(one, one), (bad, one)])).within
    both = exactness.judged(torch.float32, 1e-7, 9e-6) + exactness.judged(torch.float64, 1e-12, 1e-8)
    assert "within 1e-05" in both.told
    assert "BEYOND 1e-09" in both.told
    assert not both.within


@pytest.mark.usefixtures("benchmarks_path")
def test_rungs_on_data_that_is_not_there_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ladder = script("ladder")
    needing = [name for name, one in ladder.SCRIPTS.items() if one.needs_data]
    reading = [
        n for n, one in ladder.SCRIPTS.items() if "read_sequences(" in (BENCHMARKS / one.file).read_text("utf-8")
    ]
    # the collator's rung has data of its own
    assert needing == [name for name in reading if name not in ("collate", "als")]
    monkeypatch.delenv("ILM_DATA", raising=False)
    monkeypatch.setattr("sys.argv", ["ladder.py", "--only", *needing, "--out", str(tmp_path)])
    ladder.main()
    told = capsys.readouterr()
    assert told.err.count("left out, ILM_DATA names no folder") == len(needing) == 3
    assert told.out.startswith("| rung |")


@pytest.mark.usefixtures("benchmarks_path")
def test_decoding_results_become_rows() -> None:
    ladder = script("ladder")
    rates = {"transformers, 10 beams": 0.25, "trie, 10 beams": 2.0, "trie, 30 beams": 1.75, "trie, exact": 0.75}
    ratios = {"trie, 10 beams": {"ratio": 8.0}, "trie, 30 beams": {"ratio": 7.0}, "trie, exact": {"ratio": 3.0}}
    lists = {"transformers, 10 beams": 0, "trie, 10 beams": 0, "trie, 30 beams": 1, "trie, exact": 2}
    speed = {
        "users": 2,
        "users_per_second": rates,
        "against_transformers": ratios,
        "same_ranking_10_beams": 2,
        "exact_lists": lists,
    }
    found = {"items": 3416, "mean_prompt_tokens": 160.2, "speed": speed}
    # the bar of the exact top 10 is not met by a search that misses it for one user
    rows = ladder.read_decoding(found)
    assert [(row["bar"], row["met"]) for row in rows] == [(7.0, True), (None, True), (3.5, False)]
    assert rows[1]["exact"] == "the top 10 of all items for 1 of 2 users"
    lists["trie, 30 beams"] = 2
    again = ladder.read_decoding(found)
    assert [(row["bar"], row["met"]) for row in again] == [(7.0, True), (3.5, True), (None, True)]
    speed["same_ranking_10_beams"] = 1
    assert not ladder.read_decoding(found)[0]["met"]
    line = list(ladder.lines(rows))[2]
    assert line.startswith("| trie decoding, 10 beams, 3,416 items | transformers, 10 beams → trie, 10 beams | 4 → 0.5")


@pytest.mark.usefixtures("benchmarks_path")
def test_what_a_sweep_adds_is_the_median_of_the_rounds() -> None:
    overhead = script("launcher_overhead")
    # seconds and processor seconds of a job in the sweep and alone; in one round the machine stood still for a while
    rounds = np.array([[[0.5, 0.3], [0.1, 0.1]], [[9.0, 0.4], [0.1, 0.1]], [[0.6, 0.5], [0.1, 0.1]]])
    found = overhead.summary(rounds)
    assert (found["overhead_seconds"], found["overhead_cpu_seconds"], found["met"]) == (0.5, 0.3, True)
    assert found["overhead_seconds_rounds"] == [0.4, 8.9, 0.5]
    assert not overhead.summary(rounds + np.array([[1.0, 0.0], [0.0, 0.0]]))["met"]


def test_the_committed_overhead_of_a_sweep_is_below_its_bar() -> None:
    found = json.loads((BENCHMARKS / "results" / "launcher_overhead.json").read_text(encoding="utf-8"))
    assert found["met"]
    assert found["overhead_seconds"] <= found["bar_seconds"] == 1.0
