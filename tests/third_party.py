"""Plugins as other people publish them: a module and a ``dist-info`` folder on ``sys.path``, found as any plugin is."""

from __future__ import annotations

import itertools
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from assistant.config import PluginTable, Settings
from assistant.events import Event
from assistant.hookspecs import GROUP
from assistant.paths import Paths, find
from assistant.plugins import PluginHost
from assistant.wire import PluginInfo

HEADER = """
from __future__ import annotations
from assistant import *
from assistant import hookimpl
"""

GOOD = """
def wave() -> str:
    "Wave a hand."
    return "hello"

@hookimpl
def register_tools(context):
    yield Tool.of(wave)
"""
"""A plugin that works."""

_serial = itertools.count()


@dataclass
class Site:
    """A folder of installed plugins."""

    folder: Path
    paths: Paths
    bundled: list[str]
    events: list[Event] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)
    hosts: list[PluginHost] = field(default_factory=list)

    def install(self, name: str, source: str, *, attribute: str = "", version: str = "1.2") -> str:
        """Install a distribution with one plugin; gives back the name of its module."""
        module = f"third_party_{next(_serial)}_{name}"
        (self.folder / f"{module}.py").write_text(HEADER + textwrap.dedent(source))
        info = self.folder / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {module}{attribute}\n")
        self.modules.append(module)
        return module

    def host(self, plugins: PluginTable | None = None, *, lifespan_seconds: float = 10.0) -> PluginHost:
        """A host that loaded what is installed here, and nothing that is bundled."""
        chosen = plugins or PluginTable()
        settings = Settings(
            plugins=PluginTable([*chosen.disabled, *self.bundled], chosen.tables, chosen.source),
        )
        host = PluginHost(settings, self.paths, self.events.append, lifespan_seconds=lifespan_seconds)
        self.hosts.append(host)
        host.load()
        return host


def info(host: PluginHost, name: str) -> PluginInfo:
    """What a host says of one plugin."""
    (found,) = [plugin for plugin in host.plugins if plugin.name == name]
    return found


@contextmanager
def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty folder of installed plugins on ``sys.path``."""
    bundled = [point.name for point in entry_points(group=GROUP)]
    packages = folder / "site"
    packages.mkdir()
    monkeypatch.syspath_prepend(str(packages))
    site = Site(packages, find({"ASSISTANT_HOME": str(folder / "home")}), bundled)
    yield site
    for host in site.hosts:
        host.close()
    for module in site.modules:
        sys.modules.pop(module, None)


def eventually(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait until something that another thread does has happened."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)
