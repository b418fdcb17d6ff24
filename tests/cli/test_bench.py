"""``assistant bench llm``: what it measures, prints and writes, what it refuses, and how it is interrupted."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import pytest
from chat_server import ChatServer, serving
from cli.conftest import Shell
from cli.fake_daemon import FakeDaemon
from model_fixtures import scripted_model

from assistant.bench.report import Report
from assistant.paths import Paths


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    """A small real model that answers with thirty tokens."""
    return str(scripted_model(tmp_path / "tiny", [f" w{i}." for i in range(30)]))


@pytest.mark.parametrize(("arguments", "told"), [
    (["--prompts", "128,many"], "whole numbers"),
    (["--prompts", ""], "whole numbers"),
    (["--batches", "0"], "from 1 to 64"),
    (["--batches", "1,65"], "from 1 to 64"),
    (["--tokens", "1"], "4<=x<=100000"),
    (["--rounds", "0"], "1<=x<=100"),
    (["--bandwidth", "0"], "0.1<=x"),
    (["--json", "no/such/folder/x.json"], "its folder does not exist"),
    (["--plot", "/"], "is a folder"),
    (["--api-key", "k"], "need --compare URL"),
    (["--compare-model", "m"], "need --compare URL"),
    (["--model", "no-such-model"], "no-such-model"),
])  # fmt: skip
def test_wrong_values_are_refused_before_anything_is_measured(shell: Shell, arguments: list[str], told: str) -> None:
    done = shell("bench", "llm", *arguments)
    assert done.code == 2
    assert told in done.err
    assert done.out == ""


def test_a_wrong_address_is_refused(shell: Shell) -> None:
    done = shell("bench", "llm", "--compare", "localhost:8080")
    assert done.code == 1
    assert "'localhost:8080' is no address" in done.err
    assert "http://127.0.0.1:8080/v1" in done.err


def test_a_server_that_refuses_is_told(shell: Shell) -> None:
    with serving(ChatServer(api_key="secret")) as url:
        done = shell("bench", "llm", "--compare", url)
    assert done.code == 1
    assert "HTTP 401: who are you?" in done.err
    assert done.out == ""


def test_a_picture_without_matplotlib_is_refused_at_once(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = shell("bench", "llm", "--plot", str(tmp_path / "x.png"))
    assert done.code == 1
    assert "pip install 'assistant[bench]'" in done.err


def test_a_daemon_that_holds_a_model_is_pointed_out(shell: Shell, fake_daemon: FakeDaemon) -> None:
    done = shell("bench", "llm", "--model", "no-such-model")
    assert "the daemon has llm:mlx:starter loaded" in done.err
    assert "assistant down" in done.err
    assert "the daemon" not in shell("bench", "llm", "--model", "no-such-model", "-q").err


def test_help_names_the_bound(shell: Shell) -> None:
    done = shell("bench", "llm", "--help")
    assert done.code == 0
    assert "bandwidth" in done.out


@pytest.mark.timeout(120)
def test_a_run_beside_a_server(shell: Shell, paths: Paths, tmp_path: Path, tiny: str) -> None:
    picture, written = tmp_path / "bench.png", tmp_path / "bench.json"
    with serving(ChatServer()) as url:
        done = shell(
            "bench", "llm", "--model", tiny, "--prompts", "200,300,9000", "--batches", "1,2", "--tokens", "12",
            "--rounds", "1", "--bandwidth", "10", "--compare", url, "--json", str(written), "--plot", str(picture),
        )  # fmt: skip
    assert done.code == 0, done.err
    report = msgspec.json.decode(written.read_bytes(), type=Report)
    assert report.complete
    ours, theirs = report.targets
    assert (ours.kind, ours.title, theirs.kind) == ("engine", "tiny", "server")
    assert [row.length for row in ours.prompts] == [200, 300]
    assert all(150 < row.tokens < 400 and row.bound for row in ours.prompts)
    assert [row.streams for row in ours.batches] == [row.streams for row in theirs.batches] == [1, 2]
    assert [row.state for row in ours.first_token] == ["cold", "warm", "restored"]
    assert [row.state for row in theirs.first_token] == ["cold", "warm"]
    assert report.load is not None
    assert len(report.load.values) == 2
    assert report.cost is not None
    assert report.cost.weights > 0
    assert report.memory.rss > 0
    assert any("9000 tokens" in note for note in report.notes)
    for told in ("tiny on the engine mlx", "10.0 GB/s (given)", "restored", "ours ÷ its", "note: prompts of 9000"):
        assert told in done.out
    assert "round 1 of 1: 2 at a time, tiny" in done.err
    assert struct.unpack(">II", picture.read_bytes()[16:24]) == (1200, 420)
    assert list(paths.cache.iterdir()) == []
    assert not paths.database.exists()


@pytest.mark.timeout(120)
def test_ctrl_c_shows_what_was_measured(
    shell: Shell, paths: Paths, tiny: str, until: Callable[[Callable[[], object]], None], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        process = shell.start(
            "bench", "llm", "--model", tiny, "--prompts", "200", "--batches", "1", "--tokens", "8", "--rounds", "100",
            "--bandwidth", "10", "--json", "-", stderr=stderr.fileno(),
        )  # fmt: skip
        with process:
            until(lambda: b"round 2 of 100" in log.read_bytes())
            children = psutil.Process(process.pid).children()
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    found = json.loads(out)
    assert found["complete"] is False
    assert len(found["targets"][0]["prompts"][0]["prefill"]["values"]) >= 1
    assert log.read_text().splitlines()[-1] == "interrupted"
    assert children
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    assert list(paths.cache.iterdir()) == []


def test_ctrl_c_before_the_first_figure_prints_nothing(
    shell: Shell, tiny: str, until: Callable[[Callable[[], object]], None], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        process = shell.start("bench", "llm", "--model", tiny, stderr=stderr.fileno())
        with process:
            until(lambda: b"bandwidth" in log.read_bytes())
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")


def test_the_command_imports_nothing_heavy(shell: Shell) -> None:
    code = "import assistant.cli.bench, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=shell.env, capture_output=True, text=True, check=True
    )
    heavy = {"matplotlib", "mlx", "numpy", "httpx", "rich", "msgspec", "psutil"}
    assert not set(done.stdout.split()) & heavy
