"""The API over TCP: only when asked for, only with the token, only for this machine's own programs."""

from __future__ import annotations

import http.client
import json
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from homes import Home, wait_for
from serverkit import World, assembled

from assistant.errors import ConfigError, DaemonError
from assistant.server import token
from assistant.server.address import split
from assistant.server.app import build_api, build_app
from assistant.server.listener import bind, serving
from assistant.server.openai.gate import Gate
from assistant.server.tcp import bind_tcp, is_loopback, url

anyio_only = pytest.mark.anyio


def ask(
    port: int, target: str, headers: dict[str, str], method: str = "GET", body: str | None = None
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        assert not response.getheader("Access-Control-Allow-Origin")
        content = response.read()
        return response.status, json.loads(content) if content else None
    finally:
        connection.close()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[World, int, dict[str, str]]]:
    """A daemon's API, its port, and the header that opens it."""
    async with assembled(tmp_path) as world:
        with bind(world.paths) as own, bind_tcp("127.0.0.1:0") as sock:
            assert sock is not None
            async with serving(build_app(world.services), own, (build_api(world.services, Gate()), sock)):
                right = {"Authorization": f"Bearer {token.read(world.paths.token)}"}
                yield world, sock.getsockname()[1], right


@anyio_only
async def test_nothing_is_served_without_the_token(served: tuple[World, int, dict[str, str]]) -> None:
    _, port, right = served
    true = right["Authorization"]
    for wrong in ("", "Bearer", "Bearer ", "Bearer wrong", true.replace("Bearer", "Basic"), true + "x", true[7:]):
        headers = {"Authorization": wrong} if wrong else {}
        for target in ("/health", "/v1/models", "/nosuch"):
            status, body = await anyio.to_thread.run_sync(ask, port, target, headers)
            assert (status, body["error"]["code"]) == (401, "invalid_api_key")
            assert "assistant config token" in body["error"]["message"]
    status, body = await anyio.to_thread.run_sync(ask, port, "/v1/chat/completions", {}, "POST", "{}")
    assert status == 401
    status, body = await anyio.to_thread.run_sync(ask, port, "/health", right)
    assert (status, body["status"]) == (200, "ok")


@anyio_only
async def test_a_new_token_counts_at_once(served: tuple[World, int, dict[str, str]]) -> None:
    world, port, right = served
    other = token.renew(world.paths.token)
    assert (await anyio.to_thread.run_sync(ask, port, "/health", right))[0] == 401
    assert (await anyio.to_thread.run_sync(ask, port, "/health", {"Authorization": f"bearer {other}"}))[0] == 200


@anyio_only
async def test_the_daemons_own_routes_are_not_there(served: tuple[World, int, dict[str, str]]) -> None:
    _, port, right = served
    for method, target in [("GET", "/api/status"), ("POST", "/api/stop"), ("GET", "/api/schema"), ("GET", "/v1/files")]:
        status, body = await anyio.to_thread.run_sync(ask, port, target, right, method)
        assert status == 404
        assert "/v1/chat/completions" in body["error"]["message"]
    assert (await anyio.to_thread.run_sync(ask, port, "/v1/chat/completions", right))[0] == 405


@anyio_only
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403), ({"Origin": "null"}, 403), ({"Host": "evil.example"}, 403),
        ({"Origin": "http://localhost:3000"}, 200), ({"Host": "localhost:1"}, 200), ({"Host": "[::1]:1"}, 200),
    ],
)  # fmt: skip
async def test_web_pages_of_others_are_refused_even_with_the_token(
    served: tuple[World, int, dict[str, str]], headers: dict[str, str], status: int
) -> None:
    _, port, right = served
    assert (await anyio.to_thread.run_sync(ask, port, "/v1/models", {**right, **headers}))[0] == status


@anyio_only
async def test_a_web_socket_is_not_opened(served: tuple[World, int, dict[str, str]]) -> None:
    _, port, right = served
    upgrade = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    status, _ = await anyio.to_thread.run_sync(ask, port, "/api/events", {**right, **upgrade})
    assert status == 404


@anyio_only
async def test_an_address_that_others_reach_takes_any_host_name(tmp_path: Path) -> None:
    async with assembled(tmp_path) as world:
        with bind_tcp("127.0.0.1:0") as sock:
            assert sock is not None
            async with serving(build_api(world.services, Gate(), local=False), sock):
                right = {"Authorization": f"Bearer {token.read(world.paths.token)}", "Host": "mac.local:11535"}
                port = sock.getsockname()[1]
                assert (await anyio.to_thread.run_sync(ask, port, "/health", right))[0] == 200
                assert (await anyio.to_thread.run_sync(ask, port, "/health", {"Host": "mac.local"}))[0] == 401


