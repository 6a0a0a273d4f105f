"""Run folders: written by earlier versions, damaged, or named to leave their place."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from exported import exported
from faults.declared import Case, fault, told
from ilm_lightning.chat import open_chat
from ilm_lightning.engine.artifacts import fingerprint
from ilm_lightning.engine.checks import ConfigError
from ilm_lightning.engine.command import load_run_config
from ilm_lightning.engine.config import Config
from ilm_lightning.engine.runs import STATUS, computed, read_status, store_config, stored_config
from ilm_lightning.engine.validate import validate
from ilm_lightning.lm import ItemLanguageModel
from ilm_lightning.reporting.runs import read_runs
from impossible_parquet import impossible

AREA = "Run folders"
NAMES = "Names"
WEIGHTS = "model/model.safetensors"
GOLDEN = Path(__file__).parents[1] / "fixtures" / "export_v1" / "golden.json"


def config_of(folder: Path) -> Config:
    return load_run_config(str(exported(folder)), "")


def config_with(content: bytes) -> Callable[[Path], Any]:
    """Resume a run whose config.yaml holds this."""

    def provoke(folder: Path) -> Any:
        (exported(folder) / "config.yaml").write_bytes(content)
        return load_run_config("run", str(folder))

    return provoke


def changed_config(old: str, new: str) -> Callable[[Path], Any]:
    def provoke(folder: Path) -> Any:
        path = exported(folder) / "config.yaml"
        path.write_text(path.read_text().replace(old, new, 1))
        return load_run_config("run", str(folder))

    return provoke


def model_file(name: str, damage: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    """Open the model of a run one of whose files is damaged."""

    def provoke(folder: Path) -> Any:
        path = exported(folder) / name
        path.write_bytes(damage(path.read_bytes()))
        return open_chat(folder / "run")

    return provoke


def model_tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], Any]:
    def provoke(folder: Path) -> Any:
        path = exported(folder) / WEIGHTS
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)
        return open_chat(folder / "run")

    return provoke


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/ilm-pickle-was-run",)


def pickled_weights(folder: Path) -> Any:
    run = exported(folder)
    (run / WEIGHTS).unlink()
    (run / "model" / "pytorch_model.bin").write_bytes(pickle.dumps(Code()))
    return open_chat(run)


def pickled_lm(folder: Path) -> Any:
    run = exported(folder)
    (folder / "lm" / "model.safetensors").unlink()
    (folder / "lm" / "pytorch_model.bin").write_bytes(pickle.dumps(Code()))
    return open_chat(run)


def pickled_lora(folder: Path) -> Any:
    run = exported(folder)
    (run / "model" / "lora" / "adapter_model.safetensors").unlink()
    (run / "model" / "lora" / "adapter_model.bin").write_bytes(pickle.dumps(Code()))
    return open_chat(run)


def other_lm(folder: Path) -> Any:
    run = exported(folder)
    path = folder / "lm" / "model.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values())).add_(1)
    save_file(tensors, path, {"format": "pt"})
    return open_chat(run)


def short_catalogue(folder: Path) -> Any:
    path = exported(folder) / "items" / "items.parquet"
    pl.read_parquet(path).head(7).write_parquet(path)
    chat = open_chat(folder / "run")
    return chat.answer("Summarize [m1].")


def first(tensors: dict[str, torch.Tensor]) -> str:
    return next(name for name, tensor in tensors.items() if tensor.dim() == 2)


CASES = [
    Case(
        "config.yaml is cut in the middle of a line", config_with(b'name: "ilm'), "config.yaml.*start the run's command"
    ),
    Case("config.yaml holds a list", config_with(b"- a\n- b\n"), "holds no settings"),
    Case("config.yaml is empty", config_with(b""), "config.yaml"),
    Case("config.yaml holds bytes that are no text", config_with(b"\xff\xfe\x00\x01" * 9), "config.yaml"),
    Case(
        "config.yaml wants a Python object",
        config_with(b"a: !!python/object/apply:os.system ['touch x']"),
        "config.yaml",
    ),
    Case("config.yaml lacks most settings", config_with(b"name: x\n"), "config.yaml"),
    Case("config.yaml has a setting that is unknown here", changed_config("seed:", "sead:"), "config.yaml.*sead"),
    Case("config.yaml has a word where a number belongs", changed_config("seed: 0", "seed: zero"), "config.yaml.*zero"),
    Case(
        "a thousand aliases of aliases in config.yaml",
        config_with(
            b"a0: &a0 [x, x]\n" + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (n, n, n - 1, n - 1) for n in range(1, 12))
        ),
        "config.yaml",
    ),
    Case("the model's config.json is cut", model_file("model/config.json", lambda d: d[:50]), "config.json is damaged"),
    Case(
        "the model's config.json is of a later format",
        model_file("model/config.json", lambda d: d.replace(b'"format_version": 1', b'"format_version": 9')),
        "format version 9",
    ),
    Case(
        "the weights are cut",
        model_file(WEIGHTS, lambda d: d[: len(d) // 2]),
        "missing or damaged.*export the model again",
    ),
    Case("the weights are zeros", model_file(WEIGHTS, lambda d: bytes(len(d))), "missing or damaged"),
    Case("a tensor is missing", model_tensors(lambda t: t.pop(first(t))), "do not belong to this model"),
    Case("a tensor is too many", model_tensors(lambda t: t.update(extra=torch.ones(2))), "not known here extra"),
    Case("a tensor has another shape", model_tensors(lambda t: t.update({first(t): torch.ones(2, 3)})), "has shape"),
    Case("weights as a pickle", pickled_weights, "missing or damaged", "refused, nothing of it run"),
    Case("the language model's weights as a pickle", pickled_lm, "safetensors", "refused, nothing of it run"),
    Case(
        "LoRA weights as a pickle", pickled_lora, "adapter_model.safetensors is missing", "refused, nothing of it run"
    ),
    Case(
        "LoRA weights cut",
        model_file("model/lora/adapter_model.safetensors", lambda d: d[:900]),
        "LoRA updates in .* are damaged",
    ),
    Case("another language model than the run was trained on", other_lm, "was trained on"),
    Case("items.parquet is cut", model_file("items/items.parquet", lambda d: d[:-50]), "items.parquet"),
    Case("items.parquet claims pages of less than no values", model_file("items/items.parquet", impossible), "kills"),
    Case("split.json is cut", model_file("items/split.json", lambda d: d[:20]), "split.json is damaged"),
    Case("a catalogue of fewer items than vectors", short_catalogue, "60 vectors for 7 items"),
]


@pytest.mark.parametrize("case", [case.param(AREA) for case in CASES])
def test_refused(case: Case, tmp_path: Path, seen: Callable[[str], None]) -> None:
    message = told(case, tmp_path)
    assert not Path("/tmp/ilm-pickle-was-run").exists()
    seen(message)


def test_an_export_of_an_earlier_version_loads_and_says_the_same(tmp_path: Path) -> None:
    chat = open_chat(exported(tmp_path), max_new_tokens=8)
    soft = chat.model.soft_tokens(chat.collator.slot_sources([(0,), (7,)])).float()
    golden = json.loads(GOLDEN.read_text())
    assert torch.allclose(soft.detach(), torch.tensor(golden["soft_tokens"]), atol=1e-4)
    assert isinstance(chat.answer("Summarize the movie [Film number 3]."), str)
    bare = ItemLanguageModel.from_pretrained(tmp_path / "run" / "model", lm=tmp_path / "lm")
    assert bare.tuning.value == "lora"
    config = config_of(tmp_path / "again")
    assert config.tuning.mode == "lora"
    assert len(fingerprint(computed(config))) == 16


@fault(AREA, "config.yaml of an automatically named run is damaged, and the run started again", "named, written anew")
def test_config_written_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture, seen: Callable[[str], None]) -> None:
    config = config_of(tmp_path / "of")
    config.run, config.outputs = None, str(tmp_path)
    folder = store_config(config)
    (folder / "config.yaml").write_text("name: [")
    assert store_config(config) == folder
    assert stored_config(folder) == config
    seen(caplog.messages[0].replace(folder.name, "RUN"))


@fault(AREA, "what a killed process has left half written in the run folder", "swept at the next start")
def test_leftovers(tmp_path: Path, seen: Callable[[str], None]) -> None:
    config = config_of(tmp_path / "of")
    config.run, config.outputs = "mine", str(tmp_path)
    folder = store_config(config)
    for name in (".metrics.json.4194303", ".config.yaml.4194303", f".status.json.{os.getpid()}"):
        (folder / name).write_text("{")
    store_config(config)
    left = sorted(path.name for path in folder.iterdir())
    assert left == [f".status.json.{os.getpid()}", "config.yaml"]
    seen("only files of living processes stay")


@fault(AREA, "status.json is damaged", "taken as unknown")
def test_status(tmp_path: Path, seen: Callable[[str], None]) -> None:
    for content in ("{", "[]", "\0"):
        (tmp_path / STATUS).write_text(content)
        assert read_status(tmp_path) == {}
    seen("no state")


@pytest.mark.parametrize(
    "case",
    [
        Case(what, provoke, says, "left out of the report, named").param(AREA)
        for what, provoke, says in (
            ("metrics.json is cut, in a report", lambda run: (run / "metrics.json").write_text('{"a'), "metrics.json"),
            (
                "metrics.json holds a number, in a report",
                lambda run: (run / "metrics.json").write_text("1"),
                "metrics.json",
            ),
        )
    ],
)
def test_reports(case: Case, tmp_path: Path, seen: Callable[[str], None]) -> None:
    run = exported(tmp_path)
    case.provoke(run)
    *_, problems = read_runs([run])
    problem = str(problems[0])
    assert case.says in problem
    seen(problem)


def named(**changes: Any) -> Callable[[Path], Any]:
    def provoke(folder: Path) -> Any:
        config = config_of(folder)
        config.run = None
        for key, value in changes.items():
            setattr(config, key, value)
        validate(config)

    return provoke


NAME_CASES = [
    Case("run=../../evil", named(run="../../evil"), "is a name under outputs/"),
    Case("run=..", named(run=".."), "is a name under outputs/"),
    Case("run=/etc/cron.d/x", named(run="/etc/cron.d/x"), "is a name under outputs/"),
    Case("run= with a line break", named(run="a\nb"), "is a name under outputs/"),
    Case("name=../../evil", named(name="../../evil"), "is a name under outputs/"),
]


@pytest.mark.parametrize("case", [case.param(NAMES) for case in NAME_CASES])
def test_names_stay_in_their_folder(case: Case, tmp_path: Path, seen: Callable[[str], None]) -> None:
    with pytest.raises(ConfigError) as caught:
        case.provoke(tmp_path)
    assert case.says in str(caught.value)
    seen(str(caught.value))
