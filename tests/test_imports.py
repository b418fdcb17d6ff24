"""What importing costs: nothing heavy before it is needed, seen from fresh interpreters."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLUGINS = sorted(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["assistant"])

HEAVY = ["numpy", "mlx", "mlx_lm", "mlx_whisper", "torch", "transformers", "tokenizers", "onnxruntime", "soundfile",
         "sounddevice", "soxr", "huggingface_hub"]
SERVER = ["litestar", "uvicorn", "websockets"]
SCREEN = ["textual", "rich"]


def _imported(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.anchor, timeout=60,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(("module", "unwanted"), [
    ("assistant", [*HEAVY, *SERVER, *SCREEN, "click", "hassil"]),
    ("assistant.cli", [*HEAVY, *SERVER, *SCREEN, "anyio", "hassil", "sqlite3"]),
    ("assistant.client", [*HEAVY, *SERVER, *SCREEN, "httpx"]),
    ("assistant.config", [*HEAVY, *SERVER, *SCREEN, "anyio", "click", "hassil"]),
    ("assistant.plugins", [*HEAVY, *SERVER, *SCREEN, "click", "hassil"]),
    ("assistant.lanes", [*HEAVY, *SERVER, *SCREEN, "click", "hassil"]),
])
def test_importing_a_part_of_the_host_is_light(module: str, unwanted: list[str]) -> None:
    assert _imported(module) & set(unwanted) == set()


@pytest.mark.parametrize("plugin", PLUGINS)
def test_importing_a_bundled_plugin_is_light(plugin: str) -> None:
    assert _imported(f"assistant_{plugin}") & {*HEAVY, *SERVER, *SCREEN} == set()


def test_loading_all_plugins_imports_no_model_library(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from assistant import config, paths, plugins\n"
        f"found = paths.find({{'ASSISTANT_HOME': {str(tmp_path)!r}}})\n"
        "host = plugins.PluginHost(config.Settings(), found, lambda e: None)\n"
        "host.load()\n"
        "assert [p.state for p in host.plugins], 'no plugins'\n"
        "print(*sorted(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert set(done.stdout.split()) & {*HEAVY, *SERVER, *SCREEN} == set()
