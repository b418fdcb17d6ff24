"""How much memory this machine gives to a model."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

CGROUPS = Path("/sys/fs/cgroup")
SMALL_MAC = 36 << 30
"""Bytes of memory up to which macOS gives about two thirds of it to the GPU, above three quarters (reported for
``iogpu.wired_limit_mb = 0``; M5 Max machines with 128 GB reported 90 %, so what the device says goes first)."""


class MachineMemory(msgspec.Struct, frozen=True, kw_only=True):
    """The memory of this machine, in bytes."""

    total: int
    limit: int
    """What one process may use for models."""
    used: int
    """Of ``limit``: what is in use already, by whomever; 0 where only the process itself can tell."""
    source: str
    """Where ``limit`` comes from, in words."""


def working_set(memory: int) -> int:
    """What a Mac with so many bytes is assumed to give its GPU: two thirds up to 36 GB, three quarters above."""
    return memory * 2 // 3 if memory <= SMALL_MAC else memory * 3 // 4


def machine_memory() -> MachineMemory:
    """This machine's: on a Mac what Metal recommends, elsewhere the memory or what the control group allows of it."""
    import psutil

    memory = psutil.virtual_memory()
    if sys.platform == "darwin":
        limit, source = _metal_limit(memory.total)
        return MachineMemory(total=memory.total, limit=limit, used=0, source=source)
    allowed, taken = control_group(CGROUPS, _own_groups())
    if allowed and allowed < memory.total:
        used = max(taken, allowed - memory.available, 0)
        return MachineMemory(total=memory.total, limit=allowed, used=used, source="the control group's limit")
    used = memory.total - memory.available
    return MachineMemory(total=memory.total, limit=memory.total, used=used, source="the machine's memory")


def control_group(root: Path, groups: list[str]) -> tuple[int, int]:
    """The tightest memory limit of a process's control groups and what is used of it, in bytes; 0, 0 for none.

    Args:
        root: where the file system of the control groups (version 2, or 1 with ``memory/``) is mounted.
        groups: paths of the process's groups below it; their parents count as well.
    """
    found: list[tuple[int, int]] = []
    names = (("memory.max", "memory.current", "inactive_file"),
             ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"))
    for group in groups:
        start = Path(group.lstrip("/"))
        for place in (root / start, *(root / parent for parent in start.parents), root / "memory"):
            for limit_file, used_file, cache_key in names:
                if limit := _read_number(place / limit_file):
                    used = _read_number(place / used_file) - _statistic(place / "memory.stat", cache_key)
                    found.append((limit, max(0, used)))
    return min(found, default=(0, 0))


def _own_groups() -> list[str]:
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [line.split(":", 2)[2] for line in lines if line.count(":") >= 2 and line.split(":")[1] in {"", "memory"}]


def _read_number(file: Path) -> int:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def _statistic(file: Path, key: str) -> int:
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key} ")), 0)


def _metal_limit(total: int) -> tuple[int, str]:
    if importlib.util.find_spec("mlx") is not None:
        mx: Any = importlib.import_module("mlx.core")
        if limit := int(mx.device_info().get("max_recommended_working_set_size", 0)):
            return limit, "the working set that Metal recommends"
    command = ["/usr/sbin/sysctl", "-n", "iogpu.wired_limit_mb"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    megabytes = int(done.stdout) if done.stdout.strip().isdigit() else 0
    if megabytes:
        return megabytes << 20, "iogpu.wired_limit_mb"
    return working_set(total), "assumed: two thirds of the memory up to 36 GB, three quarters above"


