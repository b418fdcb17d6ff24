"""Fixtures for all tests; the larger ones are in ``homes`` and ``model_fixtures``."""

from __future__ import annotations

import pytest

pytest_plugins = ["homes", "model_fixtures"]


@pytest.fixture
def anyio_backend() -> str:
    """The daemon runs on asyncio."""
    return "asyncio"
