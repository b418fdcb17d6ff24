"""The conversation store, on real files."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from assistant.errors import DiskFull, SessionNotFound, StoreError
from assistant.events import ErrorInfo, TurnReason
from assistant.store import ID_ALPHABET, Store
from assistant.wire import SessionInfo, StoredMessage, StoredToolCall

HARD_QUERIES = [
    "", " ", "\x00", 'pelican"', '"', '""', "'", "pelican'", "AND", "OR", "NOT", "pelican AND", "NEAR(", "NEAR/2",
    "(", ")", "*", "pel*", "^pelican", "text:pelican", "-pelican", "+", "a:b:c", "{a b}", "\\", "%", "_", ";--", "👍",
    "👩‍👩‍👧", "\ud800", "天気", "\u0301", "\x1b[2J", "a" * 100_000, "a " * 50_000, '" OR "' * 1000,
    "pelican\x00pelican",
]  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "assistant.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(path)
    store.load()
    yield store
    store.close()


def connection(store: Store) -> sqlite3.Connection:
    """The store's own connection, for what SQLite keeps per connection."""
    assert store._connection is not None
    return store._connection


def other_connection(path: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(path, isolation_level=None))


def ask(store: Store, session: SessionInfo, turn: str, text: str) -> int:
    store.begin_turn(session.id, turn, "text")
    return store.add_user_message(session.id, turn, text)


def finish(
    store: Store, turn: str, text: str = "", reason: TurnReason = "complete", error: ErrorInfo | None = None
) -> None:
    store.finish_turn(turn, reason, text, error, {"total": 0.5}, 7, 3)


def tool_call(**arguments: object) -> StoredToolCall:
    return StoredToolCall(id="c1", tool="set_timer", arguments=arguments, result="Set.", ok=True, seconds=0.25)


def said(messages: list[StoredMessage]) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in messages]


# conversations


def test_a_conversation_has_a_short_id_of_safe_characters(store: Store) -> None:
    ids = {store.create_session("cli", "").id for _ in range(50)}
    assert len(ids) == store.count() == 50
    assert all(len(one) == 8 and set(one) <= set(ID_ALPHABET) for one in ids)


def test_a_new_conversation_is_empty_and_keeps_its_channel_and_title(store: Store) -> None:
    info = store.create_session("tui", "Eggs")
    assert store.session(info.id) == info
    assert (info.channel, info.title, info.messages) == ("tui", "Eggs", 0)
    assert info.created_at == info.updated_at
    assert store.messages(info.id) == store.recent(info.id, 5) == []


def test_the_one_last_used_comes_first_and_pages_do_not_overlap(store: Store) -> None:
    made = [store.create_session("cli", str(number)) for number in range(5)]
    ask(store, made[1], "t1", "hello")
    order = [1, 4, 3, 2, 0]
    assert [one.id for one in store.sessions(10, 0)] == [made[index].id for index in order]
    assert [one.title for page in range(3) for one in store.sessions(2, 2 * page)] == ["1", "4", "3", "2", "0"]


@pytest.mark.parametrize(("limit", "offset", "found"), [(0, 0, 0), (-1, 0, 0), (10**30, 0, 2), (5, -9, 2), (5, 99, 0)])
def test_any_page_is_a_safe_page(store: Store, limit: int, offset: int, found: int) -> None:
    for _ in range(2):
        store.create_session("cli", "")
    assert len(store.sessions(limit, offset)) == found


def test_the_latest_conversation_of_a_channel_if_it_is_recent(store: Store) -> None:
    store.create_session("cli", "old")
    newest = store.create_session("cli", "new")
    store.create_session("voice", "other")
    assert store.latest_session("cli", newest.updated_at) == newest
    assert store.latest_session("cli", newest.updated_at + 1) is None
    assert store.latest_session("api", 0) is None


