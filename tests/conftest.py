"""Fixtures for all tests; the larger ones are in ``homes`` and ``model_fixtures``."""

from __future__ import annotations

import pytest

from assistant import load_openblas

pytest_plugins = ["homes", "model_fixtures", "voice.pulse"]


def pytest_configure() -> None:
    """MLX is many times slower for all tests if one of them imports it before OpenBLAS is loaded."""
    load_openblas()


@pytest.fixture
def anyio_backend() -> str:
    """The daemon runs on asyncio."""
    return "asyncio"
