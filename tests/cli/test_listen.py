"""``assistant listen``, ``mute``, ``unmute`` and ``hush`` against a scripted daemon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import termios
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio
import msgspec
import pytest
from cli.conftest import Shell
from cli.fake_daemon import VOICE, FakeDaemon, serving

from assistant import events
from assistant.cli.listening import ListenView
from assistant.cli.live import Live
from assistant.client import Client
from assistant.errors import DaemonError, EngineFailed, VoiceError
from assistant.events import ErrorInfo, Event, decode
from assistant.paths import Paths
from assistant.voice.audio_files import write_wav

Until = Callable[[Callable[[], object]], None]

BROKEN = ErrorInfo(code="engine_failed", message="the recogniser broke", hint="assistant logs")
SPOKEN: tuple[Event, ...] = (
    events.ListeningStarted(device="Desk microphone", sample_rate=48_000),
    events.WakeWordHeard(name="hey_jarvis", score=0.41, accepted=False, clock=1.0),
    events.WakeWordHeard(name="hey_jarvis", score=0.97, accepted=True, clock=2.0),
    events.VoiceStateChanged(state="listening", clock=2.0),
    events.PartialTranscript(text="what time", turn_id="a"),
    events.SpeechEnded(clock=3.0, waited=0.28, reason="intent"),
    events.TurnStarted(source="voice", turn_id="a"),
    events.FinalTranscript(text="what time is it", turn_id="a"),
    events.ToolCallStarted(call_id="1", tool="get_time", arguments={}, origin="intent", turn_id="a"),
    events.VoiceStateChanged(state="speaking", clock=3.1),
    events.SpeechPlayed(text="It is", clock=3.5, turn_id="a"),
    events.SpeechPaused(clock=3.6),
    events.SpeechDropped(clock=4.0, reason="backchannel", text="mhm"),
    events.SpeechResumed(clock=4.0),
    events.TurnFinished(reason="complete", text="It is noon.", turn_id="a"),
)
"""A question and its answer."""
TYPED: tuple[Event, ...] = (
    events.TurnStarted(source="text", turn_id="b"),
    events.FinalTranscript(text="something private", turn_id="b"),
    events.TurnFinished(reason="complete", text="a typed answer", turn_id="b"),
)
"""What somebody asks at another terminal."""
LATER: tuple[Event, ...] = (
    events.TurnStarted(source="voice", turn_id="c"),
    events.TurnFinished(reason="cancelled", text="Once upon a", turn_id="c"),
    events.TurnStarted(source="voice", turn_id="d"),
    events.TurnFinished(reason="failed", error=BROKEN, turn_id="d"),
    events.SpeechDropped(clock=5.0, reason="nobody"),
    events.SpeechDropped(clock=6.0, reason="no_words"),
    events.EchoMeasured(attenuation_db=31.4, duplex="full"),
    events.EchoMeasured(attenuation_db=3.4, duplex="half"),
    events.RingingStarted(name="pasta", clock=7.0),
    events.RingingStopped(name="pasta", reason="stopped", clock=8.0),
    events.AudioTroubled(trouble="gone", message="Desk microphone is gone", hint="plug it in again"),
    events.ListeningStopped(reason="lost"),
    events.ListeningStarted(device="Laptop microphone", sample_rate=44_100),
    events.ListeningStopped(reason="muted"),
)
OFF = events.VoiceStateChanged(state="off")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Half a second of something, at a rate of its own."""
    path = tmp_path / "talk.wav"
    write_wav(path, b"\x10\x00" * 4000, 8000)
    return path


# in the foreground


def test_a_line_for_each_thing_that_matters(shell: Shell, fake_daemon: FakeDaemon) -> None:
    fake_daemon.heard = {"listen": [*SPOKEN, *TYPED, *LATER, OFF]}
    done = shell("listen")
    assert done.code == 0
    assert done.out.splitlines() == [
        "(microphone open: Desk microphone)",
        "* hey_jarvis",
        "» what time is it",
        "It is noon.",
        "Once upon a [interrupted]",
        "! the recogniser broke (assistant logs)",
        "(nobody spoke)",
        "(no words understood)",
        "(own sound 3 dB down: it hears nothing while it speaks)",
        "~ pasta rings",
        "! Desk microphone is gone (plug it in again)",
        "(microphone lost)",
        "(microphone open: Laptop microphone)",
        "(microphone closed)",
    ]
    assert done.err.splitlines() == ["Listening. Ctrl-C to leave.", "Listening was ended by another command."]
    assert fake_daemon.actions == ["listen", "leave"]