def test_the_token_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "data" / "api-token"
    first = token.read(path)
    assert len(first) >= 40
    assert token.read(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["api-token"]
    assert token.renew(path) != first


def test_a_token_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "api-token"
    token.read(path)
    path.chmod(0o644)
    with pytest.raises(DaemonError, match="others can read"):
        token.read(path)
    assert token.read(path) if token.renew(path) else False


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_token_opens_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "api-token"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(DaemonError, match="empty"):
        token.read(path)


def test_a_token_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(DaemonError, match="api-token"):
        token.read(tmp_path / "data" / "api-token")


@pytest.mark.parametrize(
    ("listen", "found"),
    [
        ("127.0.0.1:11535", ("127.0.0.1", 11535)), ("localhost:0", ("localhost", 0)), ("[::1]:80", ("::1", 80)),
        (" 127.0.0.1:1 ", ("127.0.0.1", 1)),
    ],
)  # fmt: skip
def test_addresses(listen: str, found: tuple[str, int]) -> None:
    assert split(listen) == found


@pytest.mark.parametrize(
    "listen",
    ["11535", "127.0.0.1", ":11535", "127.0.0.1:http", "127.0.0.1:70000", "http://127.0.0.1:1", "a@b:1", "[::1:5"],
)
def test_what_is_no_address_names_the_setting(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"\[server\] listen"), bind_tcp(listen):
        pass


def test_nothing_listens_unless_asked_to() -> None:
    with bind_tcp("") as sock:
        assert sock is None


def test_a_port_in_use_names_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(DaemonError, match=listen) as caught, bind_tcp(listen):
            pass
    assert "[server] listen" in caught.value.hint


def test_an_address_that_others_reach_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with bind_tcp("0.0.0.0:0") as sock:
        assert sock is not None
        assert not is_loopback(sock)
    assert "other machines" in caplog.text
    caplog.clear()
    with bind_tcp("localhost:0") as sock:
        assert sock is not None
        assert is_loopback(sock)
        assert url(sock).startswith("http://127.0.0.1:")
    assert caplog.text == ""


# The daemon


def test_a_daemon_with_an_api(home: Home) -> None:
    home.config('[llm]\nengine = "scripted"\n[server]\nlisten = "127.0.0.1:0"\n')
    assert home.run("up").code == 0
    api = home.status()["api"]
    key = home.run("config", "token").out.strip()
    shown = home.run("status").out
    assert f"{api} (key: assistant config token)" in shown
    assert key not in shown + home.log()
    port = int(api.removeprefix("http://127.0.0.1:").removesuffix("/v1"))
    body = json.dumps({"messages": [{"role": "user", "content": "hello"}]})
    status, answer = ask(port, "/v1/chat/completions", {"Authorization": f"Bearer {key}"}, "POST", body)
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "you said: hello")
    assert answer["model"] == "scripted"
    _stop_reading_in_the_middle(port, key)
    wait_for(lambda: all(lane["jobs"] == 0 for lane in home.status()["lanes"]))
    home.run("config", "token", "--new")
    assert ask(port, "/health", {"Authorization": f"Bearer {key}"})[0] == 401
    home.run("down")
    with pytest.raises(ConnectionRefusedError):
        ask(port, "/health", {})


def _stop_reading_in_the_middle(port: int, key: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    body = json.dumps({"messages": [{"role": "user", "content": "count 100000"}], "stream": True})
    connection.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {key}"})
    assert b"assistant" in connection.getresponse().readline()
    connection.close()


def test_a_daemon_without_one_has_no_token(home: Home) -> None:
    assert home.run("up").code == 0
    assert home.status()["api"] == ""
    assert not (home.path / "data" / "api-token").exists()


def test_a_daemon_that_cannot_listen_does_not_start_and_says_why(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        home.config(f'[server]\nlisten = "127.0.0.1:{taken.getsockname()[1]}"\n')
        refused = home.run("up")
    assert refused.code == 1
    assert "[server] listen" in refused.err
    assert "in use" in refused.err
    home.config('[server]\nlisten = "nonsense"\n')
    for command in (["up", "--foreground"], ["config", "check"]):
        refused = home.run(*command)
        assert refused.code == 2
        assert "[server] listen = 'nonsense'" in refused.err
