"""The composition root: configuration → plugins → lanes → store → server; start, stop, signals."""

from __future__ import annotations

import logging
import logging.handlers
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import anyio
from anyio.abc import TaskGroup

from . import __version__, config, events
from .bus import Bus
from .finetune.jobs import Finetuner
from .intents import IntentMatcher
from .lanes import Lanes
from .models import Models
from .paths import Paths
from .plugins import PluginHost
from .pool import EnginePool
from .server.app import build_api, build_app
from .server.listener import bind, hold_lock, serving
from .server.openai.gate import Gate
from .server.tcp import bind_tcp, is_loopback, url
from .server.token import read as read_token
from .services import Services
from .sessions import Sessions
from .store import STORE, Store
from .turn import Parts
from .voice.service import VoiceService

log = logging.getLogger(__name__)

MAX_LOG_BYTES = 5 << 20
"""A log that grows beyond it moves to ``daemon.log.1``."""


def run(paths: Paths) -> int:
    """Be the daemon until a signal or ``POST /api/stop``.

    Returns: the exit status.

    Raises:
        DaemonAlreadyRunning: another daemon owns this home.
        ConfigError: the configuration is wrong.
        DaemonError: a socket cannot be had, or the API's token cannot be used.
    """
    paths.make()
    with hold_lock(paths):
        settings = config.load(paths)
        start_logging(paths, settings.log.level)
        sock = bind(paths)
        try:
            with bind_tcp(settings.server.listen) as tcp:
                if tcp is not None:
                    read_token(paths.token)
                anyio.run(_main, settings, paths, sock, tcp)
        finally:
            sock.close()
            paths.socket.unlink(missing_ok=True)
    _leave_stuck_threads()
    return 0


def _leave_stuck_threads() -> None:
    """End the process at once if a plugin's call never came back; the interpreter would wait for its thread."""
    stuck = [thread for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon]
    if stuck:
        log.warning("%d call(s) into plugins never returned and are left behind", len(stuck))
        logging.shutdown()
        os._exit(0)


async def _main(settings: config.Settings, paths: Paths, sock: socket.socket, tcp: socket.socket | None) -> None:
    stopping = anyio.Event()
    async with running(settings, paths, stopping.set) as services, _served(services, sock, tcp):
        log.info("assistant %s listens on %s", __version__, paths.socket)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_stop_on_signal, stopping)
            await stopping.wait()
            tasks.cancel_scope.cancel()
        log.info("stopping")
        services.bus.publish(events.DaemonStopping())
        await services.sessions.cancel_all()


@asynccontextmanager
async def _served(services: Services, sock: socket.socket, tcp: socket.socket | None) -> AsyncIterator[None]:
    """Serve on the Unix socket, and the API on the TCP socket if there is one."""
    gate, more = Gate(), []
    if tcp is not None:
        services = replace(services, api=url(tcp))
        more.append((build_api(services, gate, local=is_loopback(tcp)), tcp))
        log.info("OpenAI-compatible clients: %s, key in %s", services.api, services.paths.token)
    async with serving(build_app(services, gate=gate), sock, *more):
        yield


@asynccontextmanager
async def running(
    settings: config.Settings,
    paths: Paths,
    stop: Callable[[], None],
    given: Mapping[str, object] = MappingProxyType({}),
) -> AsyncIterator[Services]:
    """Everything but the server, started; and stopped in the opposite order.

    Args:
        given: plugins that are not installed, by their names.
    """
    bus = Bus()
    plugins = PluginHost(settings, paths, bus.publish, plugins=given)
    plugins.load()
    for problem in plugins.problems:
        log.warning("%s", problem)
    bus.add_observer(_note)
    bus.add_observer(plugins.observe)
    try:
        async with Lanes(settings.lanes, bus.publish) as lanes, anyio.create_task_group() as tasks:
            services = await _assemble(settings, paths, bus, plugins, lanes, tasks, stop)
            async with plugins.lifespans():
                yield services
                await services.sessions.cancel_all()
            tasks.cancel_scope.cancel()
    finally:
        plugins.close()


async def _assemble(
    settings: config.Settings,
    paths: Paths,
    bus: Bus,
    plugins: PluginHost,
    lanes: Lanes,
    tasks: TaskGroup,
    stop: Callable[[], None],
) -> Services:
    db = lanes.lane("thread:store")
    await db.add(STORE, Store(paths.database), None)
    if interrupted := await db.call(STORE, Store.interrupted):
        log.warning("%d turn(s) were running when the daemon last died; they are marked interrupted", interrupted)
    models = Models(paths.models, bus.publish)
    pool = EnginePool(settings, plugins, lanes, models)
    tasks.start_soon(pool.residency.keep)
    parts = Parts(settings, bus, db, plugins, pool, IntentMatcher(plugins.intents), paths)
    sessions = Sessions(parts, tasks)
    voice = VoiceService(parts, sessions, models, tasks)
    tasks.start_soon(voice.run)
    return Services(
        settings=settings,
        paths=paths,
        bus=bus,
        plugins=plugins,
        lanes=lanes,
        db=db,
        models=models,
        pool=pool,
        sessions=sessions,
        finetuner=Finetuner(settings, paths, bus.publish, db, lanes, models, pool, tasks),
        voice=voice,
        started_at=time.time(),
        stop=stop,
    )


def _note(event: events.Event) -> None:
    """Log what an administrator looks for; never what was said."""
    match event:
        case events.LaneCrashed() | events.LaneQuarantined():
            log.warning("lane %s: %s", event.lane, event.cause)
        case events.LaneStarted():
            log.info("lane %s started as process %d", event.lane, event.pid)
        case events.EngineLoaded():
            log.info("engine %s loaded on lane %s in %.1f s", event.engine, event.lane, event.seconds)
        case events.TimerFired():
            log.info("timer %s fired, %.0f s late", event.timer_id, event.late_seconds)
        case events.TurnFinished(error=events.ErrorInfo() as error):
            log.warning("turn %s failed: %s: %s", event.turn_id, error.code, error.message)
        case _:
            pass


async def _stop_on_signal(stopping: anyio.Event) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            log.info("received %s", signal.Signals(number).name)
            stopping.set()


def start_logging(paths: Paths, level: str) -> None:
    """Log to standard error, and to the log file unless standard error is that file already."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if not _is_stderr(paths.log):
        handlers.append(logging.handlers.RotatingFileHandler(paths.log, maxBytes=MAX_LOG_BYTES, backupCount=1))
    logging.basicConfig(
        level=level.upper(), handlers=handlers, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    logging.captureWarnings(True)


def _is_stderr(path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(sys.stderr.fileno()), path.stat())
    except (OSError, ValueError):
        return False
