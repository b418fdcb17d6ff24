"""``assistant finetune``: what it reads, sends and shows, and Ctrl-C."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from cli.conftest import Shell
from cli.fake_daemon import FakeDaemon, serving

from assistant.errors import ModelNotFound
from assistant.events import ErrorInfo, Event, FinetuneFinished, FinetuneProgressed, ModelProgressed
from assistant.finetune import AdapterInfo, FinetuneRequest
from assistant.finetune.records import Hyperparameters
from assistant.paths import Paths

ADAPTER = AdapterInfo(
    name="one", model="starter", engine="mlx", state="complete", settings=Hyperparameters(iterations=40), iteration=40,
    train_loss=0.5, first_loss=3.25, valid_loss=1.0, train_examples=18, valid_examples=2, updated_at=1e9,
    folder="/adapters/one", bytes=5_200_000, usable=True,
)  # fmt: skip
BEGUN = msgspec.structs.replace(ADAPTER, state="running", iteration=0, first_loss=None, train_loss=None)

PROGRESS: list[Event] = [
    ModelProgressed(model="starter", phase="ready"),
    FinetuneProgressed(adapter="other", iteration=1, iterations=2, train_loss=9.0),
    FinetuneProgressed(adapter="one", iteration=0, iterations=40, valid_loss=4.0),
    FinetuneProgressed(adapter="one", iteration=20, iterations=40, train_loss=3.25),
    FinetuneProgressed(adapter="one", iteration=40, iterations=40, train_loss=0.5, valid_loss=1.0, saved=True),
]
COMPLETE = FinetuneFinished(adapter="one", reason="complete", iteration=40, iterations=40, seconds=65.0)
CANCELLED = FinetuneFinished(adapter="one", reason="cancelled", iteration=20, iterations=40, seconds=5.0)
FAILED = FinetuneFinished(
    adapter="one", reason="failed", iteration=20, iterations=40, seconds=5.0,
    error=ErrorInfo(code="engine_crashed", message="the lane died", hint="resume it", permanent=False),
)  # fmt: skip


@dataclass
class Trainer(FakeDaemon):
    """A daemon that trains by script."""

    training: list[Event] = field(default_factory=lambda: [*PROGRESS, COMPLETE])

    async def _route(self, method: str, path: str, scope: object, body: bytes) -> object:
        _, _, name = path.partition("/api/finetune")
        if not path.startswith("/api/finetune"):
            return await super()._route(method, path, scope, body)
        if method == "POST" and name.endswith("/cancel"):
            self._tell([CANCELLED])
            return name.startswith("/one")
        if method == "POST":
            self._tell(self.training)
            return BEGUN
        if name and not name.startswith("/one"):
            raise ModelNotFound(f"there is no adapter {name!r}", hint="did you mean one?")
        return ADAPTER if name else [ADAPTER]

    def _tell(self, told: list[Event]) -> None:
        for link in self._links:
            for event in told:
                link.put_nowait(event)

    @property
    def asked(self) -> FinetuneRequest:
        """The training that was asked for."""
        [body] = [body for method, target, body in self.requests if (method, target) == ("POST", "/api/finetune")]
        return msgspec.json.decode(body, type=FinetuneRequest)


@pytest.fixture
def trainer(paths: Paths) -> Iterator[Trainer]:
    """A scripted daemon in this home."""
    daemon = Trainer(paths.socket)
    with serving(daemon):
        yield daemon


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Two examples."""
    file = tmp_path / "data.jsonl"
    file.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "c", "completion": "d"}\n')
    return str(file)


def test_a_training_is_followed_to_its_end(shell: Shell, trainer: Trainer, data: str) -> None:
    done = shell("finetune", "one", data, "--iterations", "40", "--rank", "4", "--learning-rate", "0.001")
    assert done.code == 0
    assert done.out.splitlines() == [
        "one: trained for 40 iterations in 1 min 05 s, loss 3.25 → 0.5, validation 1",
        'try it: assistant ask --adapter one "…"',
    ]
    assert "18 answers to learn from, 2 kept aside" in done.err
    assert "one: 20 of 40  loss 3.25  validation 4" in done.err
    assert "9" not in done.err.replace("0.9", "")
    asked = trainer.asked
    assert (asked.name, asked.iterations, asked.rank, asked.learning_rate) == ("one", 40, 4, 0.001)
    assert (asked.batch_size, asked.layers, asked.model, asked.resume) == (None, None, "", False)
    assert [message.content for example in asked.examples for message in example.messages] == ["a", "b", "c", "d"]