def test_verbose_shows_what_was_left_out(shell: Shell, fake_daemon: FakeDaemon) -> None:
    fake_daemon.heard = {"listen": [*SPOKEN, *LATER, OFF]}
    lines = shell("listen", "-v", "-q").out.splitlines()
    assert [line for line in lines if line.startswith("  ")] == [
        "  (nearly hey_jarvis: 0.41)",
        "  (end of the words after 0.28 s: intent)",
        "  (get_time())",
        "  (silent: somebody speaks)",
        "  (dropped, backchannel: 'mhm')",
        "  (goes on)",
        "  (own sound 31 dB down: can be interrupted)",
        "  (pasta rings no more)",
    ]


def test_one_that_always_listens_is_joined_and_left_alone(shell: Shell, fake_daemon: FakeDaemon) -> None:
    fake_daemon.voice = msgspec.structs.replace(VOICE, recording=True, enabled=True)
    with shell.start("listen") as listening:
        assert listening.stdout is not None
        lines = [listening.stdout.readline() for _ in range(2)]
        listening.send_signal(signal.SIGINT)
        _, err = listening.communicate(timeout=30)
    assert lines[0].startswith(b"! RECORDING")
    assert lines[1] == b"(microphone open: Desk microphone)\n"
    assert err.splitlines()[-1] == b"The daemon goes on listening: [voice] enabled = true."
    assert fake_daemon.voice is not None


def test_what_somebody_else_ended_before_does_not_end_it(shell: Shell, fake_daemon: FakeDaemon) -> None:
    fake_daemon.stale = [OFF]
    fake_daemon.heard = {"mute": [*SPOKEN, OFF]}
    with shell.start("listen", "-q") as listening:
        assert listening.stdout is not None
        assert listening.stdout.readline() == b"(microphone open: Desk microphone)\n"
        assert shell("mute").code == 0
        out, _ = listening.communicate(timeout=30)
    assert (listening.returncode, out.splitlines()[-1]) == (0, b"It is noon.")


@pytest.mark.parametrize("option", [["--json"], ["--events", "-"]])
def test_programs_get_every_event(shell: Shell, fake_daemon: FakeDaemon, option: list[str]) -> None:
    fake_daemon.heard = {"listen": [*SPOKEN, OFF]}
    done = shell("listen", *option)
    assert [decode(line) for line in done.raw.splitlines()] == [*SPOKEN, OFF]


def test_events_go_to_a_file_beside_the_text(shell: Shell, fake_daemon: FakeDaemon, tmp_path: Path) -> None:
    fake_daemon.heard = {"listen": [*SPOKEN, OFF]}
    target = tmp_path / "events.ndjson"
    assert "It is noon." in shell("listen", "--events", str(target)).out
    assert [decode(line) for line in target.read_bytes().splitlines()] == [*SPOKEN, OFF]


def test_what_keeps_it_from_listening_is_the_error(shell: Shell, fake_daemon: FakeDaemon) -> None:
    fake_daemon.refusal = VoiceError("there is no wake word named 'hey_you'", hint="there are: hey_jarvis")
    done = shell("listen", "-q")
    assert (done.code, done.out) == (1, "")
    assert done.err == "error: there is no wake word named 'hey_you'\n  hint: there are: hey_jarvis\n"


def test_a_fault_that_ends_listening_is_the_error(shell: Shell, fake_daemon: FakeDaemon) -> None:
    fake_daemon.heard = {"listen": [events.VoiceFailed(error=BROKEN), OFF]}
    done = shell("listen", "-q")
    assert done.code == 1
    assert done.err.startswith("error: the recogniser broke")


