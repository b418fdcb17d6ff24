"""The Unix socket: who may own it, how it is bound; and how sockets are served."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from assistant.errors import DaemonAlreadyRunning, DaemonError
from assistant.paths import Paths

if TYPE_CHECKING:
    from litestar.types import ASGIApp

BACKLOG = 128
"""Clients that may wait to be accepted, for example while the daemon starts."""
MAX_MESSAGE_BYTES = 16 << 20
"""What a WebSocket takes in one message; smaller limits are the commands' own and give a clear error."""
DRAIN_SECONDS = 0.1
"""How long the last events have to leave before the connections are closed."""
GRACE_SECONDS = 5
"""How long running requests have to end when the server stops."""
RUNNING_HINT = "`assistant status` shows it, `assistant down` stops it"


@contextmanager
def hold_lock(paths: Paths) -> Iterator[None]:
    """Own this home; the lock file holds the process id, and outlives the process harmlessly.

    Raises:
        DaemonAlreadyRunning: another process owns it.
        DaemonError: the lock file cannot be used.
    """
    try:
        lock = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise DaemonError(f"cannot open {paths.lock}: {problem.strerror}", hint="check who owns it") from problem
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            pid = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "not known yet"
            raise DaemonAlreadyRunning(f"a daemon is already running (pid {pid})", hint=RUNNING_HINT) from problem
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(lock, 0)
    finally:
        os.close(lock)


def bind(paths: Paths) -> socket.socket:
    """A listening socket at ``paths.socket`` that only this user can open; a stale one is replaced.

    Clients may connect at once and wait until they are served.

    Raises:
        DaemonAlreadyRunning: another process listens there.
        DaemonError: the folder is not private, or the socket cannot be made.
    """
    path = paths.socket
    _check_private(path.parent)
    _remove_stale(path)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    try:
        server.bind(os.fspath(path))
        server.listen(BACKLOG)
    except OSError as problem:
        server.close()
        raise DaemonError(f"cannot listen on {path}: {problem.strerror or problem}") from problem
    finally:
        os.umask(umask)
    server.setblocking(False)
    return server


@asynccontextmanager
async def serving(app: ASGIApp, sock: socket.socket, *more: tuple[ASGIApp, socket.socket]) -> AsyncIterator[None]:
    """Serve the application while the block runs; then let running requests end for a few seconds, and close.

    Args:
        more: further applications, each on a socket of its own and without WebSockets.
    """
    servers = [(_Server(app, websockets=True), sock), *((_Server(other, websockets=False), at) for other, at in more)]
    async with anyio.create_task_group() as tasks:
        for server, at in servers:
            tasks.start_soon(server.serve, [at])
        try:
            for server, _ in servers:
                await server.accepts.wait()
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(DRAIN_SECONDS)
                for server, _ in servers:
                    server.ends.set()
                for server, _ in servers:
                    await server.ended.wait()


class _WebSocketProtocol(WebSocketsSansIOProtocol):
    async def run_asgi(self) -> None:
        await super().run_asgi()
        if not self.writable.is_set():
            self.transport.abort()  # a close would wait for ever for a client that does not read


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers and without waking ten times a second."""

    def __init__(self, app: ASGIApp, *, websockets: bool) -> None:
        super().__init__(
            uvicorn.Config(
                cast(Any, app), loop="none", http="h11", ws=_WebSocketProtocol if websockets else "none",
                ws_max_size=MAX_MESSAGE_BYTES, ws_ping_interval=None, ws_per_message_deflate=False,
                lifespan="off", log_config=None, log_level="warning", access_log=False, proxy_headers=False,
                server_header=False, date_header=False, workers=1, backlog=BACKLOG,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self.accepts = anyio.Event()
        self.ends = anyio.Event()
        self.ended = anyio.Event()

    def capture_signals(self) -> Any:
        return nullcontext()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Until ``ends`` is set; a cancelled caller must set it too."""
        try:
            with anyio.CancelScope(shield=True):
                await super().serve(sockets)
        finally:
            self.ended.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        self.accepts.set()
        await self.ends.wait()


def _check_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = folder.stat()
    if state.st_uid != os.getuid() or state.st_mode & 0o077:
        raise DaemonError(f"others have access to {folder}", hint=f"chmod 700 {folder}, and own it yourself")


def _remove_stale(path: Path) -> None:
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise DaemonError(f"{path} is in the way: it is not a socket", hint="move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # it lives and its backlog is full
        except OSError as problem:
            raise DaemonError(f"{path} is in the way: {os.strerror(problem.errno or errno.EIO)}") from problem
    raise DaemonAlreadyRunning(f"a daemon already listens on {path}", hint=RUNNING_HINT)