def test_every_use_makes_a_conversation_the_latest(store: Store) -> None:
    first, second = store.create_session("cli", ""), store.create_session("cli", "")
    for step in (
        lambda: store.begin_turn(first.id, "t1", "text"),
        lambda: store.add_user_message(first.id, "t1", "hi"),
        lambda: finish(store, "t1", "hello"),
    ):
        store.begin_turn(second.id, os.urandom(8).hex(), "text")
        step()
        latest = store.latest_session("cli", 0)
        assert latest is not None
        assert latest.id == first.id


def test_rename_keeps_one_clean_line_and_does_not_count_as_use(store: Store) -> None:
    info = store.create_session("cli", "")
    store.rename(info.id, "  Boiled\x1b[2J  eggs\nand more")
    renamed = store.session(info.id)
    assert renamed.title == "Boiled [2J eggs"
    assert renamed.updated_at == info.updated_at


def test_the_first_message_titles_an_untitled_conversation_only(store: Store) -> None:
    untitled, titled = store.create_session("cli", ""), store.create_session("cli", "Mine")
    for number, text in enumerate(["\n  What is\ta pelican? \nIt matters.", "second"]):
        ask(store, untitled, f"u{number}", text)
        ask(store, titled, f"t{number}", text)
    assert store.session(untitled.id).title == "What is a pelican?"
    assert store.session(titled.id).title == "Mine"


def test_a_long_first_line_is_cut_to_sixty_characters(store: Store) -> None:
    info = store.create_session("cli", "")
    ask(store, info, "t", "pelican " * 20)
    title = store.session(info.id).title
    assert title == ("pelican " * 20)[:59].rstrip() + "…"
    exact = store.create_session("cli", "")
    ask(store, exact, "t2", "x" * 60)
    assert store.session(exact.id).title == "x" * 60


# ids and prefixes


def with_ids(path: Path, store: Store, *ids: str) -> None:
    for wanted in ids:
        made = store.create_session("cli", f"title of {wanted}")
        with other_connection(path) as db:
            db.execute("UPDATE sessions SET id = ? WHERE id = ?", (wanted, made.id))


def test_a_unique_prefix_stands_for_the_id_everywhere(path: Path, store: Store) -> None:
    with_ids(path, store, "abcd2345", "abce2345")
    assert store.session("abcd").id == store.session(" ABCD23 ").id == "abcd2345"
    store.rename("abcd", "renamed")
    store.begin_turn("abcd", "t1", "voice")
    store.add_user_message("abcd", "t1", "hello")
    finish(store, "t1", "hi")
    assert said(store.messages("abcd")) == said(store.recent("abcd", 9)) == [("user", "hello"), ("assistant", "hi")]
    store.remove("abcd")
    assert [one.id for one in store.sessions(9, 0)] == ["abce2345"]


def test_an_ambiguous_prefix_names_the_candidates(path: Path, store: Store) -> None:
    with_ids(path, store, "abcd2345", "abcd6789")
    with pytest.raises(SessionNotFound, match="more than one") as caught:
        store.session("abcd")
    assert "abcd2345 (title of abcd2345), abcd6789 (title of abcd6789)" in caught.value.hint
    with_ids(path, store, *(f"abcd000{number}" for number in range(5)))
    with pytest.raises(SessionNotFound, match="more than one") as caught:
        store.remove("abcd")
    assert caught.value.hint.endswith("or others")
    assert store.count() == 7


@pytest.mark.parametrize("wanted", ["", "abc", "zzzz", "abcd23456", "%%%%", "____", "abc~", "' OR 1", "\ud800bcd"])
def test_an_id_that_nobody_has(path: Path, store: Store, wanted: str) -> None:
    with_ids(path, store, "abcd2345")
    for method in (store.session, store.messages, store.remove):
        with pytest.raises(SessionNotFound, match="no conversation has the id") as caught:
            method(wanted)
        assert caught.value.hint
    with pytest.raises(SessionNotFound):
        store.begin_turn(wanted, "t1", "text")
    with pytest.raises(SessionNotFound):
        store.add_user_message(wanted, "t1", "hi")
    assert store.count() == 1


