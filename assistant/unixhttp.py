"""One HTTP exchange over a Unix socket: blocking, standard library only."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import DaemonUnreachable

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

CHUNK_BYTES = 1 << 15
"""The most that is handed on at once."""


class Exchange:
    """One request and its answer, on a connection of its own; ``abort`` may come from another thread."""

    def __init__(self, path: Path, timeout: float | None) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        self._connection: HTTPConnection | None = None
        self._response: HTTPResponse | None = None
        self._closed = False

    def send(self, method: str, target: str, body: bytes | None, raw: bool) -> int:
        """Send the request and wait for the beginning of the answer.

        Args:
            raw: the body is bytes rather than JSON.

        Returns: the HTTP status.

        Raises:
            DaemonUnreachable: nothing answers.
        """
        from http.client import HTTPConnection, HTTPException

        headers = {"Connection": "close"}
        if body is not None:
            headers["Content-Type"] = "application/octet-stream" if raw else "application/json"
        try:
            self._socket.connect(str(self._path))
        except OSError as problem:
            raise unreachable(self._path, problem) from problem
        connection = self._connection = HTTPConnection("localhost")
        connection.sock = self._socket
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # refused before it was all sent: the answer says why
                connection.request(method, target, body=body, headers=headers)
            response = self._response = connection.getresponse()
            if self._closed:
                response.close()
        except TimeoutError as problem:
            raise DaemonUnreachable("the daemon does not answer", hint="`assistant down` ends it") from problem
        except (OSError, HTTPException) as problem:
            raise cut() from problem
        if response.length is None and not response.chunked:
            raise cut()  # every answer of the daemon tells its length: the headers did not arrive whole
        return response.status

    def header(self, name: str) -> str:
        """A header of the answer, or an empty string."""
        return self._response.getheader(name, "") if self._response else ""

    def read_all(self) -> bytes:
        """The body of the answer.

        Raises:
            DaemonUnreachable: it was cut off.
        """
        return b"".join(iter(self.read_some, b""))

    def read_some(self, most: int = CHUNK_BYTES) -> bytes:
        """The next piece of the body as soon as there is one; empty at the end.

        Raises:
            DaemonUnreachable: it was cut off.
        """
        from http.client import HTTPException

        if self._response is None:
            return b""
        try:
            piece = self._response.read1(most)
        except (OSError, HTTPException) as problem:
            raise cut() from problem
        if not piece and self._response.length:
            raise cut()
        return piece

    def abort(self) -> None:
        """End it from another thread; whoever waits in a read gets an error at once."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            self._socket.close()  # it was not connected yet

    def close(self) -> None:
        """Give the connection back; from another thread too: a request that still waits gives up its answer."""
        self._closed = True
        if self._response is not None:
            self._response.close()
        if self._connection is not None:
            self._connection.close()
        self._socket.close()


def unreachable(path: Path, problem: Exception) -> DaemonUnreachable:
    """The error for a connection that could not be made."""
    if isinstance(problem, FileNotFoundError | ConnectionRefusedError):
        return DaemonUnreachable("the daemon is not running", hint="`assistant up` starts it")
    if isinstance(problem, ConnectionError | EOFError):
        return cut()
    reason = (problem.strerror if isinstance(problem, OSError) else "") or str(problem) or type(problem).__name__
    return DaemonUnreachable(f"cannot reach the daemon at {path}: {reason}", hint="`assistant up` starts it")


def cut() -> DaemonUnreachable:
    """The error for a daemon that went away before it had answered."""
    return DaemonUnreachable(
        "the connection to the daemon was cut", hint="`assistant logs` may say why; `assistant up` starts it again"
    )
