"""``assistant wake``."""

from __future__ import annotations

import json
from pathlib import Path

from cli.conftest import Shell

from assistant.paths import Paths
from assistant.voice.frames import WakeHit
from assistant.voice.wake import WakeLog


class Scores:
    """One detector."""

    def __init__(self) -> None:
        self.thresholds = {"hey_jarvis": 0.97}

    def strength(self, name: str) -> float:
        return 0.0


def counted(paths: Paths) -> None:
    log = WakeLog(paths.data / "wake", Scores())
    log.listened(6 * 3600)
    for _ in range(12):
        log.add(WakeHit("hey_jarvis", 0.99, accepted=True))
    log.undo("hey_jarvis")
    log.add(WakeHit("hey_jarvis", 0.7, accepted=False))
    log.close()


def test_the_list_names_the_bundled_wake_words(shell: Shell) -> None:
    done = shell("wake", "list", "--json")
    assert done.code == 0
    found = {one["name"]: one for one in json.loads(done.out)}
    jarvis = found["hey_jarvis"]
    assert jarvis == {
        "name": "hey_jarvis", "phrase": "hey jarvis", "plugin": "microwakeword", "threshold": 0.97, "selected": True,
        "reason": "",
    }  # fmt: skip
    assert {"okay_nabu", "hey_mycroft", "alexa"} < set(found)
    assert found["open_hey_jarvis"]["plugin"] == "openwakeword"
    assert not found["alexa"]["selected"]


def test_the_list_shows_what_the_configuration_chooses(shell: Shell, paths: Paths) -> None:
    paths.config.mkdir(parents=True)
    paths.config_file.write_text('[voice]\nwake_words = ["alexa", "hey_jarvi"]\n[voice.wake.alexa]\nthreshold = 0.8\n')
    rows = shell("wake", "list").out.splitlines()
    assert rows[0].split() == ["NAME", "PHRASE", "PLUGIN", "THRESHOLD", "SELECTED", "UNAVAILABLE"]
    lines = {row.split()[0]: " ".join(row.split()) for row in rows}
    assert lines["alexa"] == "alexa alexa microwakeword 0.8 yes"
    assert lines["hey_jarvis"] == "hey_jarvis hey jarvis microwakeword 0.97"
    assert lines["hey_jarvi"] == "hey_jarvi - - - yes no plugin offers it; did you mean hey_jarvis?"


def test_the_report_without_counts_says_so(shell: Shell) -> None:
    done = shell("wake", "report")
    assert (done.code, done.out.split(":")[0]) == (0, "Nothing was counted yet")
    assert json.loads(shell("wake", "report", "--json").out) == []


def test_the_report_needs_no_daemon(shell: Shell, paths: Paths) -> None:
    counted(paths)
    done = shell("wake", "report")
    assert done.code == 0
    head, row, _, reason = done.out.splitlines()
    assert head.split()[-3:] == ["FALSE/H", "BOUND", "SUGGESTED"]
    assert row.split() == [
        "hey_jarvis", "0.97", "6", "h", "00", "min", "12", "1", "0", "1", "0.17", "0.79", "0.97",
    ]  # fmt: skip
    assert reason == "hey_jarvis at 0.97: keep it: 6.0 h, 12 wakes, 1 undone, 1 near misses"
    assert not paths.socket.exists()


def test_the_report_as_json(shell: Shell, paths: Paths) -> None:
    counted(paths)
    (found,) = json.loads(shell("wake", "report", "--json").out)
    assert (found["name"], found["hours"], found["undone"], found["false_per_hour_bound"]) == (
        "hey_jarvis", 6.0, 1, 0.7906,
    )  # fmt: skip


def test_a_broken_file_does_not_hide_the_others(shell: Shell, paths: Paths) -> None:
    counted(paths)
    broken: Path = paths.data / "wake" / "alexa@0.900.json"
    broken.write_text("{")
    assert "hey_jarvis" in shell("wake", "report").out
