"""One small question to the daemon without asyncio: is it there, and how is it? Keeps ``status`` quick."""

from __future__ import annotations

import socket
from pathlib import Path

from assistant.errors import DaemonError, DaemonUnreachable

ANSWER_SECONDS = 5.0
"""A daemon that needs longer for its status hangs."""


def unreachable() -> DaemonUnreachable:
    """The error for a daemon that is down."""
    return DaemonUnreachable("the assistant is not running", hint="assistant up")


def listens(path: Path) -> bool:
    """Whether something accepts connections on the socket."""
    try:
        with _connect(path):
            return True
    except DaemonError:
        return False


def answers(path: Path) -> bool:
    """Whether the daemon is ready for requests."""
    try:
        return bool(get(path, "/api/status"))
    except DaemonError:
        return False


def get(path: Path, target: str) -> bytes:
    """The body of ``GET target``.

    Raises:
        DaemonUnreachable: nothing listens on the socket.
        DaemonError: it hangs or does not speak our language.
    """
    request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    with _connect(path) as connection:
        try:
            connection.sendall(request.encode("ascii"))
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except TimeoutError:
            raise DaemonError(
                f"the daemon did not answer within {ANSWER_SECONDS:.0f} s", hint="assistant logs; assistant down"
            ) from None
        except OSError as error:
            raise DaemonUnreachable(f"the daemon went away: {error}", hint="assistant logs") from error
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if status != [b"200"] or b"transfer-encoding: chunked" in head.lower():
        line = head.split(b"\r\n", 1)[0].decode("latin-1")
        raise DaemonError(f"the daemon gave no status: {line or 'an empty answer'}", hint="assistant logs")
    return body


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(ANSWER_SECONDS)
    try:
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        if isinstance(error, TimeoutError):
            raise DaemonError("the daemon accepts no connections", hint="assistant logs; assistant down") from None
        raise unreachable() from error
    return connection