# turns


def test_a_whole_turn_comes_back_as_it_was(store: Store) -> None:
    info = store.create_session("cli", "")
    store.begin_turn(info.id, "t1", "voice")
    first = store.add_user_message(info.id, "t1", "ünïcode 👍\x00 and\nlines")
    calls = [tool_call(minutes=10, nested={"a": [1, None, 2.5]}), tool_call(big=10**30)]
    for call in calls:
        store.add_tool_call("t1", call)
    finish(store, "t1", "Done.")
    user, answer = store.messages(info.id)
    assert (user.id, user.turn_id, user.role, user.text) == (first, "t1", "user", "ünïcode 👍\x00 and\nlines")
    assert (user.state, user.source, user.tool_calls, user.error) == ("complete", "voice", (), None)
    assert (answer.role, answer.text, answer.state, answer.source) == ("assistant", "Done.", "complete", "voice")
    assert answer.tool_calls == tuple(calls)
    assert info.created_at <= user.at <= answer.at == store.session(info.id).updated_at
    assert store.session(info.id).messages == 2


def test_timings_and_tokens_are_kept(path: Path, store: Store) -> None:
    ask(store, store.create_session("cli", ""), "t1", "hi")
    finish(store, "t1", "hello")
    with other_connection(path) as db:
        columns = "timings, prompt_tokens, output_tokens, finished_at >= started_at"
        row = db.execute(f"SELECT {columns} FROM turns").fetchone()
    assert (json.loads(row[0]), *row[1:]) == ({"total": 0.5}, 7, 3, 1)


def test_a_running_turn_shows_its_tool_calls_on_the_question(store: Store) -> None:
    info = store.create_session("cli", "")
    ask(store, info, "t1", "hi")
    store.add_tool_call("t1", tool_call())
    (message,) = store.messages(info.id)
    assert (message.state, message.tool_calls) == ("running", (tool_call(),))


def test_half_an_answer_is_kept_with_the_way_it_ended(store: Store) -> None:
    info = store.create_session("cli", "")
    error = ErrorInfo(code="engine_crashed", message="died", hint="wait", permanent=False)
    ask(store, info, "t1", "one")
    finish(store, "t1", "half", "cancelled")
    ask(store, info, "t2", "two")
    finish(store, "t2", "hal", "failed", error)
    assert [(m.text, m.state, m.error) for m in store.messages(info.id)] == [
        ("one", "cancelled", None), ("half", "cancelled", None), ("two", "failed", None), ("hal", "failed", error),
    ]  # fmt: skip


@pytest.mark.parametrize("reason", ["cancelled", "failed"])
def test_without_any_answer_the_question_carries_the_end(store: Store, reason: TurnReason) -> None:
    info = store.create_session("cli", "")
    error = ErrorInfo(code="model", message="no model")
    ask(store, info, "t1", "hi")
    store.add_tool_call("t1", tool_call())
    finish(store, "t1", "", reason, error)
    (message,) = store.messages(info.id)
    assert (message.role, message.state, message.error, message.tool_calls) == ("user", reason, error, (tool_call(),))


def test_a_complete_turn_without_words_still_has_its_answer(store: Store) -> None:
    info = store.create_session("cli", "")
    ask(store, info, "t1", "hi")
    finish(store, "t1")
    assert said(store.messages(info.id)) == [("user", "hi"), ("assistant", "")]


def test_a_turn_that_failed_before_its_words_were_known_leaves_no_message(store: Store) -> None:
    info = store.create_session("voice", "")
    store.begin_turn(info.id, "t1", "voice")
    finish(store, "t1", "", "failed", ErrorInfo(code="audio", message="no speech"))
    assert store.messages(info.id) == []
    assert store.interrupted() == 0


