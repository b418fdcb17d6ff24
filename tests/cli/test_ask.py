"""``assistant ask`` against a scripted daemon."""

from __future__ import annotations

import os
import signal
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.conftest import Shell
from cli.fake_daemon import SESSION, FakeDaemon, cancelled, failed, text

from assistant import events
from assistant.cli import connect
from assistant.events import decode
from assistant.voice.audio_files import write_wav
from assistant.wire import Cancel, EndAudio, Listen, Say

Until = Callable[[Callable[[], object]], None]


def said(daemon: FakeDaemon) -> Say:
    """The one prompt that the daemon got."""
    (command,) = daemon.commands
    assert isinstance(command, Say)
    return command


def test_answer_goes_to_stdout_alone_and_ends_its_line(shell: Shell, fake_daemon: FakeDaemon) -> None:
    fake_daemon.script = text("Par", "is")
    done = shell("ask", "What is", "the capital?")
    assert (done.code, done.out, done.err) == (0, "Paris\n", "")
    command = said(fake_daemon)
    assert (command.text, command.channel, command.new, command.speak) == ("What is the capital?", "cli", False, False)


def test_answer_that_ends_its_line_gets_no_second_newline(shell: Shell, fake_daemon: FakeDaemon) -> None:
    fake_daemon.script = text("Paris\n")
    assert shell("ask", "hi").out == "Paris\n"


def test_piped_text_follows_the_prompt_after_a_blank_line(shell: Shell, fake_daemon: FakeDaemon) -> None:
    assert shell("ask", "summarise", stdin="Zoë\n".encode()).code == 0
    assert said(fake_daemon).text == "summarise\n\nZoë"


def test_options_reach_the_daemon(shell: Shell, fake_daemon: FakeDaemon) -> None:
    assert shell("ask", "--session", "0123", "--model", "hf:a/b", "hi").code == 0
    assert (said(fake_daemon).session_id, said(fake_daemon).model) == ("0123", "hf:a/b")
    fake_daemon.commands.clear()
    assert shell("ask", "--new", "hi").code == 0
    assert said(fake_daemon).new


def test_json_prints_every_event_exactly(shell: Shell, fake_daemon: FakeDaemon) -> None:
    fake_daemon.script = [
        events.TurnStarted(source="text"),
        events.ToolCallStarted(call_id="1", tool="roll", arguments={"sides": 6}, origin="model"),
        *text("Zoë")[1:],
    ]
    lines = shell("ask", "--json", "hi").raw.splitlines()
    found = [decode(line) for line in lines]
    assert [events.encode(event) for event in found] == lines
    assert [type(event).__name__ for event in found] == ["TurnStarted", "ToolCallStarted", "TextDelta", "TurnFinished"]
    assert {event.turn_id for event in found} == {said(fake_daemon).turn_id}


