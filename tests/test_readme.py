"""What the README and the documents promise is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_every_place_in_the_where_is_table_exists() -> None:
    table = README.partition("## Where is…")[2].partition("\n## ")[0]
    places = [name for name in re.findall(r"`([^`]+)`", table) if "/" in name or name.endswith(".toml")]
    assert len(places) > 15
    for place in places:
        path = place.replace("…", "plugins/assistant")
        assert (ROOT / path).exists(), place


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_picture_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_two_commands_are_the_first_two_shell_blocks() -> None:
    install, test = re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)[:2]
    assert "pip install -c .ci/constraints.txt . &&" in install
    assert "assistant ask" in install
    assert "pip install -c .ci/constraints.txt -e '.[dev]' && python -m pytest" in test


def test_every_command_in_the_readme_exists() -> None:
    block = README.partition("```console\n")[2].partition("```")[0]
    named = {name for line in block.splitlines() for name in re.findall(r"assistant ([a-z]+)", line.partition("#")[0])}
    offered = subprocess.run(
        [sys.executable, "-m", "assistant", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert named > {"ask", "transcribe", "say", "sessions", "models", "plugins", "config", "doctor"}
    for name in named:
        assert re.search(rf"^\s+{name}\b", offered, re.MULTILINE), name


def test_the_plugin_in_the_readme_works(tmp_path: Path) -> None:
    code = re.search(r"```python\n# dice.py\n(.*?)```", README, re.DOTALL)
    assert code
    (tmp_path / "dice.py").write_text(code[1])
    info = tmp_path / "dice-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dice\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[assistant]\ndice = dice\n")
    script = (
        "import os, sys\n"
        "from assistant import config, paths\n"
        "from assistant.intents import IntentMatcher\n"
        "from assistant.plugins import PluginHost\n"
        "found = paths.find()\n"
        "host = PluginHost(config.load(found), found, print)\n"
        "host.load()\n"
        "match = IntentMatcher(host.intents).match('Roll a die, please!')\n"
        "print(match.tool, host.tools[match.tool].run(**match.arguments))\n"
    )
    environment = {"PYTHONPATH": str(tmp_path), "ASSISTANT_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert re.search(r"^roll_die You rolled a [1-6]\.$", said.stdout, re.MULTILINE)
