"""pytest fixtures; a test suite asks for them with ``pytest_plugins = ["assistant.testing.fixtures"]``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from .voice import VoiceHarness


@pytest.fixture
def voice(tmp_path: Path) -> Callable[..., VoiceHarness]:
    """Makes a ``VoiceHarness`` whose files lie in the folder of the test; see there."""
    return partial(VoiceHarness, home=tmp_path / "home")
