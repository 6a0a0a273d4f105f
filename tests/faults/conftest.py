"""Collects what the tests of this folder declare and see, and holds ``docs/faults.md`` to it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from faults.declared import KILLS, PAGE, Fault, Seen, plain, rows_of
from faults.kept_results import results_sections

SEEN = pytest.StashKey[Seen]()


def _page() -> str:
    return PAGE.read_text(encoding="utf-8") if PAGE.is_file() else KILLS


def _fault_of(item: pytest.Item) -> Fault | None:
    mark = item.get_closest_marker("fault")
    return mark.args[0] if mark else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Remember the declarations before any test is deselected."""
    found = config.stash.setdefault(SEEN, Seen())
    found.declared += [one for item in items if (one := _fault_of(item)) is not None]
    found.files |= {item.path.name for item in items if item.path.parent == Path(__file__).parent}


@pytest.fixture
def seen(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], None]:
    """Say what was seen of the test's fault; it must be what the page says."""
    declared = _fault_of(request.node)
    assert declared is not None
    collected = request.config.stash[SEEN]

    def say(text: str) -> None:
        line = plain(text, tmp_path)
        collected.seen[declared.area, declared.fault] = line
        if not request.config.getoption("--write-faults"):
            written = dict(rows_of(_page()))
            assert written.get(declared) == line, f"{PAGE.name}: make test-faults ARGS=--write-faults"

    return say


@pytest.fixture
def collected(request: pytest.FixtureRequest) -> Seen:
    """All that was collected, whether or not it runs."""
    return request.config.stash[SEEN]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the page anew where that was asked for; lines of tests that did not run stay as they are."""
    if not session.config.getoption("--write-faults") or SEEN not in session.config.stash:
        return
    found, page = session.config.stash[SEEN], _page()
    # sections whose tests were not collected stay
    areas = {one.area for one in found.declared}
    found.declared += [one for one, _ in rows_of(page) if one.area not in areas]
    found.declared.sort(key=lambda one: one.area)
    before = {(one.area, one.fault): line for one, line in rows_of(page)}
    found.seen = {**dict.fromkeys(((o.area, o.fault) for o in found.declared), "(not run)"), **before, **found.seen}
    PAGE.write_text(found.page(results_sections()), encoding="utf-8")
