"""Bad input and faults, met with the real daemon and the real command line."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from homes import SITE, Home, wait_for


def test_answers_and_says_so(home: Home) -> None:
    answer = home.run("ask", "hello there")
    assert (answer.code, answer.out) == (0, "you said: hello there\n")


@pytest.mark.parametrize(
    ("arguments", "stdin", "names"),
    [
        (["ask", ""], b"", "empty"),
        (["ask", "   "], b" \n", "empty"),
        (["ask"], b"\xff\xfe\x80 not text", "UTF-8"),
        (["ask"], b"x" * 1_200_000, "1,048,576"),
        (["ask", "--session", "nosuchid", "hi"], b"", "nosuchid"),
        (["ask", "--audio", "/no/such/file.wav"], b"", "/no/such/file.wav"),
        (["sessions", "show", "nosuchid"], b"", "nosuchid"),
        (["models", "info", "startr"], b"", "starter"),
        (["asq", "hi"], b"", "ask"),
    ],
    ids=["empty", "blank", "not UTF-8", "too large", "session", "audio", "shown session", "model", "command"],
)
def test_bad_input_is_refused_with_a_reason(home: Home, arguments: list[str], stdin: bytes, names: str) -> None:
    refused = home.run(*arguments, stdin=stdin)
    assert refused.code == 2
    assert names in refused.err
    assert "Traceback" not in refused.err
    assert refused.out == ""


def test_a_megabyte_is_taken(home: Home) -> None:
    answer = home.run("ask", stdin=b"word " * 200_000)
    assert answer.code == 0
    assert answer.out.count("word") == 200_000


def test_unknown_engine_is_refused_and_the_question_kept(home: Home) -> None:
    home.config('[llm]\nengine = "scriptd"\n')
    refused = home.run("ask", "are you there?")
    assert refused.code == 2
    assert "scripted" in refused.err
    assert "are you there?" in home.run("sessions", "show", _session(home)).out


def test_unknown_model_is_refused(home: Home) -> None:
    refused = home.run("ask", "--model", "no/such/model", "hi")
    assert refused.code == 2
    assert "no/such/model" in refused.err


def test_a_wrong_setting_names_file_line_and_key(home: Home) -> None:
    home.config('[llm]\nengine = "scripted"\nmodl = "starter"\n')
    refused = home.run("ask", "hi")
    assert refused.code != 0
    for word in ("config.toml", "3", "modl", "model"):
        assert word in refused.err


def test_killed_lane_fails_the_turn_and_the_next_one_works(home: Home) -> None:
    asking = home.start("ask", "--json", "count 1000")
    pid = wait_for(lambda: _lane_pid(home))
    assert asking.stdout is not None
    for line in asking.stdout:
        if b'"9 "' in line:
            break
    os.kill(pid, signal.SIGKILL)
    out, _ = asking.communicate(timeout=30)
    assert asking.returncode == 1
    last = out.splitlines()[-1].decode()
    assert '"turn_finished"' in last
    assert '"engine_crashed"' in last
    assert home.run("ask", "hello again").out == "you said: hello again\n"
    shown = home.run("sessions", "show", _session(home)).out
    assert "count 1000" in shown
    assert "0 1" in shown


def test_an_engine_that_exits_is_contained(home: Home) -> None:
    failed = home.run("ask", "crash after 3")
    assert failed.code == 1
    assert failed.out.startswith("0 1 2")
    assert "exit" in failed.err.lower()
    assert home.run("ask", "hello").code == 0


def test_an_engine_that_hangs_is_ended(home: Home) -> None:
    home.config('[llm]\nengine = "scripted"\n[lanes]\nstep_seconds = 1.0\n')
    failed = home.run("ask", "hang")
    assert failed.code == 1
    assert home.run("ask", "hello").code == 0


def test_killed_daemon_keeps_the_question_and_marks_the_turn(home: Home) -> None:
    asking = home.start("ask", "count 1000")
    wait_for(lambda: _lane_pid(home))
    home.kill_daemon()
    _, err = asking.communicate(timeout=30)
    assert asking.returncode == 1
    assert b"daemon" in err
    assert home.run("up").code == 0
    shown = home.run("sessions", "show", _session(home)).out
    assert "count 1000" in shown
    assert "interrupted" in shown


def test_ctrl_c_cancels_the_turn_and_leaves_the_daemon_well(home: Home) -> None:
    asking = home.start("ask", "count 1000")
    assert asking.stdout is not None
    asking.stdout.read(4)
    asking.send_signal(signal.SIGINT)
    asking.communicate(timeout=30)
    assert asking.returncode == 130
    status = home.status()
    assert status["live_turns"] == 0
    assert home.run("ask", "hello").code == 0
    assert "cancelled" in home.run("sessions", "show", _session(home)).out


def test_second_daemon_is_refused(home: Home) -> None:
    home.run("up")
    second = home.run("up", "--foreground")
    assert second.code == 2
    assert str(home.status()["pid"]) in second.err


def test_two_starts_at_once_make_one_daemon(home: Home) -> None:
    asking = [home.start("ask", f"hello {i}") for i in range(2)]
    outs = [process.communicate(timeout=60) for process in asking]
    assert [process.returncode for process in asking] == [0, 0], outs


def test_stale_socket_and_lock_do_no_harm(home: Home) -> None:
    run = home.path / "run"
    run.mkdir(parents=True)
    (run / "daemon.lock").write_text("999999\n")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(run / "daemon.sock"))
    stale.close()
    assert home.run("ask", "hello").code == 0


def test_misbehaving_tools_become_answers(home: Home) -> None:
    for sentence in ("please sleep forever", "raise an error", "tell a lie"):
        answer = home.run("ask", "--json", sentence)
        finished = next(event for event in answer.events() if event["type"] == "tool_call_finished")
        assert not finished.get("ok", False)
        assert finished["result"]
    assert home.run("ask", "hello").code == 0
    assert home.run("down").code == 0
    assert "never returned" in home.log()


def test_flooding_plugin_is_isolated_and_named(home: Home) -> None:
    home.run("ask", "flood the bus")
    listed = home.run("plugins", "list").out
    assert next(line for line in listed.splitlines() if line.startswith("faults")).count("failed") == 1
    assert home.run("ask", "what is 2 plus 3").out == "2 plus 3 is 5.\n"


@pytest.mark.parametrize("fault", ["time.sleep(3600)", "os._exit(7)", "raise RuntimeError('broken')", "1 +"])
def test_plugin_that_breaks_at_import_is_isolated(home: Home, tmp_path: Path, fault: str) -> None:
    site = tmp_path / "site"
    shutil.copytree(SITE, site)
    info = site / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[assistant]\nbroken = broken_plugin\n")
    (site / "broken_plugin.py").write_text(f"import os, time\n{fault}\n")
    home.env["PYTHONPATH"] = str(site)
    home.config('[llm]\nengine = "scripted"\n[lanes]\n')
    starts = [home.run("up").code for _ in range(3)]
    assert starts == ([1, 1, 0] if "_exit" in fault else [0, 0, 0])
    assert home.run("ask", "hello").code == 0
    listed = home.run("plugins", "list").out
    assert "failed" in next(line for line in listed.splitlines() if line.startswith("broken"))


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can mount a small file system")
def test_full_disk_is_a_clear_error_and_loses_nothing(home: Home, full_disk: Path) -> None:
    home.path.mkdir(parents=True, exist_ok=True)
    (home.path / "data").symlink_to(full_disk)
    assert home.run("ask", "--new", "before").code == 0
    filler = full_disk / "filler"
    _fill(filler)
    failed = home.run("ask", "x " * 50_000)
    assert failed.code == 1
    assert "full" in failed.err or "space" in failed.err
    filler.unlink()
    assert home.run("ask", "after").code == 0
    assert "before" in home.run("sessions", "search", "before").out


def _session(home: Home) -> str:
    return home.run("sessions", "list").out.splitlines()[1].split()[0]


def _lane_pid(home: Home) -> int:
    if not (home.path / "run" / "daemon.sock").exists():
        return 0
    lanes = {lane["name"]: lane for lane in home.status()["lanes"]}
    return int(lanes.get("gpu", {}).get("pid", 0))


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as raw, suppress(OSError):
        while True:
            raw.write(bytes(4096))
