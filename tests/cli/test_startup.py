"""The root command: help, versions, unknown names, plugins' commands, and what is imported for them."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
from cli.conftest import Shell
from cli.fake_daemon import FakeDaemon
from click.testing import CliRunner

import assistant
from assistant.cli.app import COMMANDS, cli

HEAVY = (
    "anyio", "asyncio", "assistant.client", "assistant.config", "assistant.engines.mlx", "assistant.hookspecs", "http",
    "litestar", "mlx", "numpy", "pluggy", "psutil", "rich", "sounddevice", "textual", "websockets",
)
"""What neither the help page nor the status needs."""


def imported(shell: Shell, *arguments: str) -> set[str]:
    """The modules that a command imports."""
    code = (
        "import sys; from assistant.cli import run; status = run(sys.argv[1:]);"
        "print('\\n'.join(sys.modules), file=sys.stderr); sys.exit(status)"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=shell.env, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return set(done.stderr.decode().split())


def test_help_imports_no_command_and_nothing_heavy(shell: Shell) -> None:
    found = imported(shell, "--help")
    targets = [target for section in COMMANDS.values() for target, _ in section.values()]
    modules = {f"assistant.cli.{target.split(':')[0]}" for target in targets}
    assert not found & (modules | set(HEAVY) | {"msgspec", "assistant.wire"})
    assert "assistant.cli.app" in found


def test_status_imports_nothing_heavy(shell: Shell, fake_daemon: FakeDaemon) -> None:
    found = imported(shell, "status")
    assert not found & set(HEAVY)
    assert "assistant.wire" in found


def test_every_command_of_the_table_exists_and_says_the_same_in_its_own_help() -> None:
    for section in COMMANDS.values():
        for name, (target, short) in section.items():
            module, attribute = target.split(":")
            command = getattr(import_module(f"assistant.cli.{module}"), attribute)
            assert isinstance(command, click.Command)
            assert command.name == name
            assert len(short) < 70
            shown = CliRunner().invoke(cli, [name, "--help"], prog_name="assistant")
            assert shown.exit_code == 0
            assert shown.output.startswith(f"Usage: assistant {name}")


def test_help_lists_every_command(shell: Shell) -> None:
    shown = shell("--help")
    assert shown.code == 0
    for section in COMMANDS.values():
        for name, (_, short) in section.items():
            assert any(line.split() == [name, *short.split()] for line in shown.out.splitlines())
    assert shell("-h").out == shown.out


def test_without_a_terminal_no_command_means_help(shell: Shell) -> None:
    assert shell().out == shell("--help").out


def test_version(shell: Shell) -> None:
    assert shell("--version").out == f"assistant {assistant.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["asq", "hi"], ["'asq'", "did you mean 'ask'?", "assistant --help"]),
        (["sessions", "serch"], ["'serch'", "did you mean 'search'?", "assistant sessions --help"]),
        (["xyzzy"], ["'xyzzy'"]),
        (["--sesion", "x"], ["--sesion", "--session"]),
        (["--session", "x", "ask", "hi"], ["assistant ask --session"]),
        (["sessions", "list", "-n", "many"], ["many", "assistant sessions list --help"]),
        (["sessions", "show"], ["ID"]),
        (["up", "--forground"], ["--foreground"]),
    ],
)
def test_bad_usage_is_refused_with_the_nearest_name(shell: Shell, arguments: list[str], words: list[str]) -> None:
    done = shell(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert all(word in done.err for word in words), done.err


def test_plugins_may_add_commands(shell: Shell, tmp_path: Path) -> None:
    site = tmp_path / "site"
    info = site / "hello-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hello\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[assistant]\nhello = hello_plugin\n")
    (site / "hello_plugin.py").write_text(
        "import click\nfrom assistant import hookimpl\n\n"
        "@hookimpl\ndef register_commands(context):\n"
        "    yield click.Command('greet', callback=lambda: click.echo('hello'))\n"
        "    yield click.Command('ask', callback=lambda: click.echo('never'))\n"
    )
    shell.env["PYTHONPATH"] = str(site)
    done = shell.process("greet")
    assert (done.code, done.out) == (0, "hello\n")
    assert shell.process("ask").err.startswith("error: the prompt is empty"), "a built-in command cannot be replaced"


def test_what_nobody_expected_is_one_line(shell: Shell, tmp_path: Path) -> None:
    code = "from assistant.cli import main, app; app.cli.callback = lambda **_: 1 / 0; main([])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=shell.env, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout) == (1, b"")
    assert lines[0] == "error: internal error: ZeroDivisionError: division by zero"
    assert len(lines) == 2
    env = {**shell.env, "ASSISTANT_DEBUG": "1"}
    loud = subprocess.run(command, env=env, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    assert b"Traceback" in loud.stderr


def test_debugging_shows_where_an_error_came_from(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Traceback" not in shell("status").err
    monkeypatch.setenv("ASSISTANT_DEBUG", "1")
    assert "Traceback" in shell("status").err


def test_folder_that_cannot_be_made_is_an_error(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    shell.env["ASSISTANT_HOME"] = str(tmp_path / "file" / "home")
    done = shell.process("up")
    assert done.code == 1
    assert str(tmp_path / "file") in done.err
    assert "Traceback" not in done.err


def test_closed_standard_output_is_no_crash(shell: Shell, fake_daemon: FakeDaemon) -> None:
    command = f"{sys.executable} -m assistant ask hi >&-"
    done = subprocess.run(["sh", "-c", command], env=shell.env, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr
    assert done.returncode == 0


def test_full_output_is_an_error(shell: Shell, fake_daemon: FakeDaemon) -> None:
    if not os.path.exists("/dev/full"):  # noqa: PTH110
        assert sys.platform == "darwin"
        return
    with Path("/dev/full").open("wb") as full:
        done = shell.process("ask", "hi", stdout=full.fileno())
    assert done.code == 1
    assert "No space left" in done.err
    assert "Traceback" not in done.err


def test_help_to_a_reader_that_left_is_quiet(shell: Shell) -> None:
    with shell.start("sessions", "--help") as helping:
        assert helping.stdout is not None
        helping.stdout.close()
        assert helping.stderr is not None
        assert helping.stderr.read() == b""


def test_public_names_are_all_there() -> None:
    assert all(hasattr(assistant, name) for name in assistant.__all__)
    assert set(assistant.__all__) <= set(dir(assistant))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = assistant.nonsense


