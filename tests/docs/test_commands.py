"""Every command of the documentation is one that exists: its settings compose, its options are known."""

import importlib
import itertools
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from pages import PAGES, ROOT, commands, module_and_arguments

from ilm_lightning.engine.command_line import check_keys, open_mapping
from ilm_lightning.engine.composition import composed

TRAINING = ("ilm_lightning.train", "ilm_lightning.prepare", "ilm_lightning.evaluate")
PARSED = ("ilm_lightning.report", "ilm_lightning.dashboard", "ilm_lightning.queue")
FOUND = [(page, command) for page in PAGES for command in commands(page)]
OURS = [(page, *named) for page, command in FOUND if (named := module_and_arguments(command))]
COMPOSED = sorted({(module, tuple(arguments)) for _, module, arguments in OURS if module in TRAINING})


def each_value(overrides: list[str]) -> list[list[str]]:
    """Single configurations of a sweep: every value of every axis once, beside the first ones of the others."""
    axes = []
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.is_discrete_sweep():
            axes.append([f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()])
        elif override.is_sweep_override():
            continue  # Optuna's intervals; Optuna reads them
        else:
            axes.append([str(override.input_line)])
    first = [values[0] for values in axes]
    more = [[*first[:i], value, *first[i + 1 :]] for i, values in enumerate(axes) for value in values[1:]]
    return [first, *more]


def test_pages_hold_commands() -> None:
    assert len(COMPOSED) >= 40
    assert {module for _, module, _ in OURS} >= {*TRAINING[:1], *PARSED, "ilm_lightning.chat", "ilm_lightning.embed"}


@pytest.mark.parametrize(("module", "arguments"), COMPOSED, ids=lambda part: " ".join(part)[:90] if part else "plain")
def test_settings_compose(module: str, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILM_DATA", "/data")
    plain = [a for a in arguments if a not in ("-m", "--cfg", "job", "...", "…")]
    check_keys([open_mapping(a) for a in plain])
    # what Hydra itself is told, launchers and sweepers, is composed by tests of its own
    overrides = [open_mapping(a) for a in plain if not a.startswith(("hydra.", "hydra/"))]
    for chosen in each_value(overrides):
        composed(*chosen)


@pytest.mark.parametrize(
    ("module", "arguments"), [(m, a) for _, m, a in OURS if m in PARSED], ids=lambda p: " ".join(p)[:80]
)
def test_options_are_known(module: str, arguments: list[str]) -> None:
    importlib.import_module(module).parser().parse_args(arguments)


def test_every_module_is_there() -> None:
    assert {module for _, module, _ in OURS if find_spec(module) is None} == set()


def test_every_target_of_make_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    asked = {command[1] for _, command in FOUND if command[0] == "make"}
    assert asked <= targets
    assert {"train", "test", "check-experiments"} <= asked


def test_files_of_ours_that_commands_name_are_there() -> None:
    ours = re.compile(r"(experiments|benchmarks|docs|conf|tests)/[\w./-]+")
    named = {
        (page.name, part)
        for page, command in FOUND
        for before, part in itertools.pairwise(command)
        if ours.fullmatch(part) and before != "--out"
    }
    assert len(named) >= 10
    assert {(page, part) for page, part in named if not (ROOT / part).exists()} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), target
