"""Who may ask: no web page but one of this machine's own (a defence against DNS rebinding)."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection
from litestar.exceptions import PermissionDeniedException
from litestar.handlers import BaseRouteHandler


async def check_source(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A guard that refuses foreign web pages, over HTTP and WebSocket alike; not sync, which would cost a thread.

    Raises:
        PermissionDeniedException: the request comes from a page of another host, or, over TCP, to another name.
    """
    server = connection.scope.get("server")
    over_tcp = server is not None and server[1] is not None
    headers = connection.headers
    if reason := refusal(headers.get("origin"), headers.get("host"), over_tcp):
        raise PermissionDeniedException(reason)


def refusal(origin: str | None, host: str | None, over_tcp: bool) -> str:
    """Why a request with these headers is refused; empty if it is not.

    Args:
        origin: browsers send it with every cross-site and WebSocket request; other programs do not.
        host: the name that the client thinks it talks to; it means nothing on a Unix socket.
    """
    if origin is not None and not _is_loopback(origin):
        return f"requests from the web page {origin!r} are refused"
    if over_tcp and not _is_loopback(f"//{host or ''}"):
        return f"requests to the host {host!r} are refused"
    return ""


def _is_loopback(url: str) -> bool:
    try:
        name = urlsplit(url).hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
