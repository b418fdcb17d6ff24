"""Where things lie, on every platform."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from assistant.paths import MAX_SOCKET_PATH, find


def test_one_home_for_everything(tmp_path: Path) -> None:
    paths = find({"ASSISTANT_HOME": str(tmp_path), "XDG_DATA_HOME": "/elsewhere", "HOME": "/nowhere"})
    assert paths.config_file == tmp_path / "config.toml"
    assert paths.database == tmp_path / "data" / "assistant.db"
    assert paths.models == tmp_path / "data" / "models"
    assert paths.plugin_data("clock") == tmp_path / "data" / "plugins" / "clock"
    assert paths.log == tmp_path / "state" / "daemon.log"
    assert paths.lock.parent == paths.runtime == tmp_path / "run"


def test_a_relative_home_does_not_move_with_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = find({"ASSISTANT_HOME": "here"})
    assert paths.config == tmp_path / "here"


def test_a_tilde_is_the_users_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find({"ASSISTANT_HOME": "~/mine"}).config == tmp_path / "mine"


def test_xdg_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    plain = find({"HOME": "/home/ada"})
    assert plain.config_file == Path("/home/ada/.config/assistant/config.toml")
    assert plain.database == Path("/home/ada/.local/share/assistant/assistant.db")
    assert plain.cache == Path("/home/ada/.cache/assistant")
    assert plain.log == Path("/home/ada/.local/state/assistant/daemon.log")
    assert plain.runtime == Path("/home/ada/.local/state/assistant/run")
    moved = find({
        "HOME": "/home/ada", "XDG_CONFIG_HOME": "/c", "XDG_DATA_HOME": "/d", "XDG_STATE_HOME": "/s",
        "XDG_CACHE_HOME": "/k", "XDG_RUNTIME_DIR": "/run/user/1",
    })
    assert (moved.config, moved.data, moved.state) == (Path("/c/assistant"), Path("/d/assistant"), Path("/s/assistant"))
    assert (moved.cache, moved.runtime) == (Path("/k/assistant"), Path("/run/user/1/assistant"))


def test_macos_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    paths = find({"HOME": "/Users/ada", "XDG_CONFIG_HOME": "/c"})
    support = Path("/Users/ada/Library/Application Support/assistant")
    assert (paths.config, paths.data, paths.runtime) == (support, support / "data", support / "run")
    assert paths.log == Path("/Users/ada/Library/Logs/assistant/daemon.log")
    assert paths.cache == Path("/Users/ada/Library/Caches/assistant")


@pytest.mark.parametrize("name", ["x" * 200, "ü" * 60])
def test_a_long_home_still_has_a_socket_that_fits(name: str) -> None:
    paths = find({"ASSISTANT_HOME": f"/tmp/{name}"})
    other = find({"ASSISTANT_HOME": f"/tmp/{name}y"})
    assert len(os.fsencode(paths.socket)) <= MAX_SOCKET_PATH
    assert paths.socket != other.socket
    assert paths.socket == find({"ASSISTANT_HOME": f"/tmp/{name}"}).socket


def test_a_short_home_keeps_its_socket() -> None:
    assert find({"ASSISTANT_HOME": "/tmp/a"}).socket == Path("/tmp/a/run/daemon.sock")


@pytest.mark.parametrize("long", [False, True])
def test_the_runtime_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long: bool) -> None:
    home = tmp_path / ("x" * 120 if long else "h")
    short = tmp_path / "t"
    short.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(short))
    paths = find({"ASSISTANT_HOME": str(home)})
    paths.make()
    paths.make()
    for folder in (paths.runtime, paths.socket.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for folder in (paths.config, paths.data, paths.state, paths.cache):
        assert folder.is_dir()
