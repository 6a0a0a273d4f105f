"""The guides as they stand: own data, own adapter, own language model in one tiny run; then its numbers by hand."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pages import ROOT, blocks, commands, module_and_arguments

from ilm_lightning.adapters import build_adapter
from ilm_lightning.engine.command import open_mapping
from ilm_lightning.engine.composition import composed
from ilm_lightning.engine.pipeline import run_id, run_pipeline
from ilm_lightning.engine.validate import ConfigError, validate
from ilm_lightning.lm import ItemLanguageModel

DOCS = ROOT / "docs"


def first_command(page: str) -> list[str]:
    """Settings of a page's first training command."""
    for command in commands(DOCS / page):
        found = module_and_arguments(command)
        if found and found[0] == "ilm_lightning.train":
            return found[1]
    raise AssertionError(page)


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, own_data: tuple[Path, Path], tiny_lm: Path
) -> Iterator[tuple[Path, Path]]:
    """A user's folder: their data, task file, adapter and language model under the names of the guides."""
    folder = tmp_path_factory.mktemp("user")
    for source, name in zip(own_data, ("events.csv", "items.csv"), strict=True):
        shutil.copy(source, folder / name)
    (code,) = [block.text for block in blocks(DOCS / "your-own-adapter.md") if block.language == "python"]
    assert len(code.splitlines()) <= 30
    (folder / "my_adapters.py").write_text(code)
    yaml, csv = (next(b.text for b in blocks(DOCS / "your-own-tasks.md") if b.language == x) for x in ("yaml", "csv"))
    (folder / "my_tasks.yaml").write_text(yaml)
    (folder / "posters.csv").write_text(csv)
    shutil.copytree(tiny_lm, folder / "my-llm")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    patch.syspath_prepend(str(folder))
    yield folder, folder
    patch.undo()
    sys.modules.pop("my_adapters", None)


@pytest.fixture(scope="module")
def finished(place: tuple[Path, Path], shared_overrides: list[str]) -> Path:
    folder, _ = place
    told = {a.partition("=")[0]: a for a in first_command("your-own-data.md")}
    told |= {a.partition("=")[0]: a for a in first_command("your-own-models.md")}
    told |= {a.partition("=")[0]: a for a in first_command("your-own-adapter.md")}
    asked = [a.replace("/models/my-llm", str(folder / "my-llm")) for a in told.values()]
    small = [a for a in shared_overrides if a.partition("=")[0] not in told]
    more = ["tasks.names=[tagline,double_bill,summary,pitch]", "evaluation.conditions=[own,shuffled,blind]"]
    overrides = [*small, *map(open_mapping, asked), *more, "evaluation.bootstrap=2000", "evaluation.movies=6"]
    config = composed(*overrides)
    assert config.adapter._target_ == "my_adapters.GatedAdapter"
    assert (config.data.kind, config.lm.name) == ("custom", str(folder / "my-llm"))
    validate(config)
    run_pipeline(config)
    return Path(config.outputs) / run_id(config)


def run_commands(page: str, count: int, settings: list[str], folder: Path) -> list[str]:
    """Run a page's first commands as they stand, trainings on tiny models; what they said."""
    said = []
    for command in commands(DOCS / page)[:count]:
        found = module_and_arguments(command)
        assert found is not None
        module, arguments = found
        small = settings if module == "ilm_lightning.train" else []
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments, *small], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stderr)
    return said


