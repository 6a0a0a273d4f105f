"""Launchers, sweepers and trainers for many processes: composed, compared with plugins, refused where need be."""

import importlib
import inspect
import re
import shlex
from dataclasses import fields
from itertools import product
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from ilm_lightning.engine.checks import ConfigError
from ilm_lightning.engine.command import conf_dir, register_schema
from ilm_lightning.engine.composition import composed
from ilm_lightning.engine.validate import validate
from ilm_lightning.engine.validate_machine import PLUGINS, check_plugins
from warm import run_command

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("many-gpus.md", "sweeps.md")


def launcher(name: str, *overrides: str) -> dict[str, object]:
    register_schema()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        node = compose("train", [f"hydra/launcher={name}", *overrides], return_hydra_config=True)
    found = OmegaConf.to_container(node.hydra.launcher, resolve=False)
    assert isinstance(found, dict)
    OmegaConf.resolve(node.hydra.launcher)
    return {str(key): node.hydra.launcher[key] for key in found}


def test_slurm_starts_one_process_a_device() -> None:
    found = launcher("slurm", "trainer=ddp_multinode", "trainer.devices=4", "hydra.launcher.partition=gpu")
    assert (found["nodes"], found["tasks_per_node"], found["gpus_per_node"]) == (2, 4, 4)
    assert found["partition"] == "gpu"
    # interrupted at the time limit: warned, checkpointed, submitted again
    assert found["signal_delay_s"] == 120
    assert found["max_num_timeout"] == 3


def test_ray_takes_a_jobs_gpus() -> None:
    found = launcher("ray_tasks", "trainer.devices=1")
    assert OmegaConf.to_container(found["ray"]) == {
        "init": {"address": None}, "remote": {"num_cpus": 4, "num_gpus": 1},
    }  # fmt: skip


def test_slurms_settings_are_its_plugins() -> None:
    plugin = pytest.importorskip("hydra_plugins.hydra_submitit_launcher.config")
    assert launcher("slurm").keys() <= {entry.name for entry in fields(plugin.SlurmQueueConf)}


def test_rays_settings_are_its_plugins() -> None:
    plugin = pytest.importorskip("hydra_plugins.hydra_ray_launcher.ray_launcher")
    assert launcher("ray_tasks").keys() - {"_target_"} == set(inspect.signature(plugin.RayLauncher).parameters)


def test_optuna_searches_the_settings_of_a_run() -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper.optuna_sweeper")
    register_schema()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        node = compose("train", ["hydra/sweeper=search", "hydra.sweeper.n_trials=3"], return_hydra_config=True)
    assert node.hydra.sweeper.n_trials == 3
    assert node.hydra.sweeper.direction == "maximize"
    assert node.hydra.sweeper.sampler.seed == 0


