"""The token that every request over TCP must carry; made once, kept in a file that only the user can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from assistant.errors import DaemonError

TOKEN_BYTES = 32


def read(path: Path) -> str:
    """The token in ``path``, which is made if it is not there; light enough for every request.

    Raises:
        DaemonError: the file cannot be used, or others can read it.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return _make(path)
    except OSError as problem:
        raise _unusable(path, problem) from problem
    try:
        if os.fstat(file).st_mode & 0o077:
            raise DaemonError(f"others can read the API token in {path}",
                              hint="`assistant config token --new` makes another one")  # fmt: skip
        token = os.read(file, 1000).decode("ascii", "replace").strip()
    finally:
        os.close(file)
    if not token:
        raise DaemonError(f"the API token in {path} is empty", hint="`assistant config token --new` makes one")
    return token


def renew(path: Path) -> str:
    """Another token in place of the old one, which is good for nothing from now on.

    Raises:
        DaemonError: the file cannot be written.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as problem:
        raise _unusable(path, problem) from problem
    return _make(path)


def _make(path: Path) -> str:
    """Write a new token under a name of its own and link it into place: two makers agree on one token."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "w") as stream:
            stream.write(f"{token}\n")
        try:
            os.link(draft, path)
        finally:
            draft.unlink()
    except FileExistsError:
        return read(path)
    except OSError as problem:
        raise _unusable(path, problem) from problem
    return token


def _unusable(path: Path, problem: OSError) -> DaemonError:
    return DaemonError(f"the API token in {path} cannot be used: {problem.strerror or problem}",
                       hint="check who owns the file and its folder")  # fmt: skip
