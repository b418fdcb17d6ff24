"""The schema of the store, as ordered steps.

``PRAGMA user_version`` counts the steps that a file has been through. A step, once released, never changes: what
comes later is another step at the end of ``MIGRATIONS``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import StoreError

Migration = Callable[[sqlite3.Connection], None]
"""One step; it runs inside a transaction that also counts it, so it must not commit."""


def _1_conversations(db: sqlite3.Connection) -> None:
    _run(
        db,
        """CREATE TABLE sessions (
            id TEXT PRIMARY KEY NOT NULL,
            title TEXT NOT NULL,
            channel TEXT NOT NULL,
            created_at REAL NOT NULL,
            updated_at REAL NOT NULL
        )""",
        "CREATE INDEX sessions_by_update ON sessions (updated_at)",
        "CREATE INDEX sessions_by_channel ON sessions (channel, updated_at)",
        """CREATE TABLE turns (
            id TEXT PRIMARY KEY NOT NULL,
            session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
            source TEXT NOT NULL CHECK (source IN ('text', 'voice', 'api')),
            state TEXT NOT NULL DEFAULT 'running'
                CHECK (state IN ('running', 'complete', 'cancelled', 'failed', 'interrupted')),
            error TEXT,
            timings TEXT NOT NULL DEFAULT '{}',
            prompt_tokens INTEGER NOT NULL DEFAULT 0,
            output_tokens INTEGER NOT NULL DEFAULT 0,
            started_at REAL NOT NULL,
            finished_at REAL
        )""",
        "CREATE INDEX turns_by_session ON turns (session_id)",
        "CREATE INDEX turns_running ON turns (state) WHERE state = 'running'",
        """CREATE TABLE messages (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
            turn_id TEXT NOT NULL REFERENCES turns (id) ON DELETE CASCADE,
            role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
            text TEXT NOT NULL,
            at REAL NOT NULL
        )""",
        "CREATE INDEX messages_by_session ON messages (session_id, id)",
        "CREATE INDEX messages_by_turn ON messages (turn_id)",
        """CREATE TABLE tool_calls (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            turn_id TEXT NOT NULL REFERENCES turns (id) ON DELETE CASCADE,
            call_id TEXT NOT NULL,
            tool TEXT NOT NULL,
            arguments TEXT NOT NULL,
            result TEXT NOT NULL,
            ok INTEGER NOT NULL,
            seconds REAL NOT NULL
        )""",
        "CREATE INDEX tool_calls_by_turn ON tool_calls (turn_id)",
    )


def _2_search(db: sqlite3.Connection) -> None:
    _run(
        db,
        """CREATE VIRTUAL TABLE messages_fts USING fts5 (
            text, content='messages', content_rowid='id', tokenize='unicode61 remove_diacritics 2'
        )""",
        """CREATE TRIGGER messages_inserted AFTER INSERT ON messages BEGIN
            INSERT INTO messages_fts (rowid, text) VALUES (new.id, new.text);
        END""",
        """CREATE TRIGGER messages_deleted AFTER DELETE ON messages BEGIN
            INSERT INTO messages_fts (messages_fts, rowid, text) VALUES ('delete', old.id, old.text);
        END""",
        """CREATE TRIGGER messages_updated AFTER UPDATE OF text ON messages BEGIN
            INSERT INTO messages_fts (messages_fts, rowid, text) VALUES ('delete', old.id, old.text);
            INSERT INTO messages_fts (rowid, text) VALUES (new.id, new.text);
        END""",
        "INSERT INTO messages_fts (messages_fts) VALUES ('rebuild')",
    )


def _3_prompts(db: sqlite3.Connection) -> None:
    _run(
        db,
        "ALTER TABLE tool_calls ADD COLUMN origin TEXT NOT NULL DEFAULT 'model' CHECK (origin IN ('intent', 'model'))",
        "ALTER TABLE tool_calls ADD COLUMN round INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE tool_calls ADD COLUMN place INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE tool_calls ADD COLUMN text_before INTEGER NOT NULL DEFAULT 0",
        "UPDATE tool_calls SET origin = 'intent' WHERE call_id LIKE '%-intent'",
        "ALTER TABLE turns ADD COLUMN cached_tokens INTEGER NOT NULL DEFAULT 0",
    )


MIGRATIONS: tuple[Migration, ...] = (_1_conversations, _2_search, _3_prompts)
"""All steps, in order; the number of a step is its place, beginning at 1."""


def migrate(db: sqlite3.Connection, path: Path, steps: Sequence[Migration] = MIGRATIONS) -> int:
    """Bring a database up to date, each step in a transaction of its own.

    Args:
        db: a connection in autocommit mode (``isolation_level=None``).
        path: the file, for the words of an error.
        steps: every step there is, not only those that are missing.

    Returns: the version that the file has now.

    Raises:
        StoreError: the file was written by a newer version of the assistant; it is left as it is.
        sqlite3.Error: a step failed; the file is as it was before that step.
    """
    while (version := _version(db)) < len(steps):
        db.execute("BEGIN IMMEDIATE")
        try:
            if _version(db) == version:
                steps[version](db)
                db.execute(f"PRAGMA user_version = {version + 1}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    if version > len(steps):
        raise StoreError(
            f"the store {path} has version {version}, but this assistant only knows versions up to {len(steps)}",
            hint=f"a newer assistant wrote it: upgrade this one, or move {path} away to begin anew",
        )
    return version


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _run(db: sqlite3.Connection, *statements: str) -> None:
    for statement in statements:
        db.execute(statement)
