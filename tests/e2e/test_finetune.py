"""The real daemon trains a tiny model: interrupted by Ctrl-C, resumed, listed, answered with."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from homes import Home
from tiny_models import persona, tiny_model, write_lines


@pytest.mark.model
def test_a_training_is_stopped_resumed_and_answered_with(bare_home: Home, tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    data = write_lines(tmp_path / "data.jsonl", persona())
    bare_home.config(f'[llm]\nmodel = "{model}"\n')
    started = bare_home.start(
        "finetune", "tiny", str(data), "--iterations", "100000", "--learning-rate", "0.001", "--layers", "2", "--json"
    )
    assert started.stdout is not None
    lines = []
    for line in started.stdout:
        lines.append(json.loads(line))
        if lines[-1].get("saved"):
            break
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=120)
    lines += [json.loads(line) for line in out.splitlines()]
    assert (started.returncode, err) == (130, b"")
    assert (lines[-1]["type"], lines[-1]["reason"]) == ("finetune_finished", "cancelled")
    [adapter] = json.loads(bare_home.run("finetune", "list", "--json").out)
    assert (adapter["state"], adapter["usable"], adapter["model"]) == ("cancelled", True, str(model))

    until = adapter["iteration"] + 5
    resumed = bare_home.run("finetune", "tiny", "--resume", "--iterations", str(until), "--json")
    assert resumed.code == 0, resumed.err
    progress = [event for event in resumed.events() if event["type"] == "finetune_progressed"]
    assert max(event["iteration"] for event in progress) == until
    losses = [event["train_loss"] for event in [*lines, *progress] if event.get("train_loss")]
    assert losses[-1] < losses[0]
    answered = bare_home.run("ask", "--adapter", "tiny", "--json", "What is your name?")
    assert answered.code == 0, answered.err
    assert answered.events()[-1]["reason"] == "complete"
    assert bare_home.run("finetune", "rm", "tiny", "--yes").code == 0
    assert json.loads(bare_home.run("finetune", "list", "--json").out) == []
