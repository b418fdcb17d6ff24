"""The address of ``[server] listen``; light enough for the command line."""

from __future__ import annotations

from urllib.parse import urlsplit

from assistant.errors import ConfigError

SETTING = "[server] listen"


def split(listen: str) -> tuple[str, int]:
    """Host and port of ``127.0.0.1:11535``, ``localhost:11535`` or ``[::1]:11535``; port 0 takes a free one.

    Raises:
        ConfigError: it is something else.
    """
    hint = 'write it like "127.0.0.1:11535"'
    if "/" in listen:
        raise ConfigError(f"{SETTING} = {listen!r}: that is a URL or a path", hint=hint)
    try:
        parts = urlsplit(f"//{listen.strip()}")
        host, port = parts.hostname, parts.port
    except ValueError as problem:
        raise ConfigError(f"{SETTING} = {listen!r}: {problem}", hint=hint) from problem
    if not host or port is None or parts.username is not None:
        raise ConfigError(f"{SETTING} = {listen!r}: it needs an address and a port", hint=hint)
    return host, port


def check(listen: str) -> None:
    """Refuse what is neither empty nor an address and port.

    Raises:
        ConfigError: see ``split``.
    """
    if listen.strip():
        split(listen)
