"""What the daemon costs: side by side with raw mlx-lm and a bare Python, in one run.

    python benchmarks/daemon.py [--json FILE] [--models DIR] [--rounds 5]

Starts a daemon of its own in a temporary home. Ratios count; absolute times are this machine's, now.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

import psutil

from assistant import events, paths
from assistant.client import Client
from assistant.wire import Say

PROMPT = "Explain in a few sentences how a rainbow forms."
MAX_TOKENS = 96
SYSTEM = "You are a helpful assistant."

RAW = """
import ctypes, json, sys, time
try:
    ctypes.CDLL("libopenblas.so.0", mode=ctypes.RTLD_GLOBAL)
except OSError:
    pass
import mlx.core as mx
from mlx_lm import load, stream_generate
from mlx_lm.utils import dequantize_model
model, tokenizer = load(sys.argv[1])
if mx.default_device() == mx.cpu:
    model = dequantize_model(model)
    model.set_dtype(mx.float32)
    mx.eval(model.parameters())
for line in sys.stdin:
    messages, limit = json.loads(line)
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    began, first, count = time.perf_counter(), None, 0
    for response in stream_generate(model, tokenizer, prompt, max_tokens=limit):
        first = first or time.perf_counter()
        count = response.generation_tokens
    ended = time.perf_counter()
    print(json.dumps([first - began, (count - 1) / (ended - first)]), flush=True)
"""


@dataclass(frozen=True)
class Row:
    """One figure beside what it should reach."""

    what: str
    value: float
    unit: str
    reach: str
    ok: bool
    note: str = ""


class Raw:
    """mlx-lm alone, loaded once in a process of its own."""

    def __init__(self, model: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", RAW, str(model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, text: str) -> tuple[float, float]:
        """Seconds to the first token, tokens per second after it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
        self._process.stdin.write(json.dumps([messages, MAX_TOKENS]) + "\n")
        self._process.stdin.flush()
        first, speed = json.loads(self._process.stdout.readline())
        return float(first), float(speed)

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()


async def turn(client: Client, text: str) -> tuple[float, float, float]:
    """Seconds to the first piece of text, tokens per second after it, and seconds in all, seen by a client."""
    async with client.connect() as connection:
        began, first = time.perf_counter(), 0.0
        turn_id = uuid4().hex
        await connection.send(Say(turn_id=turn_id, text=text, new=True, channel="api"))
        async for event in connection:
            now = time.perf_counter()
            if isinstance(event, events.TextDelta):
                first = first or now
            elif isinstance(event, events.TurnFinished):
                if event.error:
                    raise RuntimeError(event.error.message)
                speed = (event.output_tokens - 1) / (now - first) if event.output_tokens > 1 else 0.0
                return first - began, speed, now - began
    raise RuntimeError("the daemon went away")


def model_rows(client: Client, model: Path, rounds: int) -> list[Row]:
    """The daemon against raw mlx-lm, in turn, on the same prompts."""
    raw = Raw(model)
    try:
        raw.run("hi")
        asyncio.run(turn(client, "hi"))
        ratios, delays = [], []
        for number in range(rounds):
            text = f"{PROMPT} ({number})"
            if number % 2:
                ours, theirs = asyncio.run(turn(client, text)), raw.run(text)
            else:
                theirs = raw.run(text)
                ours = asyncio.run(turn(client, text))
            ratios.append(ours[1] / theirs[1])
            delays.append((ours[0] - theirs[0]) * 1000)
            print(f"  tokens/s {ours[1]:6.2f} / {theirs[1]:6.2f}   first token {ours[0]:.3f} / {theirs[0]:.3f} s")
    finally:
        raw.close()
    ratio, delay = statistics.median(ratios), statistics.median(delays)
    spread, delays_spread = f"{min(ratios):.3f} to {max(ratios):.3f}", f"{min(delays):.0f} to {max(delays):.0f}"
    return [
        Row("tokens/s through the daemon / raw mlx-lm", ratio, "", ">= 0.95", ratio >= 0.95, spread),
        Row("first token, daemon - raw, warm", delay, "ms", "<= 20", delay <= 20, delays_spread),
    ]