def test_no_stream_prints_the_stored_answer_once(shell: Shell, fake_daemon: FakeDaemon) -> None:
    fake_daemon.script = [*text("Par", "is")[:-1], events.TurnFinished(reason="complete", text="Paris!")]
    assert shell("ask", "--no-stream", "hi").out == "Paris!\n"


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (["ask"], b"", ["empty", "hint"]),
        (["ask", " "], b"\n \n", ["empty"]),
        (["ask", "hi"], b"\xff\xfe not text", ["UTF-8", "byte 0", "iconv"]),
        (["ask", "\udcff"], b"", ["UTF-8"]),
        pytest.param(["ask"], b"x" * (1 << 20) + b"y", ["1,048,577", "1,048,576", "1 MiB"], id="a byte too many"),
        pytest.param(["ask", "hello"], b"x" * ((1 << 20) - 6), ["1,048,577"], id="together too many"),
        (["ask", "--new", "--session", "1", "hi"], b"", ["--new", "--session"]),
        (["ask", "--audio", "a.wav", "hi"], b"", ["--audio"]),
        (["ask", "--audio", "/no/such.wav"], b"", ["/no/such.wav"]),
        (["ask", "--speak", "/no/such/folder/a.wav", "hi"], b"", ["/no/such/folder"]),
        (["ask", "--colour", "hi"], b"", ["--colour", "assistant ask --help"]),
        (["ask", "--schema", "/no/such.json", "hi"], b"", ["/no/such.json", "No such file", "hint"]),
        (["ask", "--schema", "/", "hi"], b"", ["/ cannot be read", "directory"]),
        (["ask", "--schema", "-", "hi"], b"{}", ["standard input", "--schema <(command)"]),
        (["ask", "--schema", "a.json", "--speak", "a.wav", "hi"], b"", ["--schema", "--speak"]),
    ],
)
def test_bad_requests_are_refused_before_the_daemon_hears_of_them(
    shell: Shell, fake_daemon: FakeDaemon, arguments: list[str], stdin: bytes, words: list[str]
) -> None:
    done = shell(*arguments, stdin=stdin)
    assert (done.code, done.out, fake_daemon.commands) == (2, "", [])
    assert done.err.startswith("error: ")
    assert all(word in done.err for word in words), done.err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["line 1, column 1", "not JSON", "jq"]),
        (b'{"type":\n "object",}', ["line 2, column 11"]),
        (b"\xff\xfe", ["UTF-8", "byte 0"]),
        (b"[1]", ["is an array, not an object", "hint"]),
        (b"true", ["true or false"]),
        (b"null", ["is null"]),
        (b"7", ["a number"]),
        (b'{"title": "\\ud800"}', ["half a character"]),
        pytest.param(b'{"a":' * 100_000, ["nested too deeply"], id="deep"),
        pytest.param(b" " * (1 << 20) + b"{}", ["larger than 1,048,576 bytes"], id="large"),
    ],
)
def test_what_is_no_schema_is_refused_with_its_place(
    shell: Shell, fake_daemon: FakeDaemon, tmp_path: Path, content: bytes, words: list[str]
) -> None:
    schema = tmp_path / "schema.json"
    schema.write_bytes(content)
    done = shell("ask", "--schema", str(schema), "hi")
    assert (done.code, done.out, fake_daemon.commands) == (2, "", [])
    assert str(schema) in done.err
    assert all(word in done.err for word in words), done.err


def test_json_answer_is_printed_as_it_came_once_it_is_whole(
    shell: Shell, fake_daemon: FakeDaemon, tmp_path: Path
) -> None:
    schema = tmp_path / "schema.json"
    schema.write_bytes(b'\xef\xbb\xbf{"type": "object", "title": "Zo\xc3\xab"}')
    fake_daemon.script = text('{"n": ', '1e2, "s": "\\u0041"}')
    done = shell("ask", "--schema", str(schema), "hi")
    assert (done.code, done.out, done.err) == (0, '{"n": 1e2, "s": "\\u0041"}\n', "")
    assert (said(fake_daemon).schema, said(fake_daemon).tools) == ({"type": "object", "title": "Zoë"}, None)


@pytest.mark.parametrize("reason", ["failed", "cancelled"])
def test_half_of_a_json_answer_is_never_printed(
    shell: Shell, fake_daemon: FakeDaemon, tmp_path: Path, reason: events.TurnReason
) -> None:
    (tmp_path / "schema.json").write_text("{}")
    cut = events.ErrorInfo(code="engine_failed", message="it was cut off") if reason == "failed" else None
    fake_daemon.script = [*text('{"n": ')[:-1], events.TurnFinished(reason=reason, text='{"n": ', error=cut)]
    done = shell("ask", "--schema", str(tmp_path / "schema.json"), "hi")
    assert (done.code, done.out) == (1, "")
    assert "cut off" in done.err or "cancelled" in done.err


