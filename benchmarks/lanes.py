"""What a lane costs: the round trip of an empty call, and what one item of a stream takes beyond the engine's work.

``python benchmarks/lanes.py [--json FILE]`` prints a table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from lane_engines import Toy

from assistant.config import LaneSettings
from assistant.lanes import Lane, Lanes

CALLS = 3000
ITEMS = 20_000


async def calls(lane: Lane) -> list[float]:
    """Microseconds of each of many calls, one after the other."""
    taken = []
    for number in range(CALLS + 100):
        started = time.perf_counter()
        await lane.call("toy", Toy.echo, "")
        if number >= 100:
            taken.append((time.perf_counter() - started) * 1e6)
    return sorted(taken)


async def items(lane: Lane) -> float:
    """Microseconds an item of an iterator that does nothing."""
    started = time.perf_counter()
    async with lane.stream("toy", Toy.numbers, ITEMS) as numbers:
        async for _ in numbers:
            pass
    return (time.perf_counter() - started) * 1e6 / ITEMS


async def measure(lane: Lane) -> dict[str, float]:
    """All numbers of one lane."""
    started = time.perf_counter()
    await lane.add("toy", Toy(), None)
    start = (time.perf_counter() - started) * 1e3
    taken = await calls(lane)
    return {
        "start_ms": start,
        "call_p50_us": statistics.median(taken),
        "call_p95_us": taken[int(0.95 * len(taken))],
        "call_p99_us": taken[int(0.99 * len(taken))],
        "item_us": min([await items(lane) for _ in range(3)]),
    }


async def main(file: Path | None) -> None:
    """Measure both kinds, print, and write ``file`` if there is one."""
    results: dict[str, dict[str, float]] = {}
    async with Lanes(LaneSettings(), lambda event: None) as lanes:
        for name in ("process", "thread:bench"):
            results[name] = await measure(lanes.lane(name))
    columns = list(results["process"])
    print(f"{'lane':<14}" + "".join(f"{column:>14}" for column in columns))
    for name, numbers in results.items():
        print(f"{name:<14}" + "".join(f"{numbers[column]:>14.1f}" for column in columns))
    if file:
        file.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    anyio.run(main, parser.parse_args().json)
