"""Models that come and go in a real daemon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil
import pytest
from homes import Home, wait_for


def gpu(home: Home) -> dict[str, Any]:
    """The lane of the language models."""
    return next(lane for lane in home.status()["lanes"] if lane["name"] == "gpu")


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A folder that passes for a model with the scripted engine."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return str(folder)


def test_unloading_a_model_ends_its_process(home: Home, model: str) -> None:
    home.config(f'[llm]\nengine = "scripted"\nmodel = "{model}"\npinned = ["{model}"]\n')
    assert home.run("ask", "hello").out == "you said: hello\n"
    pid = gpu(home)["pid"]
    assert psutil.pid_exists(pid)
    listed = {row["name"]: row for row in json.loads(home.run("models", "list", "--json").out)}
    assert (listed[model]["loaded"], listed[model]["pinned"]) == (True, True)
    assert f"llm:scripted:{model}" in home.run("status").out
    unloaded = home.run("models", "unload", model)
    assert (unloaded.code, unloaded.err) == (0, "")
    assert not psutil.pid_exists(pid)
    assert (gpu(home)["state"], gpu(home)["engines"]) == ("down", [])
    again = home.run("models", "unload", model)
    assert again.code == 2
    assert "is not loaded" in again.err
    assert home.run("models", "load", model).code == 0
    assert gpu(home)["engines"] == [f"llm:scripted:{model}"]


def test_an_idle_model_is_unloaded_by_the_daemon_itself(home: Home) -> None:
    home.config('[llm]\nengine = "scripted"\nidle_minutes = 0.001\n')
    assert home.run("ask", "hello").code == 0
    wait_for(lambda: gpu(home)["state"] == "down")
    assert "is unloaded after 0.001 idle minutes" in home.log()
    assert home.run("ask", "hello again").out == "you said: hello again\n"


@pytest.mark.model
def test_a_model_that_does_not_fit_fails_the_turn_with_the_numbers(starter_home: Home) -> None:
    starter_home.config("[plugins.mlx]\nreserve_mb = 100000000\n")
    refused = starter_home.run("ask", "hello", timeout=300)
    assert (refused.code, refused.out) == (2, "")
    assert "the model starter needs" in refused.err
    assert "context of 4096 tokens" in refused.err
    assert all(not lane["engines"] for lane in starter_home.status()["lanes"] if lane["name"] == "gpu")


@pytest.mark.model
def test_status_tells_what_the_real_model_holds(starter_home: Home) -> None:
    assert starter_home.run("models", "load", "starter", timeout=300).code == 0
    held = wait_for(lambda: [each for each in starter_home.status()["models"] if each["memory"]["active"]])
    assert held[0]["key"] == "llm:mlx:starter"
    assert 90_000_000 < held[0]["memory"]["active"] < 2_000_000_000
