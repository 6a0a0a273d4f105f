"""Fixtures of phase 1."""

import pytest
from pretraining_tiny import World, make_world


@pytest.fixture(scope="session")
def world() -> World:
    return make_world()
