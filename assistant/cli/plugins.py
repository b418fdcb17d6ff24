"""``assistant plugins``: what was found and what became of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import anyio
import click

from assistant import paths

from . import connect, render
from .app import SETTINGS, NearestGroup

if TYPE_CHECKING:
    from assistant.wire import PluginInfo


@click.group("plugins", cls=NearestGroup, context_settings=SETTINGS)
def plugins() -> None:
    """Plugins: packages with an entry point in the group `assistant`."""


@plugins.command("list")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
def list_plugins(as_json: bool) -> None:
    """List the plugins, what they provide, and why one does not run."""
    found = anyio.run(connect.client(paths.find(), quiet=False).plugins)
    if as_json:
        render.json_out(found)
        return
    rows = [(p.name, p.version, p.state, f"{p.seconds * 1000:.0f} ms", ", ".join(p.provides) or "-") for p in found]
    render.out(render.table(("NAME", "VERSION", "STATE", "LOADED IN", "PROVIDES"), rows, right=(3,)))
    for plugin in found:
        if plugin.reason:
            render.out("\n" + _reason(plugin))


def _reason(plugin: PluginInfo) -> str:
    colour = "red" if plugin.state == "failed" else "dim"
    what = render.paint(f"{plugin.name} {plugin.state}:", colour, sys.stdout)
    return f"{what} {render.plain_text(plugin.reason)}"