def test_a_turn_finishes_once(store: Store) -> None:
    info = store.create_session("cli", "")
    ask(store, info, "t1", "hi")
    finish(store, "t1", "first")
    finish(store, "t1", "second", "failed")
    assert said(store.messages(info.id)) == [("user", "hi"), ("assistant", "first")]
    assert store.messages(info.id)[1].state == "complete"


def test_a_turn_id_is_used_once_and_a_message_needs_its_turn(store: Store) -> None:
    one, two = store.create_session("cli", ""), store.create_session("cli", "")
    store.begin_turn(one.id, "t1", "text")
    with pytest.raises(StoreError, match="already"):
        store.begin_turn(two.id, "t1", "text")
    for session, turn in ((two, "t1"), (one, "never begun")):
        with pytest.raises(StoreError, match="has no turn"):
            store.add_user_message(session.id, turn, "hi")
    assert store.messages(one.id) == store.messages(two.id) == []


def test_recent_is_the_tail_oldest_first(store: Store) -> None:
    info = store.create_session("cli", "")
    for number in range(5):
        ask(store, info, f"t{number}", f"q{number}")
        store.add_tool_call(f"t{number}", tool_call(n=number))
        finish(store, f"t{number}", f"a{number}")
    tail = store.recent(info.id, 3)
    assert said(tail) == [("assistant", "a3"), ("user", "q4"), ("assistant", "a4")]
    assert tail == store.messages(info.id)[-3:]
    assert store.recent(info.id, 0) == store.recent(info.id, -1) == []


def test_tool_calls_come_in_the_order_in_which_they_were_asked_for(store: Store) -> None:
    info = store.create_session("cli", "")
    ask(store, info, "t0", "q")
    asked = [
        StoredToolCall(
            id=f"{number}{place}", tool="add", arguments={"b": 1, "a": [None, 0.5]}, result="", ok=place == 0,
            seconds=0.0, origin="intent" if number else "model", round=number, place=place, text_before=7 * number,
        )
        for number in range(2) for place in range(2)
    ]
    for call in reversed(asked):
        store.add_tool_call("t0", call)
    finish(store, "t0", "a")
    assert list(store.messages(info.id)[-1].tool_calls) == asked
    assert list(asked[0].arguments) == list(store.messages(info.id)[-1].tool_calls[0].arguments)


def test_lone_surrogates_are_stored_as_question_marks(store: Store) -> None:
    info = store.create_session("cli", "a\ud800b")
    ask(store, info, "t1", "q\udcff")
    store.add_tool_call("t1", tool_call(name="\ud800"))
    finish(store, "t1", "a\udcff")
    assert info.title == "a?b"
    assert said(store.messages(info.id)) == [("user", "q?"), ("assistant", "a?")]


# removal


def test_what_goes_on_after_the_conversation_was_removed_is_ignored(store: Store) -> None:
    info = store.create_session("cli", "")
    ask(store, info, "t1", "hi")
    store.remove(info.id)
    store.add_tool_call("t1", tool_call())
    finish(store, "t1", "late answer")
    assert store.count() == store.interrupted() == 0
    assert store.search("late", 5) == []
    with pytest.raises(SessionNotFound):
        store.add_user_message(info.id, "t1", "hi")


def test_remove_takes_everything_and_leaves_no_word_in_the_files(path: Path, store: Store) -> None:
    gone, kept = store.create_session("cli", ""), store.create_session("cli", "")
    for number in range(30):
        ask(store, gone, f"g{number}", f"zebracrossing {number} " * 30)
        store.add_tool_call(f"g{number}", tool_call(secret="zebraargument"))
        finish(store, f"g{number}", "zebraanswer")
    ask(store, kept, "k1", "pelican")
    store.remove(gone.id)
    assert store.search("zebracrossing", 5) == []
    assert [hit.session_id for hit in store.search("pelican", 5)] == [kept.id]
    with other_connection(path) as db:
        counts = [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("turns", "tool_calls")]
        assert counts == [1, 0]
        db.execute("INSERT INTO messages_fts (messages_fts, rank) VALUES ('integrity-check', 1)")
    files = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"pelican" in files
    assert b"zebra" not in files


