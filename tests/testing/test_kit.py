"""The test kit as its users meet it: what importing it costs, its names, and the example of the documentation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import assistant.testing

ROOT = Path(__file__).parents[2]


def test_importing_it_is_light() -> None:
    code = "import sys, assistant.testing; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not set(done.stdout.split()) & {"numpy", "pytest", "anyio", "soxr", "assistant.daemon", "assistant.voice"}


def test_every_public_name_is_there_and_said_what_it_is() -> None:
    for name in assistant.testing.__all__:
        found = getattr(assistant.testing, name)
        assert found.__doc__, name
        assert name in dir(assistant.testing)
    assert not hasattr(assistant.testing, "nothing")


def test_the_example_of_the_documentation_passes(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "voice-testing.md").read_text(), re.DOTALL)
    (tmp_path / "test_example.py").write_text(example)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_example.py"],
        capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