def test_a_fault_that_is_survived_is_a_line(shell: Shell, fake_daemon: FakeDaemon) -> None:
    survived: list[Event] = [events.VoiceFailed(error=BROKEN), events.VoiceStateChanged(state="idle"), OFF]
    fake_daemon.heard = {"listen": survived}
    done = shell("listen", "-q")
    assert done.code == 0
    assert "! the recogniser broke (assistant logs)" in done.out.splitlines()


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_leaving_closes_the_microphone(
    shell: Shell, fake_daemon: FakeDaemon, until: Until, number: signal.Signals, status: int
) -> None:
    with shell.start("listen") as listening:
        until(lambda: fake_daemon.actions == ["listen"])
        listening.send_signal(number)
        _, err = listening.communicate(timeout=30)
    assert (listening.returncode, fake_daemon.actions) == (status, ["listen", "leave"])
    assert b"Traceback" not in err
    assert fake_daemon.voice is None


def test_a_reader_that_leaves_closes_the_microphone(shell: Shell, fake_daemon: FakeDaemon, until: Until) -> None:
    fake_daemon.heard = {"mute": SPOKEN}
    with shell.start("listen", "--json") as listening:
        until(lambda: fake_daemon.actions == ["listen"])
        assert listening.stdout is not None
        listening.stdout.close()
        assert shell("mute").code == 0
        assert listening.wait(30) == 1
        assert listening.stderr is not None
        assert b"Traceback" not in listening.stderr.read()
    assert fake_daemon.actions == ["listen", "mute", "leave"]


def test_a_daemon_that_was_stopped_is_waited_for(shell: Shell, paths: Paths, until: Until, tmp_path: Path) -> None:
    first, second = FakeDaemon(paths.socket), FakeDaemon(paths.socket)
    first.heard = {"listen": [events.DaemonStopping()]}
    second.heard = {"listen": [*SPOKEN, OFF]}
    target, notes = tmp_path / "out", tmp_path / "notes"
    with (
        target.open("wb") as out, notes.open("wb") as err, serving(first),
        shell.start("listen", stdout=out.fileno(), stderr=err.fileno()) as listening,
    ):  # fmt: skip
        until(lambda: first.actions)
        first.stopped.set()
        until(lambda: "nothing is heard until it is back" in notes.read_text())
        with serving(second):
            assert listening.wait(30) == 0
    assert first.actions == ["listen"]
    assert second.actions == ["listen", "leave"]
    assert target.read_text().splitlines()[-1] == "It is noon."
    assert notes.read_text().splitlines()[-2:] == ["The daemon is back.", "Listening was ended by another command."]
    assert not paths.log.exists(), "no daemon was started"


