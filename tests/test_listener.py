"""Owning, binding and serving the Unix socket."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from serverkit import assembled, served

from assistant.errors import DaemonAlreadyRunning, DaemonError
from assistant.hookspecs import Route
from assistant.paths import Paths, find
from assistant.server.app import build_app
from assistant.server.listener import bind, hold_lock, serving
from assistant.wire import Status

HOLD = """
import sys, time
from assistant.paths import find
from assistant.server.listener import bind, hold_lock
paths = find({"ASSISTANT_HOME": sys.argv[1]})
with hold_lock(paths), bind(paths):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """The folders of a daemon that does not run yet."""
    paths = find({"ASSISTANT_HOME": str(tmp_path)})
    paths.make()
    return paths


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_the_socket_is_private(paths: Paths) -> None:
    umask = os.umask(0)
    try:
        with bind(paths):
            assert mode(paths.socket) == 0o600
            assert mode(paths.socket.parent) == 0o700
            assert os.umask(0) == 0
    finally:
        os.umask(umask)


def test_a_folder_that_others_can_enter_is_refused(paths: Paths) -> None:
    paths.socket.parent.chmod(0o755)
    with pytest.raises(DaemonError, match="others have access"):
        bind(paths)
    assert not paths.socket.exists()


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    paths = find({"ASSISTANT_HOME": str(tmp_path / "new")})
    with bind(paths):
        assert mode(paths.socket.parent) == 0o700


def test_a_live_socket_is_left_alone(paths: Paths) -> None:
    with bind(paths) as first:
        inode = paths.socket.stat().st_ino
        with pytest.raises(DaemonAlreadyRunning):
            bind(paths)
        assert paths.socket.stat().st_ino == inode
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(paths.socket))
            first.setblocking(True)
            first.accept()[0].close()


def test_a_socket_with_a_full_backlog_lives(paths: Paths) -> None:
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as client:
        busy.bind(str(paths.socket))
        busy.listen(0)
        client.connect(str(paths.socket))
        with pytest.raises(DaemonAlreadyRunning):
            bind(paths)


def test_a_stale_socket_is_replaced(paths: Paths) -> None:
    bind(paths).close()
    assert paths.socket.is_socket()
    with bind(paths), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(paths.socket))


def test_what_is_no_socket_is_not_removed(paths: Paths) -> None:
    paths.socket.write_text("precious")
    with pytest.raises(DaemonError, match="not a socket"):
        bind(paths)
    assert paths.socket.read_text() == "precious"


def test_the_lock_is_held_by_one_and_names_it(paths: Paths) -> None:
    with hold_lock(paths):
        assert paths.lock.read_text() == f"{os.getpid()}\n"
        assert mode(paths.lock) == 0o600
        with pytest.raises(DaemonAlreadyRunning, match=f"pid {os.getpid()}"), hold_lock(paths):
            pass
    with hold_lock(paths):
        pass


def test_the_id_of_a_dead_process_is_harmless(paths: Paths) -> None:
    paths.lock.write_text("1234567890\n")
    with hold_lock(paths):
        assert paths.lock.read_text() == f"{os.getpid()}\n"


def test_a_lock_that_cannot_be_opened(paths: Paths) -> None:
    paths.lock.mkdir()
    with pytest.raises(DaemonError, match="cannot open"), hold_lock(paths):
        pass


def test_a_killed_daemon_leaves_nothing_that_is_in_the_way(paths: Paths, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(DaemonAlreadyRunning, match=f"pid {other.pid}"), hold_lock(paths):
            pass
        with pytest.raises(DaemonAlreadyRunning):
            bind(paths)
        other.kill()
    with hold_lock(paths), bind(paths):
        assert paths.socket.is_socket()


def test_a_spawned_lane_does_not_inherit_the_lock(paths: Paths) -> None:
    child = multiprocessing.get_context("spawn").Process(target=signal.pause)
    with hold_lock(paths):
        child.start()
    try:
        with hold_lock(paths):
            assert child.is_alive()
    finally:
        child.kill()
        child.join()


@pytest.mark.anyio
async def test_a_client_that_comes_early_waits_until_it_is_served(tmp_path: Path) -> None:
    found: list[Status] = []
    answered = anyio.Event()
    async with assembled(tmp_path) as world:
        with bind(world.paths) as sock:

            async def ask() -> None:
                found.append(await world.client.status())
                answered.set()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                await anyio.sleep(0.05)
                assert found == []
                async with serving(build_app(world.services), sock):
                    with anyio.fail_after(10):
                        await answered.wait()


@pytest.mark.anyio
async def test_the_signal_handlers_stay_the_daemons(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with assembled(tmp_path) as world, served(world):
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.anyio
async def test_a_cancelled_daemon_closes_its_server(tmp_path: Path) -> None:
    async with assembled(tmp_path) as world:
        with anyio.CancelScope() as scope:
            async with served(world), world.client.connect():
                scope.cancel()
                await anyio.sleep_forever()
        with bind(world.paths):
            pass


@pytest.mark.anyio
async def test_a_request_that_runs_is_answered_before_the_server_ends(tmp_path: Path) -> None:
    begun, found = anyio.Event(), list[int]()

    async def slow(body: bytes) -> bytes:
        begun.set()
        await anyio.sleep(0.3)
        return b"7"

    async with assembled(tmp_path) as world, anyio.create_task_group() as tasks:
        world.plugins.routes.append(("slow", Route("POST", "x", slow)))

        async def ask() -> None:
            found.append(await world.client.post("/plugins/slow/x", None, int))

        async with served(world):
            tasks.start_soon(ask)
            await begun.wait()
    assert found == [7]