# search


@pytest.fixture
def library(store: Store) -> Store:
    info = store.create_session("cli", "Birds")
    ask(store, info, "t1", "What does the Pelican eat?")
    finish(store, "t1", "Pelicans eat fish.\nA café in Zürich (C++, 50%_off) isn't for them 👍")
    other = store.create_session("cli", "Weather")
    ask(store, other, "t2", "今日の天気はどうですか")
    finish(store, "t2", "Sunny, says the pelican")
    return store


@pytest.mark.parametrize(
    ("query", "snippets"),
    [
        ("pelican eat", ["What does the [Pelican] [eat]?", "[Pelicans] [eat] fish. A café in Zürich"]),
        ("FISH pel", ["[Pelicans] eat [fish]. A café in Zürich"]),
        ("zurich cafe", ["[café] in [Zürich]"]),
        ("isn't", ["[isn't] for them"]),
        ("elican", []),
        ("pelican giraffe", []),
        ("天気", ["今日の[天気]はどうですか"]),
        ("👍", ["[👍]"]),
        ("%_", ["50[%_]off"]),
        ("fish 👍", ["[fish]"]),
    ],
)
def test_search_finds_all_words_by_their_beginnings(library: Store, query: str, snippets: list[str]) -> None:
    hits = library.search(query, 10)
    assert len(hits) == len(snippets)
    for wanted in snippets:
        assert any(wanted in hit.snippet for hit in hits), [hit.snippet for hit in hits]


def test_a_hit_says_where_it_is(library: Store) -> None:
    (hit,) = library.search("sunny", 10)
    message = library.messages(hit.session_id)[1]
    assert (hit.title, hit.role, hit.message_id, hit.at) == ("Weather", "assistant", message.id, message.at)
    assert hit.snippet == "[Sunny], says the pelican"
    assert len(library.search("pelican", 2)) == 2
    assert library.search("pelican", 0) == library.search("pelican", -1) == []


def test_the_best_match_comes_first_and_of_equals_the_newest(store: Store) -> None:
    info = store.create_session("cli", "")
    texts = ["a heron, " + "and much else " * 20, "heron", "heron heron", "heron", "unrelated"]
    ids = [ask(store, info, f"t{number}", text) for number, text in enumerate(texts)]
    assert [hit.message_id for hit in store.search("heron", 10)] == [ids[index] for index in (2, 3, 1, 0)]


@pytest.mark.parametrize("query", HARD_QUERIES, ids=ascii)
def test_no_query_has_a_meaning_of_its_own(library: Store, query: str) -> None:
    hits = library.search(query, 10)
    assert len(hits) <= 4
    if not query.strip():
        assert hits == []
    assert len(library.search("pelican", 10)) == 3


@pytest.mark.parametrize("text", HARD_QUERIES, ids=ascii)
def test_any_message_is_stored_and_does_not_hurt_the_index(store: Store, text: str) -> None:
    info = store.create_session("cli", "")
    ask(store, info, "t1", f"{text} needle")
    assert [hit.session_id for hit in store.search("needle", 5)] == [info.id]
    store.remove(info.id)
    assert store.search("needle", 5) == []


def test_a_long_text_found_without_words_is_cut_around_the_match(store: Store) -> None:
    ask(store, store.create_session("cli", ""), "t1", "a" * 100 + "👍" + "b" * 100)
    assert store.search("👍", 5)[0].snippet == "…" + "a" * 40 + "[👍]" + "b" * 40 + "…"


# the file