def test_a_daemon_that_crashed_is_started_again(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = FakeDaemon(paths.socket), FakeDaemon(paths.socket)
    second.heard = {"listen": [*SPOKEN, OFF]}
    running = [serving(first)]
    server = running[0].__enter__()

    def crash() -> None:
        server.force_exit = server.should_exit = True

    def restart() -> None:
        running.pop().__exit__(None, None, None)
        running.append(serving(second))
        running[0].__enter__()

    first.on_listen = crash
    try:
        with ListenView(None) as view:
            status = anyio.run(Live(Client(paths.socket), view, restart).run)
    finally:
        running.pop().__exit__(None, None, None)
    shown = capsys.readouterr()
    assert (status, second.actions) == (0, ["listen", "leave"])
    assert shown.out.splitlines()[-1] == "It is noon."
    assert "starting it again" in shown.err


def test_a_daemon_that_does_not_come_back_is_the_error(paths: Paths) -> None:
    daemon = FakeDaemon(paths.socket)

    def restart() -> None:
        raise DaemonError("the assistant did not start", hint="assistant logs")

    with serving(daemon) as server:

        def crash() -> None:
            server.force_exit = server.should_exit = True

        daemon.on_listen = crash
        with ListenView(None, quiet=True) as view, pytest.raises(DaemonError, match="did not start"):
            anyio.run(Live(Client(paths.socket), view, restart).run)


# keys


@contextmanager
def at_a_terminal(shell: Shell) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """The command with a keyboard; the process, and both ends of its terminal."""
    master, slave = os.openpty()
    try:
        with shell.start("listen", stdin=slave) as listening:
            try:
                yield listening, master, slave
            finally:
                listening.kill()
    finally:
        os.close(master)
        os.close(slave)


def test_keys(shell: Shell, fake_daemon: FakeDaemon, until: Until) -> None:
    with at_a_terminal(shell) as (listening, master, slave):
        before = termios.tcgetattr(slave)
        expected = ["listen", "mute", "unmute", "talk", "release", "hush"]
        for count, key in enumerate("mm  s", 1):
            until(partial(fake_daemon.actions.__eq__, expected[:count]))
            os.write(master, key.encode())
        until(partial(fake_daemon.actions.__eq__, expected))
        os.write(master, b"\x1b[A\x1bqxq")
        out, err = listening.communicate(timeout=30)
        assert listening.returncode == 0
        assert fake_daemon.actions == [*expected, "leave"]
        assert termios.tcgetattr(slave) == before
    assert b"space talk" in err
    assert out == b"(microphone open: Desk microphone)\n"


def test_a_key_that_cannot_be_obeyed_is_a_line(shell: Shell, fake_daemon: FakeDaemon, until: Until) -> None:
    with at_a_terminal(shell) as (listening, master, _):
        assert listening.stdout is not None
        assert listening.stdout.readline() == b"(microphone open: Desk microphone)\n"
        fake_daemon.voice = None
        os.write(master, b"s\x04")
        out, _ = listening.communicate(timeout=30)
    assert b"! the assistant is not listening (`assistant listen`)" in out
    assert listening.returncode == 0


# what a person sees change


class Screen:
    """A terminal that remembers what was written."""

    encoding, closed = "utf-8", False

    def __init__(self) -> None:
        self.shown = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.shown += text
        return len(text)

    def flush(self) -> None:
        pass


def test_the_last_line_follows_what_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")

    async def show() -> None:
        with ListenView(None) as view:
            for event in (*SPOKEN, events.SpeechPlayed(text="x" * 80, clock=9.0)):
                await view.show(event)

    anyio.run(show)
    drawn = [line for line in screen.shown.split("\r\x1b[K") if line]
    assert drawn[:3] == ["listening…", "… what time", "listening…"]
    assert {"speaking…", "♪ It is", "interrupted…", f"♪ …{'x' * 70}"} <= set(drawn)
    assert screen.shown.endswith("\r\x1b[K")
    assert capsys.readouterr().out.splitlines()[-1] == "It is noon."


# commands


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("mute", "The microphone is closed.\n"),
        ("unmute", "The microphone is open: Desk microphone\n"),
        ("hush", ""),
    ],
)
def test_mute_unmute_and_hush(shell: Shell, fake_daemon: FakeDaemon, command: str, said: str) -> None:
    refused = shell(command)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == "error: the assistant is not listening\n  hint: `assistant listen`\n"
    fake_daemon.voice = VOICE
    done = shell(command)
    assert (done.code, done.out, done.err) == (0, said, "")
    assert fake_daemon.actions == [command, command]


@pytest.mark.parametrize("command", ["mute", "unmute", "hush"])
def test_without_a_daemon_there_is_nothing_to_mute(shell: Shell, paths: Paths, command: str) -> None:
    done = shell(command)
    assert (done.code, done.out) == (1, "")
    assert "the daemon is not running" in done.err
    assert not paths.log.exists(), "it was not started for this"


def test_listening_can_be_ended_from_elsewhere(shell: Shell, fake_daemon: FakeDaemon) -> None:
    fake_daemon.voice = msgspec.structs.replace(VOICE, enabled=True)
    done = shell("listen", "--stop")
    assert (done.code, done.out) == (0, "The microphone is closed; the assistant does not listen.\n")
    assert fake_daemon.actions == ["stop"]
    assert shell("mute").code == 1


def test_stop_needs_no_daemon(shell: Shell, paths: Paths) -> None:
    assert shell("listen", "--stop").code == 0
    assert not paths.log.exists()


@pytest.mark.parametrize("microphone", ["open", "muted"])
def test_a_microphone_that_does_not_obey_is_an_error(shell: Shell, fake_daemon: FakeDaemon, microphone: str) -> None:
    fake_daemon.voice = msgspec.structs.replace(VOICE, microphone=microphone)
    fake_daemon.stubborn = True
    done = shell("mute" if microphone == "open" else "unmute")
    assert (done.code, done.out) == (1, "")
    assert "did not close" in done.err or "does not open" in done.err


