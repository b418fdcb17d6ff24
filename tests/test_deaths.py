"""Plugins that took the daemon along."""

from __future__ import annotations

from pathlib import Path

from assistant.plugins.deaths import LoadMarks


def test_a_start_that_died_is_counted_until_one_comes_through(tmp_path: Path) -> None:
    folder = tmp_path / "loading"
    LoadMarks(folder).begin("bad", "1.0")
    LoadMarks(folder).begin("bad", "1.0")
    assert LoadMarks(folder).deaths("bad", "1.0") == 2
    LoadMarks(folder).end("bad")
    assert LoadMarks(folder).deaths("bad", "1.0") == 0


def test_another_version_starts_anew(tmp_path: Path) -> None:
    marks = LoadMarks(tmp_path)
    marks.begin("bad", "1.0")
    assert marks.deaths("bad", "1.1") == 0
    assert marks.deaths("good", "1.0") == 0


def test_a_damaged_mark_or_a_folder_that_cannot_be_made_counts_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("x y z")
    assert LoadMarks(tmp_path).deaths("bad", "y z") == 0
    (tmp_path / "file").write_text("")
    marks = LoadMarks(tmp_path / "file" / "loading")
    marks.begin("bad", "1.0")
    marks.end("bad")
    assert marks.deaths("bad", "1.0") == 0
