"""The conversation store: SQLite in WAL mode, plain synchronous calls, used through the lane ``thread:store``.

Every commit is ``synchronous=FULL``, so what a method has written survives a killed process and a crashed system when
it returns. On macOS that is ``fsync``, which leaves the drive's own cache to the drive: after a power cut the last
moments may be missing, and ``checkpoint_fullfsync`` keeps the file itself whole.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from .errors import DiskFull, SessionNotFound, StoreError
from .events import ErrorInfo, TurnReason, TurnSource
from .migrations import migrate
from .wire import SearchHit, SessionInfo, StoredMessage, StoredToolCall

STORE = "store"
"""The key of the store on its lane."""

ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32 in lower case: no letter that reads like a digit."""
ID_LENGTH = 8
MIN_PREFIX = 4
"""Fewest characters of a conversation's id that stand for it."""
TITLE_LENGTH = 60
"""Characters of a title made from the first message."""
MAX_TITLE = 200
"""Characters of a title that somebody chose."""
BUSY_SECONDS = 5.0
"""How long another process may hold the file before a call fails."""
MAX_ROWS = 1_000_000
MAX_QUERY = 500
"""Characters of a search that are looked at."""
SNIPPET_TOKENS = 12
SNIPPET_CHARACTERS = 40
"""On either side of a match that was found without the index of words."""

_PRAGMAS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA wal_autocheckpoint = 256",
    "PRAGMA checkpoint_fullfsync = ON",
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON",
)
_INFO = """SELECT id, title, channel, created_at, updated_at,
    (SELECT count(*) FROM messages WHERE session_id = sessions.id) AS messages FROM sessions"""
_MESSAGE = """SELECT messages.id, turn_id, role, text, at, source, state, error
    FROM messages JOIN turns ON turns.id = turn_id WHERE messages.session_id = ?"""
_CALL = "turn_id, call_id, tool, arguments, result, ok, seconds, origin, round, place, text_before"
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_WITHOUT_SPACES = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")
"""Thai, Lao, Burmese, Khmer, kana and ideographs: the index of words takes a whole sentence for one word."""


