"""TCP, only when asked for: the OpenAI-compatible routes and nothing else, and never without the token."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from litestar.types import ASGIApp, Receive, Scope, Send

from assistant.errors import AssistantError, DaemonError

from . import token
from .address import SETTING, split
from .auth import refusal
from .openai.failures import Refused, send_error

log = logging.getLogger(__name__)

BACKLOG = 128


@contextmanager
def bind_tcp(listen: str) -> Iterator[socket.socket | None]:
    """A listening socket at ``host:port``; None if ``listen`` is empty.

    Raises:
        ConfigError: it is no address and port.
        DaemonError: it cannot be listened on.
    """
    if not listen.strip():
        yield None
        return
    host, port = split(listen)
    server = _open(host, port)
    with server:
        if not is_loopback(server):
            log.warning("%s = %r: other machines can reach the API, and what they send is not encrypted; "
                        "the token alone protects it", SETTING, listen)  # fmt: skip
        yield server


def url(server: socket.socket) -> str:
    """What a client is told: the base URL."""
    host, port = server.getsockname()[:2]
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


def is_loopback(server: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    return ipaddress.ip_address(server.getsockname()[0].partition("%")[0]).is_loopback


def _open(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        server = socket.socket(family, kind, protocol)
    except OSError as problem:
        raise _refuse(host, port, problem) from problem
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(address)
        server.listen(BACKLOG)
    except OSError as problem:
        server.close()
        raise _refuse(host, port, problem) from problem
    server.setblocking(False)
    return server


def _refuse(host: str, port: int, problem: OSError) -> DaemonError:
    return DaemonError(
        f"cannot listen on {host}:{port}: {problem.strerror or problem}",
        hint=f"{SETTING} in config.toml names it: choose another address or port, or stop what uses it; "
             "empty is the Unix socket only",
    )  # fmt: skip


class Guarded:
    """An application behind the token; foreign web pages are refused even with it.

    Args:
        app: what is protected.
        path: the token's file, read for every request: a new token counts at once.
        local: whether only this machine reaches the address, so that the host's name must be this machine's.
    """

    def __init__(self, app: ASGIApp, path: Path, *, local: bool) -> None:
        self._app = app
        self._path = path
        self._local = local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it: 403 for its origin, 401 for its token."""
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            if reason := refusal(headers.get(b"origin"), headers.get(b"host"), self._local):
                raise Refused(reason, kind="forbidden", status=403)
            self._check(headers.get(b"authorization", ""))
        except AssistantError as problem:
            await send_error(problem, send)
            return
        await self._app(scope, receive, send)

    def _check(self, authorization: str) -> None:
        scheme, _, given = authorization.partition(" ")
        if not given:
            raise _no_token("no API key was sent")
        wanted = token.read(self._path)
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), wanted.encode()):
            raise _no_token("the API key is not this assistant's")


def _no_token(reason: str) -> Refused:
    return Refused(reason, kind="invalid_api_key", status=401, hint="`assistant config token` prints it")
