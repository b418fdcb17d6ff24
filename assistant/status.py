"""The daemon at a glance."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

from . import __version__
from .services import Services
from .store import STORE, Store
from .wire import Status

if TYPE_CHECKING:
    import psutil


async def build(services: Services) -> Status:
    """What the daemon is, does and costs now."""
    paths, pool, plugins = services.paths, services.pool, services.plugins.plugins
    process = _process()
    return Status(
        version=__version__,
        pid=os.getpid(),
        started_at=services.started_at,
        rss=process.memory_info().rss,
        cpu_percent=process.cpu_percent(),
        socket=str(paths.socket),
        api=services.api,
        voice=services.voice.info,
        llm=pool.selected("llm"),
        stt=pool.selected("stt"),
        tts=pool.selected("tts"),
        lanes=services.lanes.infos(),
        engines=pool.infos(),
        models=pool.residency.loaded(),
        plugins_loaded=sum(plugin.state == "loaded" for plugin in plugins),
        plugins_failed=sum(plugin.state == "failed" for plugin in plugins),
        live_turns=services.sessions.live,
        sessions=await services.db.call(STORE, Store.count),
        home_config=str(paths.config_file) if paths.config_file.is_file() else "",
    )


@functools.cache
def _process() -> psutil.Process:
    """One object for all calls: the CPU share is measured from one call to the next."""
    import psutil

    return psutil.Process()