class Store:
    """Conversations, their turns, messages and tool calls; not thread-safe, its lane is the lock.

    Where a conversation's id is taken, a unique prefix of at least four characters does. Every method raises
    ``DiskFull`` when there is no room left, and ``StoreError`` for whatever else is wrong with the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def load(self, model: Path | None = None) -> None:
        """Open the file, made with mode 0600 if it is missing, and bring its schema up to date.

        Raises:
            StoreError: the file is damaged, not a database, not readable, or from a newer version; it is left alone.
        """
        with self._explained():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            db = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
            try:
                db.row_factory = sqlite3.Row
                _write_ahead(db)
                for pragma in _PRAGMAS:
                    db.execute(pragma).fetchall()
                migrate(db, self._path)
            except BaseException:
                db.close()
                raise
        self._connection = db

    def close(self) -> None:
        """Close the file; closing twice is no error."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def create_session(self, channel: str, title: str) -> SessionInfo:
        """Begin a conversation; an empty title is filled in by the first message."""
        now = time.time()
        with self._transaction() as db:
            session_id = _new_id()
            while db.execute("SELECT 1 FROM sessions WHERE id = ?", (session_id,)).fetchone():
                session_id = _new_id()
            row = (session_id, one_line(title, MAX_TITLE), channel, now, now)
            db.execute("INSERT INTO sessions (id, title, channel, created_at, updated_at) VALUES (?, ?, ?, ?, ?)", row)
        return self.session(session_id)

    def session(self, session_id: str) -> SessionInfo:
        """One conversation.

        Raises:
            SessionNotFound: none, or more than one, has that id.
        """
        with self._reading() as db:
            return _info(db.execute(f"{_INFO} WHERE id = ?", (self._resolve(db, session_id),)).fetchone())

    def latest_session(self, channel: str, since: float) -> SessionInfo | None:
        """The conversation of a channel that was last used, if that was at ``since`` (Unix seconds) or later."""
        query = f"{_INFO} WHERE channel = ? AND updated_at >= ? ORDER BY updated_at DESC, rowid DESC LIMIT 1"
        with self._reading() as db:
            row = db.execute(query, (channel, since)).fetchone()
        return None if row is None else _info(row)

    def sessions(self, limit: int, offset: int) -> list[SessionInfo]:
        """Conversations, the one last used first."""
        query = f"{_INFO} ORDER BY updated_at DESC, rowid DESC LIMIT ? OFFSET ?"
        with self._reading() as db:
            return [_info(row) for row in db.execute(query, (_bounded(limit), _bounded(offset)))]

    def count(self) -> int:
        """How many conversations there are."""
        with self._reading() as db:
            return int(db.execute("SELECT count(*) FROM sessions").fetchone()[0])

    def rename(self, session_id: str, title: str) -> None:
        """Give a conversation another title; an empty one is filled in by the next message.

        Raises:
            SessionNotFound: none, or more than one, has that id.
        """
        with self._transaction() as db:
            row = (one_line(title, MAX_TITLE), self._resolve(db, session_id))
            db.execute("UPDATE sessions SET title = ? WHERE id = ?", row)

    def remove(self, session_id: str) -> None:
        """Delete a conversation and all that belongs to it; its words do not stay behind in the file.

        Raises:
            SessionNotFound: none, or more than one, has that id.
        """
        with self._transaction() as db:
            db.execute("DELETE FROM sessions WHERE id = ?", (self._resolve(db, session_id),))
        with suppress(sqlite3.Error):
            db.execute("INSERT INTO messages_fts (messages_fts) VALUES ('optimize')")
        _shrink(db)

    def begin_turn(self, session_id: str, turn_id: str, source: TurnSource, text: str = "") -> None:
        """Note that a turn runs; with ``text``, what the user said, it is written too, see ``add_user_message``.

        Raises:
            SessionNotFound: none, or more than one, has that id.
            StoreError: there is a turn of that id already.
        """
        now = time.time()
        with self._transaction() as db:
            session_id = self._resolve(db, session_id)
            if db.execute("SELECT 1 FROM turns WHERE id = ?", (turn_id,)).fetchone():
                raise StoreError(f"there is a turn {turn_id!r} already", hint="a client makes a new id for every turn")
            row = (turn_id, session_id, source, now)
            db.execute("INSERT INTO turns (id, session_id, source, started_at) VALUES (?, ?, ?, ?)", row)
            db.execute("UPDATE sessions SET updated_at = ? WHERE id = ?", (now, session_id))
            if text:
                _add_question(db, session_id, turn_id, text, now)

    def add_user_message(self, session_id: str, turn_id: str, text: str) -> int:
        """Write what the user said; it is on the disk on return.

        Returns: the message's id, which grows with every message.

        Raises:
            SessionNotFound: none, or more than one, has that id.
            StoreError: no such turn was begun in that conversation.
        """
        now = time.time()
        with self._transaction() as db:
            session_id = self._resolve(db, session_id)
            if not db.execute("SELECT 1 FROM turns WHERE id = ? AND session_id = ?", (turn_id, session_id)).fetchone():
                raise StoreError(f"conversation {session_id} has no turn {turn_id!r}", hint="begin the turn first")
            db.execute("UPDATE sessions SET updated_at = ? WHERE id = ?", (now, session_id))
            return _add_question(db, session_id, turn_id, text, now)

    def add_tool_call(self, turn_id: str, call: StoredToolCall) -> None:
        """Write a tool call; nothing happens if its conversation has been removed."""
        arguments = json.dumps(call.arguments, default=str)
        row = (
            turn_id, call.id, _text(call.tool), arguments, _text(call.result), call.ok, call.seconds, call.origin,
            call.round, call.place, call.text_before,
        )  # fmt: skip
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM turns WHERE id = ?", (turn_id,)).fetchone():
                db.execute(f"INSERT INTO tool_calls ({_CALL}) VALUES ({', '.join('?' * len(row))})", row)

    def finish_turn(
        self,
        turn_id: str,
        reason: TurnReason,
        text: str,
        error: ErrorInfo | None,
        timings: dict[str, float],
        prompt_tokens: int,
        output_tokens: int,
        cached_tokens: int = 0,
    ) -> None:
        """Write how a turn ended and its answer, also half of one; nothing happens if the turn does not run.

        Args:
            text: the answer. Without any, only a complete turn gets an assistant message.
            timings: seconds, see ``TurnFinished``.
        """
        now = time.time()
        details = None if error is None else msgspec.json.encode(error).decode()
        row = (reason, details, json.dumps(timings), prompt_tokens, output_tokens, cached_tokens, now, turn_id)
        with self._transaction() as db:
            updated = db.execute(
                """UPDATE turns SET state = ?, error = ?, timings = ?, prompt_tokens = ?, output_tokens = ?,
                cached_tokens = ?, finished_at = ? WHERE id = ? AND state = 'running' RETURNING session_id""",
                row,
            ).fetchall()
            for (session_id,) in updated:
                db.execute("UPDATE sessions SET updated_at = ? WHERE id = ?", (now, session_id))
                if text or reason == "complete":
                    _add_message(db, (session_id, turn_id, "assistant", _text(text), now))

    def messages(self, session_id: str) -> list[StoredMessage]:
        """All messages of a conversation, oldest first.

        The tool calls and the error of a turn are on its last message.

        Raises:
            SessionNotFound: none, or more than one, has that id.
        """
        with self._reading() as db:
            session_id = self._resolve(db, session_id)
            return _stored(db, db.execute(f"{_MESSAGE} ORDER BY messages.id", (session_id,)).fetchall())

    def recent(self, session_id: str, limit: int, but: str = "") -> list[StoredMessage]:
        """The last ``limit`` messages of a conversation, those of the turn ``but`` left out, oldest first; see
        ``messages``.

        Raises:
            SessionNotFound: none, or more than one, has that id.
        """
        with self._reading() as db:
            session_id = self._resolve(db, session_id)
            query = f"{_MESSAGE} AND turn_id != ? ORDER BY messages.id DESC LIMIT ?"
            return _stored(db, db.execute(query, (session_id, but, _bounded(limit))).fetchall()[::-1])

    def window(self, session_id: str, limit: int, turn_id: str) -> list[StoredMessage]:
        """At most ``limit`` messages before those of a turn that runs, stored or not, oldest first; see ``messages``.

        The oldest one stays the same while the conversation grows, until half of them make room at once: what a model
        has read of the beginning stays true for many turns.

        Raises:
            SessionNotFound: none, or more than one, has that id.
        """
        count = "SELECT count(*) FROM messages WHERE"
        with self._reading() as db:
            session_id = self._resolve(db, session_id)
            own = db.execute(f"{count} turn_id = ?", (turn_id,)).fetchone()[0]
            earlier = db.execute(f"{count} session_id = ?", (session_id,)).fetchone()[0] - own
        block = max(1, (limit + 1) // 2)
        left_out = max(0, -(-(earlier - limit) // block) * block)
        wanted = earlier - left_out
        return self.recent(session_id, wanted, turn_id) if wanted else []

    def search(self, query: str, limit: int) -> list[SearchHit]:
        """Messages that hold all the words of ``query``, or words beginning with them; the best match first.

        Case and accents do not matter, and nothing in the query has a meaning of its own. A query without a word (an
        emoji) or in a script without spaces is looked for as it is, the newest match first.
        """
        query = _CONTROLS.sub(" ", _text(query))[:MAX_QUERY].strip()
        words = [word for word in query.split() if any(map(str.isalnum, word))]
        with self._reading() as db:
            if not query:
                return []
            if not words or _WITHOUT_SPACES.search(query):
                return _search_text(db, query, _bounded(limit))
            return _search_words(db, words, _bounded(limit))

    def interrupted(self) -> int:
        """Mark the turns that still run as interrupted; called when no turn can be running.

        Returns: how many there were.
        """
        with self._transaction() as db:
            return db.execute("UPDATE turns SET state = 'interrupted' WHERE state = 'running'").rowcount

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        if self._connection is None:
            raise StoreError(f"the store {self._path} is not open", hint="load() it first")
        with self._explained():
            yield self._connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException as problem:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                if getattr(problem, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
                    _shrink(db)
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as problem:
            raise _explain(problem, self._path) from problem

    def _resolve(self, db: sqlite3.Connection, session_id: str) -> str:
        wanted = _text(session_id).strip().lower()
        if db.execute("SELECT 1 FROM sessions WHERE id = ?", (wanted,)).fetchone():
            return wanted
        if len(wanted) < MIN_PREFIX:
            hint = f"give at least {MIN_PREFIX} characters of the id of a conversation"
            raise SessionNotFound(f"no conversation has the id {session_id!r}", hint=hint)
        query = "SELECT id, title FROM sessions WHERE id BETWEEN ? AND ? || '~' ORDER BY id LIMIT 6"
        found = db.execute(query, (wanted, wanted)).fetchall()
        if not found:
            hint = "`assistant sessions list` shows the ids"
            raise SessionNotFound(f"no conversation has the id {session_id!r}", hint=hint)
        if len(found) > 1:
            several = ", ".join(f"{row['id']} ({row['title'] or 'untitled'})" for row in found[:5])
            hint = f"it may be {several}{' or others' if len(found) > 5 else ''}"
            raise SessionNotFound(f"more than one conversation has an id that begins with {session_id!r}", hint=hint)
        return str(found[0]["id"])


def one_line(text: str, length: int) -> str:
    """The first line of a text that has any, without control characters, cut to ``length`` characters."""
    lines = (" ".join(_CONTROLS.sub(" ", line).split()) for line in _text(text).splitlines())
    line = next(filter(None, lines), "")
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def _write_ahead(db: sqlite3.Connection) -> None:
    """Switch to a write-ahead log; while others switch the same new file, SQLite itself fails instead of waiting."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL").fetchall()
            return
        except sqlite3.OperationalError as problem:
            if problem.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _new_id() -> str:
    return "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH))


def _text(text: str) -> str:
    """The text with ``?`` for each lone surrogate, which UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode()


def _shrink(db: sqlite3.Connection) -> None:
    """Move what the write-ahead log holds into the file and empty the log; room that is needed when a disk is full."""
    with suppress(sqlite3.Error):
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _bounded(number: int) -> int:
    return max(0, min(number, MAX_ROWS))


def _info(row: sqlite3.Row) -> SessionInfo:
    return msgspec.convert(dict(row), SessionInfo)


def _add_question(db: sqlite3.Connection, session_id: str, turn_id: str, text: str, now: float) -> int:
    text = _text(text)
    title = one_line(text, TITLE_LENGTH)
    db.execute("UPDATE sessions SET title = ? WHERE id = ? AND title = ''", (title, session_id))
    return _add_message(db, (session_id, turn_id, "user", text, now))


def _add_message(db: sqlite3.Connection, row: tuple[str, str, str, str, float]) -> int:
    cursor = db.execute("INSERT INTO messages (session_id, turn_id, role, text, at) VALUES (?, ?, ?, ?, ?)", row)
    return cursor.lastrowid or 0


def _stored(db: sqlite3.Connection, rows: Sequence[sqlite3.Row]) -> list[StoredMessage]:
    calls = _tool_calls(db, sorted({row["turn_id"] for row in rows}))
    last = {row["turn_id"]: row["id"] for row in rows}
    found: list[StoredMessage] = []
    for row in rows:
        fields: dict[str, Any] = dict(row)
        is_last = last[row["turn_id"]] == row["id"]
        fields["error"] = msgspec.json.decode(row["error"], type=ErrorInfo) if row["error"] and is_last else None
        fields["tool_calls"] = tuple(calls.get(row["turn_id"], ())) if is_last else ()
        found.append(StoredMessage(**fields))
    return found


def _tool_calls(db: sqlite3.Connection, turns: list[str]) -> dict[str, list[StoredToolCall]]:
    found: dict[str, list[StoredToolCall]] = {}
    query = f"SELECT {_CALL} FROM tool_calls WHERE turn_id IN (SELECT value FROM json_each(?)) ORDER BY id"
    for row in db.execute(query, (json.dumps(turns),)):
        fields: dict[str, Any] = dict(row)
        turn_id, call_id = fields.pop("turn_id"), fields.pop("call_id")
        fields |= {"arguments": json.loads(row["arguments"]), "ok": bool(row["ok"])}
        found.setdefault(turn_id, []).append(StoredToolCall(id=call_id, **fields))
    for calls in found.values():
        calls.sort(key=lambda call: (call.round, call.place))
    return found


def _search_words(db: sqlite3.Connection, words: list[str], limit: int) -> list[SearchHit]:
    match = " ".join('"{}"*'.format(word.replace('"', '""')) for word in words)
    rows = db.execute(
        """SELECT messages.session_id, sessions.title, messages.id AS message_id, messages.role, messages.at,
            snippet(messages_fts, 0, '[', ']', '…', ?) AS snippet
        FROM messages_fts JOIN messages ON messages.id = messages_fts.rowid
            JOIN sessions ON sessions.id = messages.session_id
        WHERE messages_fts MATCH ? ORDER BY messages_fts.rank, messages.id DESC LIMIT ?""",
        (SNIPPET_TOKENS, match, limit),
    )
    return [SearchHit(**{**dict(row), "snippet": " ".join(row["snippet"].split())}) for row in rows]


def _search_text(db: sqlite3.Connection, query: str, limit: int) -> list[SearchHit]:
    rows = db.execute(
        """SELECT messages.session_id, sessions.title, messages.id AS message_id, messages.role, messages.at,
            messages.text AS snippet
        FROM messages JOIN sessions ON sessions.id = messages.session_id
        WHERE instr(messages.text, ?) ORDER BY messages.id DESC LIMIT ?""",
        (query, limit),
    )
    return [SearchHit(**{**dict(row), "snippet": _snippet(row["snippet"], query)}) for row in rows]


def _snippet(text: str, query: str) -> str:
    start = text.index(query)
    end = start + len(query)
    before = text[max(0, start - SNIPPET_CHARACTERS) : start]
    after = text[end : end + SNIPPET_CHARACTERS]
    head = "…" if start > SNIPPET_CHARACTERS else ""
    tail = "…" if len(text) > end + SNIPPET_CHARACTERS else ""
    return " ".join(f"{head}{before}[{query}]{after}{tail}".split())


def _explain(problem: sqlite3.Error | OSError, path: Path) -> StoreError:
    code = getattr(problem, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL or _no_room(problem, code, path):
        hint = f"free some space on the disk of {path.parent}"
        return DiskFull(f"there is no room left to write to {path}", hint=hint)
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        hint = f"move {path} away to begin anew, or put a copy in its place; nothing deletes it"
        return StoreError(f"the store {path} is damaged or not a database: {problem}", hint=hint)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(f"another program keeps the store {path} locked", hint="close that program and try again")
    if isinstance(problem, OSError) or code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        hint = f"check that you may read and write {path} and its folder"
        return StoreError(f"the store {path} cannot be opened: {problem}", hint=hint)
    return StoreError(f"the store {path} failed: {problem}", hint="check the disk, then restart the assistant")


def _no_room(problem: sqlite3.Error | OSError, code: int, path: Path) -> bool:
    """Whether a full disk or quota is behind an error by which SQLite does not say so."""
    if isinstance(problem, OSError):
        return problem.errno in (errno.ENOSPC, errno.EDQUOT)
    if code not in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
        return False
    with suppress(OSError):
        return shutil.disk_usage(path.parent).free < 1 << 16
    return False