def test_what_was_written_is_there_after_closing(path: Path, store: Store) -> None:
    info = store.create_session("cli", "")
    ask(store, info, "t1", "hi")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="not open"):
        store.count()
    again = Store(path)
    again.load()
    assert said(again.messages(info.id)) == [("user", "hi")]
    again.close()


def test_the_file_is_private_and_durable(path: Path, store: Store) -> None:
    store.create_session("cli", "")
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    pragmas = ["journal_mode", "synchronous", "foreign_keys", "busy_timeout", "secure_delete"]
    values = [connection(store).execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]
    assert values == ["wal", 2, 1, 5000, 1]


KILLED = """
import os, signal, sys
from pathlib import Path
from assistant.store import Store
store = Store(Path(sys.argv[1]))
store.load()
session = store.create_session("cli", "")
store.begin_turn(session.id, "t1", "text")
store.add_user_message(session.id, "t1", "remember the pelican")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_users_message_survives_a_killed_process_and_its_turn_is_interrupted(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    store = Store(path)
    store.load()
    (session,) = store.sessions(5, 0)
    assert [(m.text, m.state) for m in store.messages(session.id)] == [("remember the pelican", "running")]
    assert store.interrupted() == 1
    assert [(m.text, m.state) for m in store.messages(session.id)] == [("remember the pelican", "interrupted")]
    assert store.interrupted() == 0
    finish(store, "t1", "too late")
    assert len(store.messages(session.id)) == 1
    assert [hit.session_id for hit in store.search("pelican", 5)] == [session.id]
    store.close()


def test_interrupted_leaves_finished_turns_alone(store: Store) -> None:
    info = store.create_session("cli", "")
    ask(store, info, "t1", "one")
    finish(store, "t1", "done")
    for turn in ("t2", "t3"):
        ask(store, info, turn, "more")
    assert store.interrupted() == 2
    assert [m.state for m in store.messages(info.id)] == ["complete", "complete", "interrupted", "interrupted"]


def test_a_full_disk_says_so_and_keeps_what_there_was(path: Path, store: Store) -> None:
    info = store.create_session("cli", "")
    ask(store, info, "t1", "kept")
    pages = connection(store).execute("PRAGMA page_count").fetchone()[0]
    connection(store).execute(f"PRAGMA max_page_count = {pages}").fetchall()
    store.begin_turn(info.id, "t2", "text")
    with pytest.raises(DiskFull, match="no room") as caught:
        store.add_user_message(info.id, "t2", os.urandom(100_000).hex())
    assert str(path) in caught.value.message
    assert str(path.parent) in caught.value.hint
    assert not caught.value.permanent
    assert path.with_name(f"{path.name}-wal").stat().st_size == 0
    with pytest.raises(DiskFull):
        finish(store, "t2", os.urandom(100_000).hex())
    assert said(store.messages(info.id)) == [("user", "kept")]
    connection(store).execute("PRAGMA max_page_count = 100000").fetchall()
    store.add_user_message(info.id, "t2", "after")
    finish(store, "t2", "fine")
    assert said(store.messages(info.id)) == [("user", "kept"), ("user", "after"), ("assistant", "fine")]


@pytest.mark.parametrize("content", [b"not a database, just text\n" * 200, b"SQLite format 3\x00" + b"\xff" * 8000])
def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "assistant.db"
    path.write_bytes(content)
    store = Store(path)
    with pytest.raises(StoreError, match="damaged or not a database") as caught:
        store.load()
    assert str(path) in caught.value.message
    assert f"move {path} away" in caught.value.hint
    assert path.read_bytes() == content
    with pytest.raises(StoreError, match="not open"):
        store.count()


def test_a_page_that_was_damaged_is_found_when_it_is_read(path: Path, store: Store) -> None:
    info = store.create_session("cli", "")
    for number in range(100):
        ask(store, info, f"t{number}", "pelican " * 200)
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + b"\xaa" * (len(whole) - len(whole) // 2))
    store.load()
    with pytest.raises(StoreError, match="damaged") as caught:
        store.messages(info.id)
    assert f"move {path} away" in caught.value.hint


def test_a_file_from_a_newer_version_is_refused_and_left_alone(path: Path, store: Store) -> None:
    store.create_session("cli", "")
    store.close()
    with other_connection(path) as db:
        db.execute("PRAGMA user_version = 999")
    with pytest.raises(StoreError, match="version 999"):
        store.load()
    with other_connection(path) as db:
        assert db.execute("SELECT count(*) FROM sessions").fetchone() == (1,)


def test_a_path_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened") as caught:
        Store(tmp_path).load()
    assert str(tmp_path) in caught.value.hint
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(tmp_path / "file" / "assistant.db").load()


def test_a_locked_file_is_told_from_a_broken_one(path: Path, store: Store) -> None:
    connection(store).execute("PRAGMA busy_timeout = 1").fetchall()
    with other_connection(path) as db:
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            store.create_session("cli", "")
        assert store.count() == 0
        db.execute("ROLLBACK")
    store.create_session("cli", "")


def test_several_stores_open_a_new_file_at_once_and_write_to_it(path: Path) -> None:
    start = threading.Barrier(4)

    def work(number: int) -> None:
        store = Store(path)
        start.wait()
        store.load()
        for turn in range(5):
            ask(store, store.create_session("cli", ""), f"{number}-{turn}", "hello")
        store.close()

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, range(4))) == [None] * 4
    store = Store(path)
    store.load()
    assert (store.count(), len(store.search("hello", 99)), store.interrupted()) == (20, 20, 20)
    store.close()


# size


@pytest.fixture
def long_conversation(path: Path, store: Store) -> SessionInfo:
    """10,000 messages, written in one go."""
    info = store.create_session("cli", "Long")
    with other_connection(path) as db:
        db.execute("BEGIN")
        turns = [(f"t{number}", info.id, "text", "complete", 1.0) for number in range(5000)]
        db.executemany("INSERT INTO turns (id, session_id, source, state, started_at) VALUES (?, ?, ?, ?, ?)", turns)
        rows = [
            (info.id, f"t{number // 2}", ("user", "assistant")[number % 2], f"number {number}", 1.0)
            for number in range(10_000)
        ]
        db.executemany("INSERT INTO messages (session_id, turn_id, role, text, at) VALUES (?, ?, ?, ?, ?)", rows)
        db.execute("COMMIT")
    return info


def test_a_long_conversation_comes_back_whole(store: Store, long_conversation: SessionInfo) -> None:
    messages = store.messages(long_conversation.id)
    assert [message.text for message in messages] == [f"number {number}" for number in range(10_000)]
    assert store.recent(long_conversation.id, 20) == messages[-20:]
    assert store.session(long_conversation.id).messages == 10_000
    assert store.search("9999", 5)[0].message_id == messages[-1].id


def test_no_query_of_a_conversation_reads_a_whole_table(store: Store, long_conversation: SessionInfo) -> None:
    db = connection(store)
    queries: list[str] = []
    db.set_trace_callback(queries.append)
    store.messages(long_conversation.id)
    store.recent(long_conversation.id, 20)
    store.window(long_conversation.id, 20, "t1")
    store.session(long_conversation.id)
    store.session(long_conversation.id[:5])
    store.latest_session("cli", 0)
    store.sessions(20, 0)
    store.interrupted()
    db.set_trace_callback(None)
    plans = {
        query: [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}")]
        for query in queries
        if query.startswith(("SELECT", "UPDATE"))
    }
    assert any("messages_by_session" in step for plan in plans.values() for step in plan)
    for query, plan in plans.items():
        assert plan, query
        for step in plan:
            assert not step.startswith("SCAN") or "USING INDEX" in step or "json_each" in step, (query, plan)
            assert "TEMP B-TREE" not in step or "tool_calls" in query, (query, plan)
