"""How fast this machine can read its memory: from a table of Apple's chips, or measured."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .report import Bandwidth

CHIPS: dict[str, float] = {
    "Apple M1": 68.3, "Apple M1 Pro": 200, "Apple M1 Max": 400, "Apple M1 Ultra": 800,
    "Apple M2": 100, "Apple M2 Pro": 200, "Apple M2 Max": 400, "Apple M2 Ultra": 800,
    "Apple M3": 100, "Apple M3 Pro": 150, "Apple M3 Ultra": 819,
    "Apple M4": 120, "Apple M4 Pro": 273,
    "Apple M5": 153,
}  # fmt: skip
"""GB/s by ``machdep.cpu.brand_string`` (Apple's technical specifications)."""

BINNED: dict[str, dict[int, float]] = {"Apple M3 Max": {14: 300, 16: 400}, "Apple M4 Max": {14: 410, 16: 546}}
"""GB/s of chips that come in two widths of memory, by the number of their cores."""

MEASURE_BYTES = 1 << 29
"""512 MiB: several times the largest cache of a processor in a desktop machine (32 to 128 MB)."""

MEASURE_ROUNDS = 6


def machine() -> str:
    """The processor's name, its number of cores and the memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{processor()}, {os.cpu_count() or 1} cores, {memory / 1e9:.0f} GB"


def processor() -> str:
    """What the processor calls itself."""
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def from_table(chip: str, cores: int) -> Bandwidth | None:
    """What Apple states for a chip; None for one that the table lacks."""
    found = CHIPS.get(chip) or BINNED.get(chip, {}).get(cores)
    return Bandwidth(gb_per_second=found, source=f"the maker's figure for {chip}") if found else None


def find(given: float | None = None) -> Bandwidth:
    """The bandwidth that was given, else that of the table, else a measured one.

    Args:
        given: GB/s.
    """
    if given is not None:
        return Bandwidth(gb_per_second=given, source="given")
    return from_table(processor(), os.cpu_count() or 1) or measured()


def measured(size: int = MEASURE_BYTES) -> Bandwidth:
    """The best of several readings of ``size`` bytes by all cores.

    A GPU that shares the memory may read it faster than the cores can.
    """
    import numpy as np

    threads = os.cpu_count() or 1
    numbers = np.ones(size // 4, dtype=np.float32)
    parts = np.array_split(numbers, threads)
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(MEASURE_ROUNDS):
            began = time.perf_counter()
            list(pool.map(np.max, parts))
            best = max(best, numbers.nbytes / (time.perf_counter() - began))
    source = f"measured: the largest of {size >> 20} MiB of numbers sought by {threads} threads"
    return Bandwidth(gb_per_second=best / 1e9, source=source)
