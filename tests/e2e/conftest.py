"""An invented shop in OpenP5's format, for the tests of recommendation."""

from pathlib import Path

import pytest

from tiny_run import make_shop, shop_settings


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def overrides(tiny_overrides: list[str], shop: Path) -> list[str]:
    return shop_settings(shop, tiny_overrides)
