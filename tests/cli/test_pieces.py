"""The parts of the command line by themselves."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest
from cli.conftest import Shell

from assistant.cli import connect, failures, render
from assistant.cli.logs import tail, watch
from assistant.cli.output import StatusLine
from assistant.cli.progress import ModelProgress
from assistant.cli.sound import Speech
from assistant.errors import AssistantError, AudioError, DaemonError
from assistant.events import ModelProgressed
from assistant.paths import Paths


class Terminal:
    """A person's screen."""

    encoding = "utf-8"
    closed = False

    def __init__(self) -> None:
        self.shown = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.shown += text
        return len(text)

    def flush(self) -> None:
        pass


def look(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make standard error a screen of 100 columns."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return screen


def test_progress_bar_shows_share_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = look(monkeypatch)
    progress = ModelProgress(StatusLine())
    for at, done in ((0.0, 0), (10.0, 50_000_000)):
        progress.show(ModelProgressed(model="starter", phase="download", done=done, total=100_000_000, at=at))
    last = terminal.shown.rpartition("\r")[2]
    assert "━" * 12 + "·" * 12 + "  50%" in last
    assert last.endswith("50 MB of 100 MB  5.0 MB/s  10 s left\x1b[0m")
    progress.show(ModelProgressed(model="starter", phase="ready"))
    assert terminal.shown.endswith("\r\x1b[Kstarter: ready\n")


def test_progress_of_unknown_length_shows_what_came(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = look(monkeypatch)
    progress = ModelProgress(StatusLine())
    progress.show(ModelProgressed(model="hf:a/b", phase="download", done=5_000_000))
    assert "hf:a/b  downloading  5.0 MB" in terminal.shown


def test_status_line_is_cut_and_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = look(monkeypatch)
    line = StatusLine()
    line.show("x" * 200)
    assert terminal.shown.count("x") == 99
    line.clear()
    line.clear()
    assert terminal.shown.count("\r\x1b[K") == 2
    quiet = StatusLine(quiet=True)
    quiet.show("nothing")
    assert "nothing" not in terminal.shown


def test_dumb_terminals_get_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    look(monkeypatch)
    assert render.has_colour(sys.stderr)
    monkeypatch.setenv("TERM", "dumb")
    assert not render.has_colour(sys.stderr)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (9960, "10 kB"), (92_871_040, "93 MB"), (999_600_000, "1.0 GB")],
)
def test_sizes(count: int, text: str) -> None:
    assert render.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min 01 s"), (7260, "2 h 01 min"), (90_000, "1 d 1 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert render.duration(seconds) == text


def test_table_keeps_rows_on_one_line_and_sets_numbers_right() -> None:
    shown = render.table(("A", "N"), [("one\ntwo\x1b[2J", "5"), ("x", "1234")], right=(1,))
    assert shown == "A              N\none two[2J     5\nx           1234"


def test_tail_gives_the_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert tail(log, 5) == []
    log.write_text("".join(f"line {n} {'x' * 1000}\n" for n in range(200)))
    assert [line.split()[1] for line in tail(log, 3)] == ["197", "198", "199"]
    assert len(tail(log, 1000)) == 200
    assert tail(log, 0) == []
    before = log.stat().st_size
    with log.open("a") as file:
        file.write("new\n")
    assert tail(log, 5, since=before) == ["new"]
    log.write_text("rotated\n")
    assert tail(log, 5, since=before) == ["rotated"]