def test_status_shows_the_microphone(shell: Shell, fake_daemon: FakeDaemon) -> None:
    def shown() -> str:
        return next(line for line in shell("status").out.splitlines() if line.startswith("microphone"))

    assert shown().split(maxsplit=1)[1] == "closed: it does not listen"
    fake_daemon.voice = VOICE
    assert shown().split(maxsplit=1)[1] == "open, Desk microphone, idle, full duplex"
    fake_daemon.voice = msgspec.structs.replace(
        VOICE, state="muted", microphone="muted", duplex="half", attenuation_db=3.2, recording=True
    )
    line = shown()
    assert line.split(maxsplit=1)[1].startswith("muted, Desk microphone")
    assert "half duplex: it hears nothing while it speaks, echo -3 dB, RECORDING what is said to it" in line
    voice = json.loads(shell("status", "--json").out)["voice"]
    assert (voice["microphone"], voice["recording"], voice["duplex"], voice["attenuation_db"]) == (
        "muted", True, "half", 3.2,
    )  # fmt: skip


# files


def test_a_file_is_listened_to(shell: Shell, fake_daemon: FakeDaemon, recording: Path, tmp_path: Path) -> None:
    played = [events.SpeechSynthesized(pcm=bytes([part, 0]) * 100, sample_rate=16_000) for part in (1, 2)]
    fake_daemon.simulated = [*SPOKEN, *played]
    answer, log = tmp_path / "answer.wav", tmp_path / "events.ndjson"
    done = shell("listen", "--input", str(recording), "--output", str(answer), "--events", str(log))
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[1:] == ["* hey_jarvis", "» what time is it", "It is noon."]
    assert [decode(line) for line in log.read_bytes().splitlines()] == list(SPOKEN)
    with wave.open(str(answer)) as found:
        assert (found.getframerate(), found.readframes(1000)) == (16_000, b"\1\0" * 100 + b"\2\0" * 100)
    [(method, target, body)] = fake_daemon.requests
    assert (method, target, len(body)) == ("POST", "/api/voice/simulate", 16_000)
    assert fake_daemon.actions == [], "the microphone is left alone"


def test_a_recording_is_piped_through(shell: Shell, fake_daemon: FakeDaemon, recording: Path) -> None:
    fake_daemon.simulated = [*SPOKEN, events.SpeechSynthesized(pcm=b"\0\0", sample_rate=16_000)]
    done = shell("listen", "--input", "-", "--json", stdin=recording.read_bytes())
    assert [decode(line) for line in done.raw.splitlines()] == list(SPOKEN)


@pytest.mark.parametrize(
    ("ending", "words"),
    [([], "cut"), ([events.VoiceFailed(error=BROKEN)], "the recogniser broke")],
)
def test_half_a_simulation_is_an_error(
    shell: Shell, fake_daemon: FakeDaemon, recording: Path, tmp_path: Path, ending: list[Event], words: str
) -> None:
    fake_daemon.simulated = [*SPOKEN, *ending]
    answer = tmp_path / "answer.wav"
    done = shell("listen", "--input", str(recording), "--output", str(answer))
    assert done.code == 1
    assert words in done.err
    assert not answer.exists()


def test_a_refused_simulation_is_an_error(shell: Shell, fake_daemon: FakeDaemon, recording: Path) -> None:
    fake_daemon.refusal = EngineFailed("no ear", hint="get one")
    done = shell("listen", "--input", str(recording))
    assert (done.code, done.err) == (1, "error: no ear\n  hint: get one\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--input", "/no/such.wav"], ["/no/such.wav"]),
        (["--input", "/"], ["/"]),
        (["--input", __file__], ["is not audio", "WAV, FLAC"]),
        (["--input", "-"], ["the input is empty"]),
        (["--output", "a.wav"], ["--output goes with --input"]),
        (["--input", "a.wav", "--output", "/no/such/folder/a.wav"], ["/no/such/folder"]),
        (["--events", "/no/such/folder/a"], ["/no/such/folder"]),
        (["--json", "--events", "a"], ["--json", "--events FILE"]),
        (["--jsn"], ["--json"]),
    ],
)
def test_bad_requests_are_refused_before_the_daemon_hears_of_them(
    shell: Shell, fake_daemon: FakeDaemon, arguments: list[str], words: list[str]
) -> None:
    done = shell("listen", *arguments)
    assert (done.code, done.out, fake_daemon.requests) == (2, "", [])
    assert all(word in done.err for word in words), done.err
