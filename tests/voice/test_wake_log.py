"""What is counted of wake words, kept over restarts, and never lost to a broken file."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from assistant.voice.frames import FRAME_SECONDS, WakeHit
from assistant.voice.wake import WakeLog
from assistant.voice.wake_log import IDLE_SECONDS, SAVE_SECONDS, read_records


class Scores:
    """What the log asks the spotter."""

    def __init__(self, **thresholds: float) -> None:
        self.thresholds = thresholds or {"hey_jarvis": 0.97}
        self.highest = 0.0

    def strength(self, name: str) -> float:
        assert name in self.thresholds
        return self.highest


def kept(folder: Path, name: str = "hey_jarvis@0.970.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / name).read_text())
    return found


def wake(score: float = 0.98, name: str = "hey_jarvis") -> WakeHit:
    return WakeHit(name, score, accepted=True)


def near(score: float, name: str = "hey_jarvis") -> WakeHit:
    return WakeHit(name, score, accepted=False)


def test_everything_that_was_counted_is_in_one_small_file_a_detector(tmp_path: Path) -> None:
    log = WakeLog(tmp_path / "wake", Scores(hey_jarvis=0.97, alexa=0.9))
    log.add(near(0.7))
    log.listened(100)
    log.add(wake())
    log.listened(100)
    log.add(wake(0.991))
    log.undo("hey_jarvis")
    log.add(near(0.6, "alexa"))
    log.close()
    assert sorted(file.name for file in (tmp_path / "wake").iterdir()) == ["alexa@0.900.json", "hey_jarvis@0.970.json"]
    assert kept(tmp_path / "wake") == {
        "name": "hey_jarvis", "threshold": 0.97, "seconds": 200.0, "kept": {"0.980": 1}, "undone": {"0.991": 1},
        "near": {"0.700": 1}, "repeated": {}, "own": 0,
    }  # fmt: skip
    assert kept(tmp_path / "wake", "alexa@0.900.json")["near"] == {"0.600": 1}


def test_counting_goes_on_after_a_restart(tmp_path: Path) -> None:
    for _ in range(3):
        log = WakeLog(tmp_path, Scores())
        log.listened(50)
        log.add(wake())
        log.close()
    (record,) = read_records(tmp_path)
    assert (record.seconds, record.kept, record.wakes) == (150.0, {"0.980": 3}, 3)


def test_every_threshold_has_counts_of_its_own(tmp_path: Path) -> None:
    for threshold in (0.97, 0.9, 0.97):
        log = WakeLog(tmp_path, Scores(hey_jarvis=threshold))
        log.listened(10)
        log.close()
    assert {record.threshold: record.seconds for record in read_records(tmp_path)} == {0.97: 20.0, 0.9: 10.0}


def test_a_near_miss_that_is_repeated_at_once_was_meant(tmp_path: Path) -> None:
    log = WakeLog(tmp_path, Scores())
    log.add(near(0.6))
    log.listened(20)
    log.add(near(0.7))
    log.listened(3)
    log.add(wake())
    (record,) = log.records
    assert (record.near, record.repeated) == ({"0.600": 1}, {"0.700": 1})
    log.undo("hey_jarvis")
    assert (record.near, record.repeated, record.undone) == ({"0.600": 1, "0.700": 1}, {}, {"0.980": 1})


def test_the_highest_score_of_a_wake_is_known_after_it(tmp_path: Path) -> None:
    scores = Scores()
    log = WakeLog(tmp_path, scores)
    log.add(wake(0.971))
    scores.highest = 0.996
    log.listened(2)
    scores.highest = 0.999
    log.listened(5)
    assert log.records[0].kept == {"0.996": 1}
    log.add(wake(0.972))
    scores.highest = 0.985
    log.undo("hey_jarvis")
    assert (log.records[0].kept, log.records[0].undone) == ({"0.996": 1}, {"0.985": 1})


def test_a_wake_is_undone_once(tmp_path: Path) -> None:
    log = WakeLog(tmp_path, Scores())
    log.add(wake())
    log.undo("hey_jarvis")
    log.undo("hey_jarvis")
    log.undo("nobody")
    assert (log.records[0].kept, log.records[0].undone) == ({}, {"0.980": 1})


def test_the_assistants_own_words_are_no_near_misses(tmp_path: Path) -> None:
    log = WakeLog(tmp_path, Scores())
    log.add(WakeHit("hey_jarvis", 0.99, accepted=False, own=True))
    assert (log.records[0].near, log.records[0].own) == ({}, 1)


def test_it_is_written_once_a_minute_and_seldom_when_nothing_happens(tmp_path: Path) -> None:
    log = WakeLog(tmp_path, Scores())
    file = tmp_path / "hey_jarvis@0.970.json"
    log.listened(SAVE_SECONDS)
    assert not file.exists()
    log.listened(IDLE_SECONDS - SAVE_SECONDS)
    assert kept(tmp_path)["seconds"] == IDLE_SECONDS
    log.add(wake())
    log.listened(SAVE_SECONDS - 1)
    assert kept(tmp_path)["kept"] == {}
    log.listened(1)
    assert kept(tmp_path)["kept"] == {"0.980": 1}
    assert [one.name for one in tmp_path.iterdir()] == [file.name]


def test_hours_add_up_frame_by_frame(tmp_path: Path) -> None:
    log = WakeLog(tmp_path, Scores())
    for _ in range(36_000):
        log.listened(FRAME_SECONDS)
    assert log.records[0].seconds == pytest.approx(360.0)


@pytest.mark.parametrize("broken", [
    b"", b"{", b"\x00\xff", b"[]", b'{"name": "hey_jarvis"}', b'{"name": "alexa", "threshold": 0.9}',
    b'{"name": "hey_jarvis", "threshold": 0.97, "seconds": -1}',
    b'{"name": "hey_jarvis", "threshold": 0.97, "near": {"high": 1}}',
    b'{"name": "hey_jarvis", "threshold": 0.97, "near": {"0.900": -1}}',
])
def test_a_broken_file_is_set_aside_and_counting_begins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: bytes
) -> None:
    file = tmp_path / "hey_jarvis@0.970.json"
    file.write_bytes(broken)
    with caplog.at_level(logging.WARNING):
        log = WakeLog(tmp_path, Scores())
    assert "set aside as hey_jarvis@0.970.broken" in caplog.text
    assert file.with_suffix(".broken").read_bytes() == broken
    log.listened(5)
    log.close()
    assert kept(tmp_path)["seconds"] == 5.0


def test_a_folder_that_cannot_be_written_is_said_once_and_listening_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "wake").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        log = WakeLog(tmp_path / "wake", Scores())
        for _ in range(5):
            log.add(wake())
            log.listened(SAVE_SECONDS)
        log.close()
    assert caplog.text.count("cannot be written") == 1
    assert log.records[0].wakes == 5


def test_a_name_that_is_no_file_name_stays_in_the_folder(tmp_path: Path) -> None:
    log = WakeLog(tmp_path / "wake", Scores(**{"../x": 0.5}))
    log.close()
    assert [file.name for file in (tmp_path / "wake").iterdir()] == ["2e2e2f78@0.500.json"]
    assert [record.name for record in read_records(tmp_path / "wake")] == ["../x"]