@pytest.mark.slow
def test_a_table_is_reproduced_by_the_pages_three_commands(tiny_settings: list[str], tmp_path: Path) -> None:
    # ELM has one soft token, the others eight
    small = [setting for setting in tiny_settings if not setting.startswith("adapter.num_queries")]
    sweep, report, dashboard = run_commands("reproduce-a-table.md", 3, small, tmp_path)
    assert "5 jobs: 5 finished" in sweep
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    table = text[text.index("### Table 3") :].partition("\n### ")[0]
    heads = table.splitlines()[2]
    for row in ("ELM", "ILM-MLP", "ILM-QFormer-random", "ILM-QFormer", "ILM-QFormer-fullyfinetune"):
        assert f"| {row}<br>1 seed" in heads
    assert "- missing: " not in table
    # Table 2 asks for one run each, not for this sweep again
    assert (
        "- missing: ILM-Semantic: python -m ilm_lightning.train experiment=ilm_qformer_full encoder=semantic "
        in text.replace("`", "")
    )
    assert "sweep=" not in text
    assert "claim 2: undecided" in report
    assert "5 finished runs" in dashboard
    assert "Table 3: language tasks, combined vectors" in (tmp_path / "table3.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_many_processes_are_tried_out_without_a_gpu_as_the_page_says(tiny_settings: list[str], tmp_path: Path) -> None:
    (command,) = [c for c in commands(DOCS / "many-gpus.md") if "trainer.accelerator=cpu" in c]
    found = module_and_arguments(command)
    assert found is not None
    done = subprocess.run(
        [sys.executable, "-m", found[0], *found[1], *tiny_settings], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "outputs").iterdir()
    assert (folder / "metrics.json").is_file()
    assert (folder / "rank1.log").is_file()


def test_an_adapter_of_ones_own_is_trained_and_loaded_again(finished: Path, place: tuple[Path, Path]) -> None:
    folder, _ = place
    model = ItemLanguageModel.from_pretrained(finished / "model", lm=folder / "my-llm")
    assert type(model.adapter).__name__ == "GatedAdapter"
    assert model.adapter.config["target"] == "my_adapters.GatedAdapter"
    assert model.adapter.config["width"] == 128
    assert model.adapter.gates.abs().sum() > 0  # trained away from 0


def test_numbers_by_hand_are_those_of_the_run(finished: Path) -> None:
    code = "\n".join(block.text for block in blocks(DOCS / "numbers.md") if block.language == "python")
    exec(compile(code.replace("outputs/RUN", str(finished)), "docs/numbers.md", "exec"), {})


def test_its_row_is_named_after_the_class(finished: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ilm_lightning.report", str(finished), "--out", str(tmp_path), "--resamples", "100"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ILM-GatedAdapter" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("target", "settings", "said"),
    [
        ("no_such_module.Adapter", {}, "no_such_module"),
        ("my_adapters.Absent", {}, "there is no such class"),
        ("my_adapters.nn", {}, "no subclass of ilm_lightning.adapters.Adapter"),
        ("Gated", {}, "give module.Class"),
        ("my_adapters.GatedAdapter", {"depth": 3}, "does not know depth: it takes source_dims"),
    ],
)
def test_a_wrong_class_is_named(place: object, target: str, settings: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build_adapter({"target": target, "source_dims": {"semantic": 4}, "output_dim": 8, "num_queries": 2, **settings})


def test_the_contract_holds_for_the_guides_adapter(place: object) -> None:
    made = build_adapter(
        {"target": "my_adapters.GatedAdapter", "source_dims": {"b": 3, "a": 4}, "output_dim": 8, "num_queries": 2}
    )
    torch.manual_seed(0)
    sources = {"a": torch.randn(5, 4), "b": torch.randn(5, 3)}
    soft = made(sources)
    assert soft.shape == (5, 2, 8)
    alone = made({name: rows[:1] for name, rows in sources.items()})
    assert torch.allclose(alone, soft[:1], atol=1e-6)
    mask = torch.tensor([[False, True]]).expand(5, 2)
    other = {**sources, "a": torch.randn(5, 4)}
    assert torch.allclose(made(sources, mask), made(other, mask))
    soft.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.parameters())
    again = build_adapter(made.config)
    again.load_state_dict(made.state_dict())
    assert torch.equal(again(sources), made(sources))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["adapter=custom"], "adapter=custom needs adapter._target_=module.Class"),
        (["adapter=custom", "adapter._target_=nowhere_at_all.X"], "there is no module nowhere_at_all"),
        (["adapter=mlp", "adapter._target_=my_adapters.X"], "belong to an adapter of your own: adapter=custom"),
        (
            ["adapter=custom", "adapter._target_=json.X", "++adapter.settings.num_queries=3"],
            "adapter.settings.num_queries: this is given by the run",
        ),
        (["adapter=custom", "adapter._target_=json.X", "adapter.init=bert"], "needs a Q-Former"),
        (["adapter=custom", "adapter._target_=json.X", "adapter.init=pretrained"], "set pretraining=vg_only"),
    ],
)
def test_settings_that_cannot_be_are_told_first(overrides: list[str], said: str) -> None:
    config = composed("experiment=ilm_qformer", *overrides)
    with pytest.raises(ConfigError, match=said):
        validate(config)
