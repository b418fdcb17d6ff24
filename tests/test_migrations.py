"""The ordered steps of the schema."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from assistant.errors import StoreError
from assistant.migrations import MIGRATIONS, Migration, migrate
from assistant.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "assistant.db"


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def schema(db: sqlite3.Connection) -> list[tuple[str, str]]:
    return db.execute("SELECT type, name FROM sqlite_schema ORDER BY name").fetchall()


def version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def test_all_steps_run_on_an_empty_file_and_none_a_second_time(db: sqlite3.Connection, path: Path) -> None:
    assert migrate(db, path) == len(MIGRATIONS) == version(db)
    before = schema(db)
    assert {"sessions", "turns", "messages", "tool_calls", "messages_fts"} <= {name for _, name in before}
    assert migrate(db, path) == len(MIGRATIONS)
    assert schema(db) == before


def test_steps_are_numbered_in_their_order() -> None:
    assert [int(step.__name__.split("_")[1]) for step in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))


@pytest.mark.parametrize("done", range(len(MIGRATIONS)))
def test_a_file_from_any_older_version_ends_with_the_same_schema(path: Path, tmp_path: Path, done: int) -> None:
    fresh = tmp_path / "fresh.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        assert migrate(old, path, MIGRATIONS[:done]) == done
        migrate(old, path)
        with closing(sqlite3.connect(fresh, isolation_level=None)) as new:
            migrate(new, fresh)
            assert schema(old) == schema(new)


def test_what_was_written_before_the_index_of_words_is_found_after_it(db: sqlite3.Connection, path: Path) -> None:
    migrate(db, path, MIGRATIONS[:1])
    db.execute("INSERT INTO sessions VALUES ('aaaaaaaa', 'old', 'cli', 1, 1)")
    db.execute("INSERT INTO turns (id, session_id, source, started_at) VALUES ('t', 'aaaaaaaa', 'text', 1)")
    db.execute("INSERT INTO messages (session_id, turn_id, role, text, at) VALUES ('aaaaaaaa','t','user','pelican',1)")
    store = Store(path)
    store.load()
    assert [hit.snippet for hit in store.search("pelican", 5)] == ["[pelican]"]
    store.close()


def test_tool_calls_from_before_their_place_was_kept_are_read(db: sqlite3.Connection, path: Path) -> None:
    migrate(db, path, MIGRATIONS[:2])
    db.execute("INSERT INTO sessions VALUES ('aaaaaaaa', 'old', 'cli', 1, 1)")
    db.execute("INSERT INTO turns (id, session_id, source, started_at) VALUES ('t', 'aaaaaaaa', 'text', 1)")
    db.execute("INSERT INTO messages (session_id, turn_id, role, text, at) VALUES ('aaaaaaaa','t','user','add',1)")
    for identity in ("b", "t-intent"):
        row = (identity, "add", '{"a": 1}', "Two", 1, 0.5)
        columns = "turn_id, call_id, tool, arguments, result, ok, seconds"
        db.execute(f"INSERT INTO tool_calls ({columns}) VALUES ('t', ?, ?, ?, ?, ?, ?)", row)
    store = Store(path)
    store.load()
    (message,) = store.messages("aaaaaaaa")
    store.close()
    found = [(call.id, call.origin, call.round, call.place, call.text_before) for call in message.tool_calls]
    assert found == [("b", "model", 0, 0, 0), ("t-intent", "intent", 0, 0, 0)]
    assert (message.tool_calls[0].arguments, message.tool_calls[0].ok) == ({"a": 1}, True)


def test_a_step_that_fails_leaves_the_file_as_it_was_before_it(db: sqlite3.Connection, path: Path) -> None:
    def good(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE kept (x)")

    def bad(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE half (x)")
        db.execute("DROP TABLE kept")
        db.execute("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        migrate(db, path, [good, bad])
    assert version(db) == 1
    assert schema(db) == [("table", "kept")]
    assert not db.in_transaction


def test_a_step_that_another_process_runs_meanwhile_is_not_repeated(path: Path) -> None:
    inside, waiting = threading.Event(), threading.Event()
    ran: list[str] = []

    def step(db: sqlite3.Connection) -> None:
        ran.append(threading.current_thread().name)
        inside.set()
        assert waiting.wait(30)

    def late() -> None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as db:
            assert version(db) == 0
            db.set_trace_callback(lambda sql: waiting.set() if sql.startswith("BEGIN") else None)
            migrate(db, path, [step])

    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL").fetchall()
        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(_migrate_alone, path, step)
            assert inside.wait(30)
            second = threads.submit(late)
            assert (first.result(), second.result()) == (1, None)
        assert version(db) == 1
    assert len(ran) == 1


def _migrate_alone(path: Path, step: Migration) -> int:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        return migrate(db, path, [step])


def test_a_file_from_a_newer_version_is_refused_and_left_alone(db: sqlite3.Connection, path: Path) -> None:
    db.execute("CREATE TABLE future (x)")
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(StoreError, match=f"version {len(MIGRATIONS) + 1}") as caught:
        migrate(db, path)
    assert str(path) in caught.value.hint
    assert "upgrade" in caught.value.hint
    assert schema(db) == [("table", "future")]
