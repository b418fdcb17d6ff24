"""Every other command against a scripted daemon."""

from __future__ import annotations

import json
import os
import signal
import socket
import wave
from pathlib import Path

import pytest
from cli.conftest import Shell
from cli.fake_daemon import SESSION, TRANSCRIPT, FakeDaemon, text

from assistant import MemoryUse, events
from assistant.paths import Paths
from assistant.voice.audio_files import write_wav
from assistant.wire import Conversation, EngineInfo, LoadedModel, PluginInfo, SessionInfo, Status


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A second of something."""
    path = tmp_path / "hello.wav"
    write_wav(path, b"\x10\x00" * 16_000, 16_000)
    return path


def test_status_of_a_daemon_that_is_down_is_a_failure_with_the_remedy(shell: Shell) -> None:
    done = shell("status")
    assert (done.code, done.out, done.err) == (1, "", "error: the assistant is not running\n  hint: assistant up\n")


def test_status_is_plain_text_or_json(shell: Shell, fake_daemon: FakeDaemon) -> None:
    fake_daemon.engines = (EngineInfo(kind="llm", name="mlx", plugin="mlx", lane="gpu", selected=True),)
    done = shell("status")
    assert (done.code, done.err) == (0, "")
    assert "up 1 min 30 s" in done.out
    assert "90 MB; with its lanes 490 MB" in done.out
    assert "1 failed: assistant plugins list" in done.out
    lane = next(line for line in done.out.splitlines() if line.startswith("gpu"))
    assert lane.split() == ["gpu", "up", "77", "400", "MB", "0", "0", "llm:mlx:starter"]
    import msgspec

    found = msgspec.json.decode(shell("status", "--json").raw, type=Status)
    assert (found.pid, found.engines) == (os.getpid(), fake_daemon.engines)


def test_status_shows_what_the_models_hold(shell: Shell, fake_daemon: FakeDaemon) -> None:
    memory = MemoryUse(active=4_700_000_000, prompt_cache=300_000_000, limit=22_900_000_000)
    fake_daemon.models = (
        LoadedModel(key="llm:mlx:starter", model="starter", kind="llm", lane="gpu", pinned=True, memory=memory),
        LoadedModel(key="stt:moonshine", model="", kind="stt", lane="cpu", users=2),
    )
    lines = {line.split()[0]: line.split() for line in shell("status").out.splitlines() if line}
    assert lines["llm:mlx:starter"][1:] == ["4.7", "GB", "300", "MB", "23", "GB", "idle", "for", "0", "s", "pinned"]
    assert lines["stt:moonshine"][1:] == ["-", "-", "-", "2", "using", "it", "-"]


def test_status_of_a_stale_socket_is_down(shell: Shell, paths: Paths) -> None:
    paths.make()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(paths.socket))
    stale.close()
    assert shell("status").err.startswith("error: the assistant is not running")


def test_status_of_something_that_talks_nonsense_is_a_failure(shell: Shell, paths: Paths) -> None:
    import threading

    paths.make()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(paths.socket))
        server.listen()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n{}")

        thread = threading.Thread(target=answer)
        thread.start()
        done = shell("status")
        assert (done.code, done.out) == (1, "")
        assert "makes no sense" in done.err
        thread.join()


def test_up_says_that_it_runs_already(shell: Shell, fake_daemon: FakeDaemon) -> None:
    done = shell("up")
    assert (done.code, done.out) == (0, f"the assistant is already running (process {os.getpid()})\n")


def test_down_stops_the_daemon_and_waits(shell: Shell, fake_daemon: FakeDaemon) -> None:
    import subprocess

    with subprocess.Popen(["sleep", "0.3"]) as process:
        fake_daemon.pid = process.pid
        done = shell("down")
        assert (done.code, done.out) == (0, "the assistant is down\n")
    assert fake_daemon.requests == [("POST", "/api/stop", b"")]
    again = shell("down")
    assert (again.code, again.out) == (0, "the assistant is not running\n")


def test_sessions_are_listed(shell: Shell, fake_daemon: FakeDaemon) -> None:
    head, row = shell("sessions", "list").out.splitlines()
    assert head.split() == ["ID", "UPDATED", "MESSAGES", "CHANNEL", "TITLE"]
    assert row.startswith("0123456789ab  ")
    assert row.endswith("2  cli      The capital")
    import msgspec

    assert msgspec.json.decode(shell("sessions", "list", "--json", "-n", "5").raw, type=list[SessionInfo]) == [SESSION]
    assert fake_daemon.requests[-1][1] == "/api/sessions?limit=5&offset=0"


def test_a_conversation_is_shown_by_the_beginning_of_its_id(shell: Shell, fake_daemon: FakeDaemon) -> None:
    done = shell("sessions", "show", "0123")
    assert done.code == 0
    assert "And the capital?" in done.out
    assert "(cancelled)" in done.out
    import msgspec

    found = msgspec.json.decode(shell("sessions", "show", "0123", "--json").raw, type=Conversation)
    assert found.session == SESSION
    unknown = shell("sessions", "show", "4567")
    assert (unknown.code, unknown.out) == (2, "")
    assert unknown.err == "error: there is no conversation '4567'\n  hint: assistant sessions list\n"


def test_search_without_a_hit_is_exit_status_1(shell: Shell, fake_daemon: FakeDaemon) -> None:
    found = shell("sessions", "search", "the", "capital")
    assert (found.code, "[the capital]" in found.out) == (0, True)
    missed = shell("sessions", "search", "nothing")
    assert (missed.code, missed.out) == (1, "")
    assert shell("sessions", "search", "nothing", "--json").out == "[]\n"


def test_a_conversation_is_exported(shell: Shell, fake_daemon: FakeDaemon, tmp_path: Path) -> None:
    printed = shell("sessions", "export", "0123")
    assert printed.out.startswith("# The capital\n")
    target = tmp_path / "chat.json"
    assert shell("sessions", "export", "0123", "--format", "json", "-o", str(target)).out == ""
    assert json.loads(target.read_text())["session"]["id"] == SESSION.id
    refused = shell("sessions", "export", "0123", "-o", "/no/such/folder/chat.md")
    assert (refused.code, "/no/such/folder" in refused.err) == (2, True)


def test_removing_needs_a_yes(shell: Shell, fake_daemon: FakeDaemon) -> None:
    refused = shell("sessions", "rm", "0123")
    assert (refused.code, fake_daemon.requests) == (2, [])
    assert "--yes" in refused.err
    done = shell("sessions", "rm", "--yes", "4567", "0123")
    assert done.code == 2, "one of them was refused"
    assert "'4567'" in done.err
    assert [request[:2] for request in fake_daemon.requests] == [
        ("DELETE", "/api/sessions/4567"),
        ("DELETE", "/api/sessions/0123"),
    ]


def test_models_are_listed_described_and_removed(shell: Shell, fake_daemon: FakeDaemon) -> None:
    assert "starter  yes   93 MB  no           -  Apache-2.0" in shell("models", "list").out
    assert "yes, in /models/starter" in shell("models", "info", "starter").out
    unknown = shell("models", "info", "startr")
    assert (unknown.code, unknown.err) == (2, "error: there is no model 'startr'\n  hint: did you mean starter?\n")
    assert shell("models", "rm", "starter").code == 0
    assert fake_daemon.requests[-1][:2] == ("DELETE", "/api/models/starter")


def test_a_model_is_pulled_by_force_loaded_and_unloaded(shell: Shell, fake_daemon: FakeDaemon) -> None:
    assert shell("models", "pull", "starter", "--force", "-q").code == 0
    assert shell("models", "load", "starter", "-q").out == "starter is loaded\n"
    assert shell("models", "unload", "starter").out == "starter is unloaded\n"
    asked = [(target, json.loads(body)) for method, target, body in fake_daemon.requests if method == "POST"]
    assert asked == [
        ("/api/models/pull", {"name": "starter", "force": True}),
        ("/api/models/load", {"name": "starter"}),
        ("/api/models/unload", {"name": "starter"}),
    ]


def test_models_are_recommended_without_a_daemon(shell: Shell) -> None:
    text = shell("models", "recommend", "--bandwidth", "120")
    assert (text.code, text.err) == (0, "")
    assert "this machine" in text.out
    assert "two thirds of the memory up to 36 GB" in text.out
    rows = {line.split()[0]: line.split() for line in text.out.splitlines() if " GB  " in line and "hf:" in line}
    assert list(rows) == ["8", "16", "24", "32", "36", "48", "64", "96", "128", "192", "256", "512"]
    found = json.loads(shell("models", "recommend", "--json").out)
    assert [row["memory"] >> 30 for row in found["macs"]] == [int(size) for size in rows]
    assert all(row["tokens_per_second"] == 0 for row in found["macs"]), "no bandwidth, no speed"
    assert 0 < found["here"]["limit"] <= found["here"]["memory"]
    assert shell("models", "recommend", "--bandwidth", "0").code == 2


def test_pulling_a_model_shows_how_far_it_is(shell: Shell, fake_daemon: FakeDaemon) -> None:
    fake_daemon.progress = [
        events.ModelProgressed(model="starter", phase="download", done=50, total=100),
        events.ModelProgressed(model="starter", phase="convert"),
        events.ModelProgressed(model="starter", phase="ready"),
    ]
    done = shell("models", "pull", "starter")
    assert (done.code, done.out) == (0, "starter: 93 MB in /models/starter\n")
    assert done.err.splitlines() == ["starter: downloading 50 % of 100 B", "starter: converting", "starter: ready"]
    unknown = shell("models", "pull", "startr", "--quiet")
    assert (unknown.code, unknown.err) == (2, "error: there is no model 'startr'\n  hint: did you mean starter?\n")


def test_plugins_are_listed_with_their_reasons(shell: Shell, fake_daemon: FakeDaemon) -> None:
    fake_daemon.plugins = [
        PluginInfo(name="clock", version="1", distribution="a", state="loaded", provides=("tool:time",), seconds=0.01),
        PluginInfo(name="odd", version="2", distribution="b", state="failed", reason="no module named 'x'"),
    ]
    done = shell("plugins", "list")
    assert "clock  1        loaded      10 ms  tool:time" in done.out
    assert done.out.endswith("\nodd failed: no module named 'x'\n")
    assert json.loads(shell("plugins", "list", "--json").out)[1]["state"] == "failed"


def test_speech_is_written_down(shell: Shell, fake_daemon: FakeDaemon, recording: Path) -> None:
    assert shell("transcribe", str(recording), "--language", "de").out == "hello world\n"
    method, target, body = fake_daemon.requests[-1]
    assert (method, target, body) == ("POST", "/api/transcribe?language=de", b"\x10\x00" * 16_000)
    found = json.loads(shell("transcribe", "--json", str(recording)).out)
    assert (found["file"], found["text"], found["seconds"]) == (str(recording), "hello world", 1.0)
    assert shell("transcribe", "--vtt", str(recording)).out.startswith("WEBVTT")
    assert shell("transcribe", "-", stdin=recording.read_bytes()).out == TRANSCRIPT.text + "\n"


def test_a_bad_file_does_not_keep_the_others_from_being_written_down(
    shell: Shell, fake_daemon: FakeDaemon, recording: Path, tmp_path: Path
) -> None:
    (tmp_path / "noise.wav").write_bytes(b"not audio at all")
    done = shell("transcribe", "/no/such.wav", str(tmp_path / "noise.wav"), str(recording))
    assert done.code == 2
    assert done.out == f"==> {recording} <==\nhello world\n"
    assert "/no/such.wav" in done.err
    assert "noise.wav" in done.err


def test_transcripts_go_to_files(shell: Shell, fake_daemon: FakeDaemon, recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert shell("transcribe", "--srt", str(recording), "-o", str(out)).code == 0
    assert (out / "hello.srt").exists()
    assert shell("transcribe", str(recording), "-o", str(tmp_path / "a.txt")).out == ""
    assert (tmp_path / "a.txt").read_text() == "hello world\n"
    refused = shell("transcribe", "--srt", str(recording), str(recording))
    assert (refused.code, "-o FOLDER" in refused.err) == (2, True)
    assert shell("transcribe").code == 2


def test_files_of_one_stem_do_not_overwrite_each_other(
    shell: Shell, fake_daemon: FakeDaemon, recording: Path, tmp_path: Path
) -> None:
    other = recording.with_suffix(".old")
    other.write_bytes(recording.read_bytes())
    out = tmp_path / "out"
    out.mkdir()
    assert shell("transcribe", str(recording), str(other), "-o", str(out)).code == 0
    assert sorted(path.name for path in out.iterdir()) == ["hello.old.txt", "hello.wav.txt"]


def test_say_writes_a_file(shell: Shell, fake_daemon: FakeDaemon, tmp_path: Path) -> None:
    target = tmp_path / "a.wav"
    done = shell("say", "hello", "world", "--voice", "en-gb", "-o", str(target))
    assert (done.code, done.out, done.err) == (0, "", "")
    assert json.loads(fake_daemon.requests[-1][2]) == {"text": "hello world", "voice": "en-gb"}
    with wave.open(str(target)) as file:
        assert (file.getframerate(), file.readframes(9999)) == (16_000, b"\x01\x02" * 1600)
    assert shell("say", "-o", str(target), stdin=b"hi").code == 0
    empty = shell("say", "-o", str(target))
    assert (empty.code, empty.err) == (2, 'error: the text is empty\n  hint: assistant say "hello"\n')


@pytest.mark.parametrize(
    ("arguments", "option"), [(["say", "hello"], "-o"), (["ask", "--speak", "-", "hi"], "--speak")]
)
def test_playing_where_nothing_can_be_heard_names_the_remedy(
    shell: Shell, fake_daemon: FakeDaemon, arguments: list[str], option: str
) -> None:
    """On a machine that has a loudspeaker it plays."""
    from assistant.voice.devices import why_not

    fake_daemon.script = [events.SpeechSynthesized(pcm=bytes(3200), sample_rate=16_000), *text("Paris")]
    done = shell(*arguments)
    if reason := why_not():
        assert (done.code, done.out) == (2, "")
        assert done.err == f"error: sound cannot be played: {reason}\n  hint: write a file instead: {option} OUT.wav\n"
        assert not fake_daemon.requests
        assert not fake_daemon.commands
    else:
        assert done.code == 0


def test_ctrl_c_ends_a_request_that_hangs(shell: Shell, fake_daemon: FakeDaemon, until: object) -> None:
    fake_daemon.hangs = True
    listing = shell.start("sessions", "list")
    assert callable(until)
    until(lambda: fake_daemon.hanging)
    listing.send_signal(signal.SIGINT)
    _, err = listing.communicate(timeout=20)
    assert listing.returncode == 130
    assert b"Traceback" not in err


def test_config_path_show_and_check(shell: Shell, paths: Paths) -> None:
    assert shell("config", "path").out == f"{paths.config_file}\n"
    paths.config.mkdir(parents=True)
    paths.config_file.write_text('[llm]\nmax_tokens = 7\n[plugins]\ndisabled = ["clock"]\n')
    shown = shell("config", "show")
    assert shown.code == 0
    import tomllib

    found = tomllib.loads(shown.out)
    assert (found["llm"]["max_tokens"], found["plugins"]["disabled"]) == (7, ["clock"])


def test_config_check_names_every_problem(shell: Shell, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    paths.config.mkdir(parents=True)
    paths.config_file.write_text('[llm]\nmodl = "x"\nmax_tokens = "many"\n\n[sesions]\n[tts]\nvoice = "a"\n')
    monkeypatch.setenv("ASSISTANT_LOG__LEVEL", "loud")
    done = shell("config", "check")
    assert (done.code, done.out) == (2, "")
    lines = done.err.splitlines()
    assert len(lines) == 4
    assert "line 2: [llm] modl: there is no such setting (did you mean [llm] model?)" in lines[0]
    assert "line 3: [llm] max_tokens" in lines[1]
    assert "line 5: [sesions]" in lines[2]
    assert "did you mean [sessions]?" in lines[2]
    assert "ASSISTANT_LOG__LEVEL" in lines[3]


def test_config_check_of_what_is_no_toml(shell: Shell, paths: Paths) -> None:
    paths.config.mkdir(parents=True)
    paths.config_file.write_text("[llm\n")
    done = shell("config", "check")
    assert done.code == 2
    assert "config.toml, line 1" in done.err