def test_json_shows_the_events(shell: Shell, trainer: Trainer, data: str) -> None:
    done = shell("finetune", "train", "one", data, "--json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line["type"] for line in lines] == ["model_progressed", *["finetune_progressed"] * 3, "finetune_finished"]
    assert done.err == ""
    assert shell("finetune", "one", data, "-q").err == ""


def test_conversations_and_resuming_are_asked_for(shell: Shell, trainer: Trainer) -> None:
    assert shell("finetune", "one", "--session", "abcd", "--session", "ef01", "--model", "hf:a/b").code == 0
    asked = trainer.asked
    assert (asked.sessions, asked.from_sessions, asked.model) == (("abcd", "ef01"), False, "hf:a/b")
    trainer.requests.clear()
    assert shell("finetune", "one", "--from", "sessions").code == 0
    assert trainer.asked.from_sessions
    trainer.requests.clear()
    assert shell("finetune", "one", "--resume", "--iterations", "80").code == 0
    assert (trainer.asked.resume, trainer.asked.iterations, trainer.asked.examples) == (True, 80, ())


def test_a_failed_training_says_why(shell: Shell, trainer: Trainer, data: str) -> None:
    trainer.training = [*PROGRESS[:4], FAILED]
    done = shell("finetune", "one", data)
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith("error: the lane died\n  hint: resume it\n")


def test_detach_returns_at_once(shell: Shell, trainer: Trainer, data: str) -> None:
    trainer.training = []
    done = shell("finetune", "one", data, "--detach")
    assert done.code == 0
    assert "assistant finetune list" in done.out
    assert json.loads(shell("finetune", "one", data, "--detach", "--json").out)["state"] == "running"


def test_ctrl_c_stops_the_training(
    shell: Shell, trainer: Trainer, data: str, until: Callable[[Callable[[], object]], None]
) -> None:
    trainer.training = PROGRESS[:4]
    with shell.start("finetune", "one", data) as started:
        assert started.stderr is not None
        line = b""
        while b"20 of 40" not in line:
            line = started.stderr.readline()
            assert line, "it ended"
        started.send_signal(signal.SIGINT)
        out, _ = started.communicate(timeout=30)
    assert started.returncode == 130
    assert out.decode() == "one: stopped at 20 of 40; go on with: assistant finetune one --resume\n"
    assert ("POST", "/api/finetune/one/cancel", b"") in [(m, t, b"") for m, t, _ in trainer.requests]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("one",), "nothing to learn from: name FILEs or add --from sessions"),
        (("lst",), "did you mean `assistant finetune list`?"),
        (("a/b", "--from", "sessions"), "cannot be an adapter's name"),
        (("one", "--resume", "--from", "sessions"), "leave files and conversations out"),
        (("one", "nowhere.jsonl"), "nowhere.jsonl: No such file"),
        (("one", "--from", "sessions", "--rank", "0"), "--rank"),
        (("rm", "one"), "add --yes"),
    ],
)
def test_wrong_usage_is_refused(shell: Shell, trainer: Trainer, arguments: tuple[str, ...], said: str) -> None:
    done = shell("finetune", *arguments)
    assert done.code == 2
    assert said in done.err
    assert [request for request in trainer.requests if request[0] != "GET"] == []


def test_a_wrong_line_is_named(shell: Shell, trainer: Trainer, tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text('{"prompt": "a"}\n')
    done = shell("finetune", "one", str(file))
    assert done.code == 2
    assert f"{file}, line 1: " in done.err
    assert "hint: a line is" in done.err


def test_adapters_are_listed_described_and_removed(shell: Shell, trainer: Trainer) -> None:
    for arguments in (("list",), ("--status",)):
        head, row = shell("finetune", *arguments).out.splitlines()
        assert head.split()[:3] == ["NAME", "MODEL", "STATE"]
        assert row.split()[:8] == ["one", "starter", "complete", "40/40", "3.25", "0.5", "1", "5.2"]
    assert json.loads(shell("finetune", "list", "--json").out)[0]["name"] == "one"
    info = shell("finetune", "info", "one").out
    assert "18 to learn from, 2 kept aside" in info
    assert "0.5 (at first 3.25)" in info
    assert shell("finetune", "info", "two").code == 2
    assert shell("finetune", "cancel", "one").out.startswith("one: stopped")
    assert shell("finetune", "cancel", "two").code == 1
    assert shell("finetune", "rm", "one", "--yes").code == 0
    assert ("DELETE", "/api/finetune/one") in [(method, target) for method, target, _ in trainer.requests]
    assert shell("finetune").out.startswith("Usage: assistant finetune")