def test_json_answer_is_indented_for_a_person(shell: Shell, fake_daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text("{}")
    fake_daemon.script = text('{"n":1,"m":[2]}')
    master, slave = os.openpty()
    asking = ["ask", "--schema", str(tmp_path / "schema.json"), "hi"]
    with shell.start(*asking, stdin=slave, stdout=slave, stderr=slave) as started:
        os.close(slave)
        shown = _read_terminal(master)
    assert started.returncode == 0
    assert '"n": 1,\r\n' in shown


def test_schema_tools_and_adapter_reach_the_daemon_typed_or_spoken(
    shell: Shell, fake_daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema, question = tmp_path / "schema.json", tmp_path / "question.wav"
    schema.write_text('{"type": "integer"}')
    write_wav(question, b"\x10\x00" * 16_000, 16_000)
    assert shell("ask", "--schema", str(schema), "--tools", "--adapter", "diary", "hi").code == 0
    typed = said(fake_daemon)
    assert (typed.schema, typed.tools, typed.adapter) == ({"type": "integer"}, True, "diary")
    fake_daemon.commands.clear()
    monkeypatch.chdir(tmp_path)
    spoken = ["--audio", str(question), "--schema", str(schema), "--no-tools", "--adapter", "./diary"]
    assert shell("ask", *spoken, "--new", "--model", "hf:a/b").code == 0
    listen = fake_daemon.commands[0]
    assert isinstance(listen, Listen)
    assert (listen.schema, listen.tools, listen.adapter) == ({"type": "integer"}, False, str(tmp_path / "diary"))
    assert (listen.new, listen.model, listen.channel, listen.speak) == (True, "hf:a/b", "cli", False)


def test_what_a_turn_took_is_told_when_it_is_asked_for(shell: Shell, fake_daemon: FakeDaemon) -> None:
    finished = events.TurnFinished(
        reason="complete", text="Paris", timings={"first_token": 0.25, "total": 1.5}, prompt_tokens=1200,
        output_tokens=7, cached_tokens=1100,
    )  # fmt: skip
    fake_daemon.script = [*text("Paris")[:-1], finished]
    done = shell("ask", "-v", "hi")
    assert done.out == "Paris\n"
    expected = "read 1,200 tokens (1,100 of them known), wrote 7; first word after 0.25 s; all in 1.50 s\n"
    assert done.err == expected
    fake_daemon.commands.clear()
    assert shell("ask", "hi").err == ""


def test_a_whole_mebibyte_is_taken(shell: Shell, fake_daemon: FakeDaemon) -> None:
    assert shell("ask", stdin=b"x" * (1 << 20)).code == 0
    assert len(said(fake_daemon).text) == 1 << 20


@pytest.mark.parametrize(
    ("code", "permanent", "status"),
    [
        ("engine_crashed", False, 1),
        ("engine_failed", True, 1),
        ("internal", True, 1),
        ("disk_full", False, 1),
        ("context_overflow", True, 2),
        ("model_not_found", True, 2),
        ("engine_not_found", True, 2),
    ],
)
def test_exit_status_tells_refused_from_failed(
    shell: Shell, fake_daemon: FakeDaemon, code: str, permanent: bool, status: int
) -> None:
    fake_daemon.script = failed(code, "it went wrong", permanent=permanent, hint="do this")
    done = shell("ask", "hi")
    assert (done.code, done.out, done.err) == (status, "", "error: it went wrong\n  hint: do this\n")


def test_refused_command_is_an_error(shell: Shell, fake_daemon: FakeDaemon) -> None:
    info = events.ErrorInfo(code="session_not_found", message="there is no conversation 'x'")
    fake_daemon.script = [events.CommandFailed(error=info)]
    done = shell("ask", "--session", "x", "hi")
    assert (done.code, done.out, done.err) == (2, "", "error: there is no conversation 'x'\n")


def test_turn_cancelled_by_somebody_else_is_a_failure(shell: Shell, fake_daemon: FakeDaemon) -> None:
    fake_daemon.script = [*text("Pa")[:-1], events.TurnFinished(reason="cancelled", text="Pa")]
    done = shell("ask", "hi")
    assert (done.code, done.out) == (1, "Pa\n")
    assert "the answer was cancelled" in done.err


def test_daemon_that_dies_in_mid_answer_is_a_clear_failure(shell: Shell, fake_daemon: FakeDaemon) -> None:
    fake_daemon.script = [*text("Pa")[:-1], "die"]
    done = shell("ask", "hi")
    assert (done.code, done.out) == (1, "Pa\n")
    assert "the daemon went away in the middle of the answer" in done.err


def test_daemon_that_is_stopped_in_mid_answer_says_so(shell: Shell, fake_daemon: FakeDaemon) -> None:
    fake_daemon.script = [*text("Pa")[:-1], events.DaemonStopping(), "die"]
    done = shell("ask", "hi")
    assert done.code == 1
    assert "the daemon was stopped in the middle of the answer" in done.err


def test_lost_events_are_a_failure(shell: Shell, fake_daemon: FakeDaemon) -> None:
    fake_daemon.script = [events.TurnStarted(source="text"), events.SubscriberLagged(missed=7), "die"]
    done = shell("ask", "hi")
    assert done.code == 1
    assert "7 events were lost" in done.err


def test_model_download_is_told_every_tenth_without_a_terminal(shell: Shell, fake_daemon: FakeDaemon) -> None:
    steps = range(0, 1001, 5)
    progress = [events.ModelProgressed(model="starter", phase="download", done=done, total=1000) for done in steps]
    ready = events.ModelProgressed(model="starter", phase="ready")
    fake_daemon.script = [events.TurnStarted(source="text"), *progress, ready, *text("Paris")[1:]]
    done = shell("ask", "hi")
    lines = done.err.splitlines()
    assert lines[:2] == ["starter: downloading 0 % of 1.0 kB", "starter: downloading 10 % of 1.0 kB"]
    assert len(lines) == 12
    assert lines[-1] == "starter: ready"
    assert done.out == "Paris\n"
    fake_daemon.commands.clear()
    assert shell("ask", "-q", "hi").err == ""


def test_spoken_question_is_sent_and_spoken_answer_written(
    shell: Shell, fake_daemon: FakeDaemon, tmp_path: Path
) -> None:
    question, answer = tmp_path / "question.wav", tmp_path / "answer.wav"
    write_wav(question, b"\x10\x00" * 40_000, 16_000)
    pcm = b"\x01\x02" * 100
    spoken = [events.SpeechSynthesized(pcm=pcm, sample_rate=22_050)] * 2
    fake_daemon.script = [events.TurnStarted(source="voice"), "audio", *spoken, *text("Paris")[1:]]
    done = shell("ask", "--audio", str(question), "--speak", str(answer))
    assert (done.code, done.out, done.err) == (0, "Paris\n", "")
    listen, end = fake_daemon.commands
    assert isinstance(listen, Listen)
    assert (listen.channel, listen.speak) == ("cli", True)
    assert isinstance(end, EndAudio)
    assert bytes(fake_daemon.audio) == b"\x10\x00" * 40_000
    with wave.open(str(answer)) as file:
        assert (file.getframerate(), file.readframes(300)) == (22_050, pcm * 2)


def test_audio_comes_from_standard_input(shell: Shell, fake_daemon: FakeDaemon, tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", b"\x10\x00" * 16_000, 16_000)
    fake_daemon.script = ["audio", *text("Paris")]
    cut = (tmp_path / "a.wav").read_bytes()[:-1000]
    done = shell("ask", "--audio", "-", stdin=cut)
    assert done.code == 0
    assert len(fake_daemon.audio) == 31_000
    assert "warning: standard input is cut off" in done.err


def test_speech_that_never_came_is_a_failure_and_leaves_no_file(
    shell: Shell, fake_daemon: FakeDaemon, tmp_path: Path
) -> None:
    done = shell("ask", "--speak", str(tmp_path / "a.wav"), "hi")
    assert (done.code, done.out) == (1, "Paris\n")
    assert "nothing to say" in done.err
    assert not (tmp_path / "a.wav").exists()


def test_ctrl_c_cancels_the_turn_and_waits_for_its_end(shell: Shell, fake_daemon: FakeDaemon) -> None:
    fake_daemon.script = cancelled("Par")
    asking = shell.start("ask", "hi")
    assert asking.stdout is not None
    assert asking.stdout.read(3) == b"Par"
    asking.send_signal(signal.SIGINT)
    out, err = asking.communicate(timeout=20)
    assert (asking.returncode, out, err) == (130, b"\n", b"")
    turn_id = fake_daemon.commands[0].turn_id  # type: ignore[union-attr]
    assert fake_daemon.commands[1] == Cancel(session_id=SESSION.id, turn_id=turn_id)


def test_second_ctrl_c_leaves_at_once(shell: Shell, fake_daemon: FakeDaemon, until: Until) -> None:
    fake_daemon.script = [*text("Par")[:-1], 3600.0]
    asking = shell.start("ask", "hi")
    assert asking.stdout is not None
    asking.stdout.read(3)
    asking.send_signal(signal.SIGINT)
    until(lambda: len(fake_daemon.commands) == 2)
    asking.send_signal(signal.SIGINT)
    _, err = asking.communicate(timeout=4)
    assert (asking.returncode, err) == (130, b"")


def test_ctrl_c_works_while_nobody_reads_the_answer(shell: Shell, fake_daemon: FakeDaemon, until: Until) -> None:
    fake_daemon.script = cancelled(*["x" * 4000] * 100)
    asking = shell.start("ask", "hi")
    until(lambda: len(fake_daemon.commands) == 1)
    assert asking.stdout is not None
    asking.stdout.read(1)
    asking.send_signal(signal.SIGINT)
    until(lambda: len(fake_daemon.commands) == 2)
    out, _ = asking.communicate(timeout=20)
    assert asking.returncode == 130
    assert len(out) == 400_000, "all that came before Ctrl-C, and the end of the line"


def test_closed_pipe_is_quiet_and_cancels_the_turn(shell: Shell, fake_daemon: FakeDaemon, until: Until) -> None:
    fake_daemon.script = [*text("Par")[:-1], 0.3, *[events.TextDelta(text="is")] * 100, "cancel"]
    asking = shell.start("ask", "hi")
    assert asking.stdout is not None
    assert asking.stdout.read(3) == b"Par"
    asking.stdout.close()
    assert asking.stderr is not None
    err = asking.stderr.read()
    assert (asking.wait(timeout=20), err) == (1, b"")
    asking.stderr.close()
    until(lambda: any(isinstance(command, Cancel) for command in fake_daemon.commands))


def test_argument_that_is_not_utf8_is_refused(shell: Shell, fake_daemon: FakeDaemon) -> None:
    done = shell.process("ask", b"caf\xe9")
    assert done.code == 2
    assert "not UTF-8" in done.err
    assert "Traceback" not in done.err


def test_answer_cannot_drive_the_terminal(shell: Shell, fake_daemon: FakeDaemon) -> None:
    fake_daemon.script = [
        events.TurnStarted(source="text"),
        events.ToolCallStarted(call_id="1", tool="roll", arguments={"sides": 6}, origin="model"),
        *text("Par\x1b[2Jis")[1:],
    ]
    master, slave = os.openpty()
    with shell.start("ask", "hi", stdin=slave, stdout=slave, stderr=slave) as asking:
        os.close(slave)
        shown = _read_terminal(master)
    assert asking.returncode == 0
    assert "Par[2Jis" in shown
    assert "roll(sides=6)" in shown
    assert "\x1b[2mthinking…" in shown
    fake_daemon.commands.clear()


def test_no_color_is_respected(shell: Shell, fake_daemon: FakeDaemon) -> None:
    shell.env["NO_COLOR"] = "1"
    fake_daemon.script = failed("internal", "it went wrong", permanent=True)
    master, slave = os.openpty()
    with shell.start("ask", "hi", stdin=slave, stdout=slave, stderr=slave) as asking:
        os.close(slave)
        shown = _read_terminal(master)
    assert asking.returncode == 1
    assert "error: it went wrong" in shown
    assert "\x1b[31m" not in shown


def test_daemon_is_started_when_it_is_down(shell: Shell, capfd: pytest.CaptureFixture[str]) -> None:
    from assistant.paths import find

    script = Path(__file__).parent / "fake_daemon.py"
    paths = find()
    assert connect.ensure(paths, command=[sys.executable, str(script), str(paths.socket)])
    assert not connect.ensure(paths, command=["/nothing/is/started/now"])
    assert shell("ask", "hi").out == "Paris\n"
    assert shell("down").code == 0


def _read_terminal(master: int) -> str:
    data = b""
    while True:
        try:
            block = os.read(master, 65536)
        except OSError:
            break
        if not block:
            break
        data += block
    os.close(master)
    return data.decode()