@pytest.mark.parametrize("choice", PLUGINS)
def test_a_missing_plugin_is_told_with_its_extra(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    extra = PLUGINS[choice][1]
    with pytest.raises(ConfigError, match=rf"needs a plugin of Hydra: pip install 'ilm-lightning\[{extra}\]'"):
        check_plugins(["-m", choice, "seed=1,2"])
    check_plugins(["-m", "seed=1,2"])


def test_a_search_on_test_movies_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(ConfigError, match="choose settings on the very movies that test them"):
        check_plugins(["-m", "hydra/sweeper=search"])
    check_plugins(["-m", "hydra/sweeper=search", "evaluation.split=validation"])


def test_slurm_without_slurm_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="there is no srun here"):
        check_plugins(["-m", "hydra/launcher=slurm"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer=ddp", "trainer.devices=9"], r"trainer.devices=9: 2 GPUs are visible here; set trainer.devices=2"),
        (["trainer=fsdp"], "trainer.strategy=fsdp shares out .* tuning.mode=frozen: set tuning=full, or trainer=ddp"),
        (["trainer=fsdp", "tuning=lora"], "tuning.mode=lora"),
        (["trainer=fsdp", "tuning=full", "trainer.precision=16-mixed"], "take bf16-mixed or 32-true"),
        (["trainer=fsdp", "tuning=full", "tuning.distillation_weight=1"], "untrained copy"),
        (["trainer=fsdp", "tuning=full", "tasks.kind=openp5", "tasks.head=item"], "tasks.head=item .* set trainer=ddp"),
        (["trainer=ddp", "tuning.batch_size=1"], "tuning.batch_size=1 cannot be shared by 2 processes"),
        (["trainer.strategy=dp"], "trainer.strategy=dp is not known; choose one of: auto, ddp, fsdp"),
        (["trainer.nodes=0"], "trainer.nodes=0 must be above 0"),
    ],
)
def test_what_cannot_run_is_refused(overrides: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(ConfigError, match=message):
        validate(composed("trainer.accelerator=gpu", *overrides))


@pytest.mark.parametrize(
    ("visible", "message"),
    [
        ("0", "trainer.devices=99: 1 GPU is visible here; set trainer.devices=1"),
        ("", r"trainer.devices=99: no GPU is visible here; on the CPU each is a process, and there are 4 cores"),
    ],
)
def test_too_many_devices_say_what_is_there(visible: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("ilm_lightning.engine.validate_machine.usable_cores", lambda: 4)
    with pytest.raises(ConfigError, match=message):
        validate(composed("trainer=ddp", "trainer.devices=99"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainer=ddp", "trainer.devices=99", "trainer.accelerator=cpu"], "each is a process, and there are"),
        (["trainer=warp"], "trainer=warp: there is no such choice; there are auto, cpu, ddp, ddp_multinode, fsdp, gpu"),
        (["trianer=ddp"], "there is no setting trianer; did you mean trainer or trainer.nodes"),
        (["outputs=/proc/nowhere"], "outputs=/proc/nowhere cannot be written"),
        (["-m", "hydra/launcher=slurm", "seed=1,2"], "hydra/launcher=slurm"),
    ],
)
def test_bad_commands_are_told_at_once(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = run_command("ilm_lightning.train", *arguments, cwd=tmp_path)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    assert not done.heavy


def commands(page: str) -> list[list[str]]:
    """Overrides of every training command in a page's blocks."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), flags=re.M | re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    found = [shlex.split(line, comments=True) for line in lines if "-m ilm_lightning.train" in line]
    return [words[words.index("ilm_lightning.train") + 1 :] for words in found]


def each_value(axis: Override, word: str) -> list[str]:
    """An override as plain overrides: a list's members, an interval's ends."""
    if not axis.is_sweep_override():
        return [word]
    if axis.is_interval_sweep():
        ends = axis.value()
        return [f"{axis.key_or_group}={end}" for end in (ends.start, ends.end)]
    return [f"{axis.key_or_group}={value}" for value in axis.sweep_string_iterator()]


@pytest.mark.parametrize(("page", "words"), [(page, words) for page in PAGES for words in commands(page)])
def test_every_command_of_the_docs_is_valid(page: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")
    monkeypatch.setattr("ilm_lightning.engine.validate.missing_for_spark", lambda: None)
    ours = [word for word in words if word != "-m" and not word.startswith("hydra")]
    axes = [OverridesParser.create().parse_override(word) for word in ours]
    values = [each_value(axis, word) for axis, word in zip(axes, ours, strict=True)]
    assert ("-m" in words) or all(len(one) == 1 for one in values)
    for overrides in product(*(one[:2] for one in values)):
        validate(composed(*overrides))
    for choice in (word for word in words if word.startswith("hydra/launcher=")):
        assert launcher(choice.partition("=")[2], *(w for w in words if w.startswith("hydra.launcher.")))


@pytest.mark.slow
def test_the_example_of_a_wandb_sweep_starts_valid_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = OmegaConf.to_container(OmegaConf.load(DOCS / "wandb-sweep.yaml"), resolve=False)
    assert isinstance(sweep, dict)
    fixed = [word for word in sweep["command"] if "=" in word]
    # settings are never chosen on test
    assert "evaluation.split=validation" in fixed
    assert sweep["metric"] == {"name": "val/loss", "goal": "minimize"}
    # whoever starts a sweep is logged in
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    ends = [
        [f"{key}={value}" for value in entry.get("values", [entry.get("min"), entry.get("max")])]
        for key, entry in sweep["parameters"].items()
    ]
    for chosen in product(*ends):
        validate(composed(*fixed, *chosen))


def test_pages_hold_commands() -> None:
    assert all(len(commands(page)) >= 5 for page in PAGES)