def wall(command: list[str], env: dict[str, str]) -> float:
    """Seconds that a command takes as a whole process."""
    began = time.perf_counter()
    subprocess.run(command, env=env, check=True, capture_output=True)
    return time.perf_counter() - began


def command_rows(env: dict[str, str], rounds: int) -> list[Row]:
    """Start-up of the command line against ``python -c pass``."""
    script = str(Path(sys.executable).with_name("assistant"))
    commands = {"assistant --help": [script, "--help"], "assistant status, daemon warm": [script, "status"]}
    rows = []
    for title, command in commands.items():
        more = []
        for _ in range(rounds * 2):
            bare = wall([sys.executable, "-c", "pass"], env)
            more.append((wall(command, env) - bare) * 1000)
        value = statistics.median(more)
        spread = f"{min(more):.0f} to {max(more):.0f}"
        rows.append(Row(f"{title} - python -c pass", value, "ms", "<= 150", value <= 150, spread))
    return rows


def intent_row(client: Client, rounds: int) -> Row:
    """A turn that a tool answers, from the command sent to the last event received, on a new connection."""
    asyncio.run(turn(client, "what is 17 percent of 340"))
    times = [asyncio.run(turn(client, "what time is it in Tokyo"))[2] * 1000 for _ in range(rounds * 4)]
    value = statistics.median(times)
    return Row("intent turn, daemon warm", value, "ms", "<= 10", value <= 10, f"{min(times):.1f} to {max(times):.1f}")


def idle_rows(pid: int) -> list[Row]:
    """Memory and processor time of a daemon that nobody talks to."""
    process = psutil.Process(pid)
    time.sleep(2)
    before = process.cpu_times()
    time.sleep(10)
    after = process.cpu_times()
    busy = (after.user - before.user + after.system - before.system) / 10 * 100
    rss = process.memory_info().rss / 1e6
    return [
        Row("daemon idle, no model loaded: RSS", rss, "MB", "<= 120", rss <= 120),
        Row("daemon idle, no model loaded: processor", busy, "% of a core", "<= 1", busy <= 1),
    ]


def lane_row() -> Row:
    """An empty call to a lane process and back (benchmarks/lanes.py has more)."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        script = Path(__file__).with_name("lanes.py")
        subprocess.run([sys.executable, str(script), "--json", file.name], check=True, capture_output=True)
        found = json.loads(Path(file.name).read_text())
    value = float(found["process"]["call_p50_us"]) / 1000
    return Row("one lane round trip (empty call)", value, "ms", "<= 0.5", value <= 0.5)


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--models", type=Path, default=paths.find().models, help="folder that holds `starter`")
    parser.add_argument("--only-model", action="store_true", help="only the comparison with raw mlx-lm")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        env = {**os.environ, "ASSISTANT_HOME": str(home)}
        env["ASSISTANT_LLM__MAX_TOKENS"] = str(MAX_TOKENS)
        (home / "data").mkdir(parents=True)
        (home / "data" / "models").symlink_to(options.models.absolute())
        ours = paths.find(env)
        run: Callable[[str], object] = lambda verb: subprocess.run(  # noqa: E731
            [sys.executable, "-m", "assistant", verb], env=env, check=True
        )
        run("up")
        try:
            client = Client(ours.socket)
            pid = asyncio.run(client.status()).pid
            rows = []
            if not options.only_model:
                rows += [*idle_rows(pid), intent_row(client, options.rounds), *command_rows(env, options.rounds)]
                rows.append(lane_row())
            rows += model_rows(client, options.models / "starter", options.rounds)
        finally:
            run("down")
    for row in rows:
        mark = "ok " if row.ok else "NOT"
        print(f"{mark} {row.what:<48} {row.value:9.3f} {row.unit:<12} reach {row.reach:<8} {row.note}")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
