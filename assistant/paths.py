"""Where things lie: config, data, state, cache and runtime folders.

``ASSISTANT_HOME`` moves all of them below one folder, which is how tests and a second assistant stay apart.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MAX_SOCKET_PATH = 100
"""Bytes; ``sun_path`` holds 104 on macOS and 108 on Linux, with the final NUL."""


@dataclass(frozen=True)
class Paths:
    """Every folder and file that the assistant keeps."""

    config: Path
    """Folder of ``config.toml``."""
    data: Path
    """What must not be lost: the store, models, plugins' data."""
    state: Path
    """Logs."""
    cache: Path
    """What can be made again."""
    runtime: Path
    """Socket and lock; mode 0700."""

    @property
    def config_file(self) -> Path:
        """The user's configuration, which need not exist."""
        return self.config / "config.toml"

    @property
    def database(self) -> Path:
        """Conversations, messages and tool calls."""
        return self.data / "assistant.db"

    @property
    def models(self) -> Path:
        """One folder a model."""
        return self.data / "models"

    @property
    def token(self) -> Path:
        """What clients over TCP must know; mode 0600."""
        return self.data / "api-token"

    @property
    def log(self) -> Path:
        """The daemon's log."""
        return self.state / "daemon.log"

    @property
    def socket(self) -> Path:
        """The daemon's Unix socket; moved to a short path where the system's limit would cut it."""
        usual = self.runtime / "daemon.sock"
        if len(os.fsencode(usual)) <= MAX_SOCKET_PATH:
            return usual
        import hashlib
        import tempfile

        digest = hashlib.sha256(os.fsencode(self.runtime)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"assistant-{os.getuid()}-{digest}" / "daemon.sock"

    @property
    def lock(self) -> Path:
        """Held by the running daemon; holds its process id."""
        return self.runtime / "daemon.lock"

    def plugin_data(self, name: str) -> Path:
        """The folder that belongs to one plugin."""
        return self.data / "plugins" / name

    def make(self) -> None:
        """Create the folders; the runtime folder and the socket's are private to the user."""
        for folder in (self.config, self.data, self.state, self.cache):
            folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.runtime, self.socket.parent):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)


def find(environ: Mapping[str, str] | None = None) -> Paths:
    """The folders for this user: below ``ASSISTANT_HOME`` if it is set, else where the platform keeps such things.

    macOS: ``~/Library/Application Support`` and its neighbours; elsewhere the XDG base directories.
    """
    env = os.environ if environ is None else environ
    if home := env.get("ASSISTANT_HOME"):
        root = Path(home).expanduser().absolute()
        return Paths(root, root / "data", root / "state", root / "cache", root / "run")
    user = Path(env.get("HOME") or Path.home())
    if sys.platform == "darwin":
        support = user / "Library" / "Application Support" / "assistant"
        caches = user / "Library" / "Caches" / "assistant"
        return Paths(support, support / "data", user / "Library" / "Logs" / "assistant", caches, support / "run")

    def xdg(variable: str, default: str) -> Path:
        return Path(env.get(variable) or user / default) / "assistant"

    state = xdg("XDG_STATE_HOME", ".local/state")
    runtime = Path(env["XDG_RUNTIME_DIR"]) / "assistant" if env.get("XDG_RUNTIME_DIR") else state / "run"
    return Paths(
        xdg("XDG_CONFIG_HOME", ".config"), xdg("XDG_DATA_HOME", ".local/share"), state,
        xdg("XDG_CACHE_HOME", ".cache"), runtime,
    )