def test_following_survives_rotation_and_truncation(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("old\n")
    lines = watch(log, log.stat().st_size, poll=0.0)
    assert next(lines) == ""
    with log.open("a") as file:
        file.write("one\ntw")
    assert next(lines) == "one"
    with log.open("a") as file:
        file.write("o\nlast before rotation\n")
    log.rename(tmp_path / "log.1")
    log.write_text("first after rotation\n")
    assert next(lines) == "two\nlast before rotation"
    assert next(lines) == "first after rotation"
    log.write_text("cut\n")
    assert next(lines) == "cut"
    log.unlink()
    assert next(lines) == ""
    log.write_text("back\n")
    assert next(lines) == "back"
    lines.close()


def test_logs_command(shell: Shell, paths: Paths) -> None:
    missing = shell("logs")
    assert (missing.code, "assistant up" in missing.err) == (1, True)
    paths.make()
    paths.log.write_text("one\ntwo\nthree\n")
    assert shell("logs", "-n", "2").out == "two\nthree\n"


def test_logs_follow_until_ctrl_c(shell: Shell, paths: Paths) -> None:
    import signal

    paths.make()
    paths.log.write_text("one\n")
    following = shell.start("logs", "-f")
    assert following.stdout is not None
    assert following.stdout.read(4) == b"one\n"
    with paths.log.open("a") as log:
        log.write("two\n")
    assert following.stdout.read(4) == b"two\n"
    following.send_signal(signal.SIGINT)
    _, err = following.communicate(timeout=20)
    assert (following.returncode, err.strip()) == (130, b"")


def test_daemon_that_does_not_start_is_explained_by_its_log(paths: Paths) -> None:
    paths.make()
    paths.log.write_text("an old complaint\n")
    with pytest.raises(DaemonError) as caught:
        connect.ensure(paths, command=["sh", "-c", "echo error: the setting is wrong >&2; exit 2"])
    assert caught.value.message == "the assistant did not start:\n  error: the setting is wrong"


def test_daemon_that_never_answers_is_given_up(paths: Paths) -> None:
    with pytest.raises(DaemonError, match="did not answer within"):
        connect.ensure(paths, command=["sleep", "0.5"], seconds=0.2)


def test_daemon_that_lost_the_race_is_no_failure(paths: Paths) -> None:
    """Two clients start a daemon each; the loser ends, the winner answers a moment later."""
    import fcntl
    import subprocess

    paths.make()
    script = Path(__file__).parent / "fake_daemon.py"
    with paths.lock.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        winner: list[subprocess.Popen[bytes]] = []

        def win() -> None:
            winner.append(subprocess.Popen([sys.executable, str(script), str(paths.socket)]))

        timer = threading.Timer(0.3, win)
        timer.start()
        assert connect.ensure(paths, command=["sh", "-c", "exit 2"])
        timer.join()
    winner[0].terminate()
    winner[0].wait()


def test_every_error_code_has_an_exit_status() -> None:
    def kinds(root: type[AssistantError]) -> list[type[AssistantError]]:
        return [root, *(kind for child in root.__subclasses__() for kind in kinds(child))]

    refused = {kind.code for kind in kinds(AssistantError) if _status(kind) == failures.REFUSED}
    assert {"prompt", "audio", "session_not_found", "model_not_found", "context_overflow", "config"} <= refused
    broken = {"error", "daemon", "engine_failed", "engine_crashed", "lane_quarantined", "disk_full", "store"}
    assert not refused & broken


def test_speech_of_two_rates_is_an_error() -> None:
    speech = Speech()
    speech.add(b"\0\0" * 8000, 16_000)
    assert speech.seconds == 0.5
    with pytest.raises(AudioError, match="16000 to 22050"):
        speech.add(b"\0\0", 22_050)


def test_group_of_errors_is_reported_by_its_first_that_a_user_can_act_on(capsys: pytest.CaptureFixture[str]) -> None:
    inner = ExceptionGroup("", [ValueError("no"), DaemonError("the daemon is gone", hint="assistant up")])
    assert failures.report_group(ExceptionGroup("", [inner])) == 1
    assert capsys.readouterr().err == "error: the daemon is gone\n  hint: assistant up\n"
    with pytest.raises(ExceptionGroup):
        failures.report_group(ExceptionGroup("", [ValueError("no")]))


def _status(kind: type[AssistantError]) -> int:
    return failures.status_of(kind.code, permanent=kind.permanent)


