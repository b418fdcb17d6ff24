"""``assistant doctor``: what this machine lacks, and the command that installs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import click

from assistant.doctor import Check, Daemon, Machine, examine
from assistant.errors import AssistantError
from assistant.paths import Paths, find

from . import failures, probe, render
from .config import problems

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
def doctor(as_json: bool) -> int:
    """Check this machine; exit status 1 if something keeps the typed assistant from working."""
    return report(Machine(), as_json=as_json)


def report(machine: Machine, *, as_json: bool) -> int:
    """Examine a machine, print what is found, and return the exit status."""
    paths = find()
    daemon = ask_daemon(paths)
    checks = examine(paths, machine, daemon, problems(paths, os.environ, plugins=False))
    done = list(checks) if as_json else list(_printed(checks))
    if as_json:
        render.json_out(done)
    else:
        _summary(done)
    return failures.FAILED if any(check.state == "fail" for check in done) else 0


def ask_daemon(paths: Paths) -> Daemon:
    """The daemon's own account, if it runs."""
    import msgspec

    from assistant.wire import PluginInfo

    from .daemon import read_status

    if not probe.listens(paths.socket):
        return Daemon()
    try:
        status = read_status(paths)
        plugins = msgspec.json.decode(probe.get(paths.socket, "/api/plugins"), type=tuple[PluginInfo, ...])
    except AssistantError as error:
        return Daemon(trouble=error)
    return Daemon(status=status, plugins=plugins)


def _printed(checks: Iterable[Check]) -> Iterable[Check]:
    for check in checks:
        mark = render.paint(f"{check.state:<4}", COLOURS[check.state], sys.stdout)
        render.out(f"{mark}  {check.name}: {render.plain_text(check.message)}")
        if check.hint:
            render.out(f"      → {render.plain_text(check.hint)}")
        yield check


def _summary(checks: list[Check]) -> None:
    fails, warnings = (sum(check.state == state for check in checks) for state in ("fail", "warn"))
    if fails:
        render.out(f"\n{fails} to mend before the assistant works; {warnings} to know")
    elif warnings:
        render.out(f"\nThe typed assistant works; {warnings} to know")
    else:
        render.out("\nEverything works")
