"""What the parts share: rows, a model that all sides load alike, our engine in a lane, and mlx_lm.server."""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx

from assistant import events, load_openblas, paths
from assistant.bench.local import LocalTarget, local
from assistant.bench.remote import RemoteTarget, remote

SERVER = "from assistant import load_openblas; load_openblas(); from mlx_lm.server import main; main()"
"""The server as it is, with the fast BLAS that our engine has, too."""

SERVER_SECONDS = 180.0
"""How long mlx_lm.server may take until it answers."""

SINGLES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja")


@dataclass(frozen=True)
class Row:
    """One figure beside what it should reach."""

    what: str
    value: float
    unit: str
    reach: str
    ok: bool
    note: str = ""
    values: tuple[float, ...] = ()


def at_least(what: str, values: Sequence[float], reach: float, note: str = "", unit: str = "") -> Row:
    """The median of values that should be large."""
    value = statistics.median(values)
    return Row(what, value, unit, f">= {reach:g}", value >= reach, _spread(values, note), tuple(values))


def at_most(what: str, values: Sequence[float], reach: float, note: str = "", unit: str = "") -> Row:
    """The median of values that should be small."""
    value = statistics.median(values)
    return Row(what, value, unit, f"<= {reach:g}", value <= reach, _spread(values, note), tuple(values))


def told(what: str, values: Sequence[float], unit: str, note: str = "") -> Row:
    """The median of values that stand beside the others for comparison."""
    return Row(what, statistics.median(values), unit, "-", True, _spread(values, note), tuple(values))


def _spread(values: Sequence[float], note: str) -> str:
    spread = f"{min(values):.3f} to {max(values):.3f}" if len(values) > 1 else ""
    return ", ".join(part for part in (spread, note) if part)


def say(text: str) -> None:
    """Progress, on standard error."""
    print(f"  {text}", file=sys.stderr, flush=True)


def alike(model: Path, cache: Path) -> Path:
    """A folder of the model whose weights raw mlx-lm, mlx_lm.server and our engine hold in the same form.

    On a GPU that is the model itself. On a CPU our engine unpacks quantized weights to 32-bit floats, so the folder is
    a copy that holds them unpacked; made once.
    """
    load_openblas()
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm import load
    from mlx_lm.utils import dequantize_model

    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    if mx.default_device() == mx.gpu or "quantization" not in config:
        return model
    folder = cache / f"{model.name}-float32"
    if (folder / "config.json").exists():
        return folder
    say(f"unpacking {model.name} into {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    loaded: Any = load(str(model))[0]
    loaded.set_dtype(mx.float32)
    loaded = dequantize_model(loaded)
    loaded.set_dtype(mx.float32)
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(loaded.parameters())), {"format": "mlx"})
    for name in SINGLES:
        if (model / name).exists():
            shutil.copy(model / name, folder / name)
    for key in ("quantization", "quantization_config"):
        config.pop(key, None)
    config["torch_dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@asynccontextmanager
async def our_lane(model: Path, settings: str = "") -> AsyncIterator[LocalTarget]:
    """Our engine, loaded in a lane of its own, in a home of its own.

    Args:
        settings: of ``[plugins.mlx]``, as lines of TOML.
    """
    with tempfile.TemporaryDirectory(prefix="bench-home-") as folder:
        home = paths.find({"ASSISTANT_HOME": folder})
        (Path(folder) / "config.toml").write_text(f"[plugins.mlx]\n{settings}\n")
        async with local(home, str(model), _hear) as target:
            await target.load()
            yield target


@asynccontextmanager
async def mlx_server(model: Path) -> AsyncIterator[RemoteTarget]:
    """``mlx_lm.server`` on a free port of the loopback interface, with the model loaded."""
    process, url = _server(model)
    try:
        await _answers(f"{url}/health", process)
        async with remote(url, "default_model") as target:
            target.title = "mlx_lm.server"
            yield target
    finally:
        process.terminate()
        process.wait()


def _hear(event: events.Event) -> None:
    if isinstance(event, events.PluginFailed):
        say(f"plugin {event.plugin}: {event.reason}")


def _server(model: Path) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SERVER, "--model", str(model), "--port", str(port)]
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    return process, f"http://127.0.0.1:{port}"


async def _answers(url: str, process: subprocess.Popen[bytes]) -> None:
    with anyio.fail_after(SERVER_SECONDS):
        async with httpx.AsyncClient(trust_env=False) as client:
            while True:
                if process.poll() is not None:
                    raise RuntimeError(f"mlx_lm.server ended with status {process.returncode}")
                try:
                    if (await client.get(url)).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await anyio.sleep(0.2)
