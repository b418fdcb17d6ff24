"""The chat on a real daemon with the scripted model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from homes import Home
from textual.pilot import Pilot
from textual.widgets import Markdown, Static

from assistant.client import Client
from assistant.paths import find
from assistant.tui.app import AssistantApp
from assistant.tui.widgets.prompt import Prompt
from assistant.tui.widgets.status import StatusLine
from assistant.tui.widgets.transcript import Transcript

pytestmark = pytest.mark.anyio


async def until(pilot: Pilot[None], condition: Callable[[], object]) -> None:
    """Let the application run until ``condition`` holds."""
    for _ in range(600):
        if condition():
            return
        await asyncio.sleep(0.05)
        await pilot.pause()
    raise AssertionError("waited in vain")


def started(home: Home, session_id: str = "") -> AssistantApp:
    """The application on a running daemon."""
    assert home.run("up").code == 0
    return AssistantApp(Client(find(home.env).socket), session_id)


def answers(app: AssistantApp) -> list[str]:
    """The Markdown of every answer on the screen."""
    return [widget.source for widget in app.screen.query(Markdown)]


def statics(app: AssistantApp, kind: str) -> list[str]:
    """The text of the lines of one kind."""
    return [str(widget.content) for widget in app.screen.query(f".{kind}").results(Static)]


async def test_a_question_is_answered(home: Home) -> None:
    app = started(home)
    async with app.run_test() as pilot:
        await until(pilot, lambda: any("scripted" in line.machine for line in app.screen.query(StatusLine)))
        await pilot.press(*"hello", "shift+enter", *"you", "enter")
        await until(pilot, lambda: any("you said: hello you" in text for text in answers(app)))
        assert statics(app, "user") == ["hello\nyou"]
        assert app.screen.query_one(Prompt).text == ""
        await pilot.press(*"again", "enter")
        await until(pilot, lambda: any("you said: again" in text for text in answers(app)))
    listed = home.run("sessions", "list").out.splitlines()
    assert len(listed) == 2, "both questions are of one conversation"


async def test_escape_stops_the_answer(home: Home) -> None:
    app = started(home)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.screen.query(Prompt))
        await pilot.press(*"count 1000", "enter")
        await until(pilot, lambda: any("3 4 5" in text for text in answers(app)))
        await pilot.press("escape")
        await until(pilot, lambda: statics(app, "notice"))
        assert "interrupted" in statics(app, "notice")[0]
    assert home.status()["live_turns"] == 0


async def test_a_failed_turn_says_why(home: Home) -> None:
    app = started(home)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.screen.query(Prompt))
        await pilot.press(*"crash after 3", "enter")
        await until(pilot, lambda: statics(app, "error"))
        assert "gpu" in statics(app, "error")[0]


async def test_a_conversation_is_continued_and_markup_is_shown_as_typed(home: Home) -> None:
    home.run("ask", "[bold]hi[/bold] [x")
    session = home.run("sessions", "list").out.splitlines()[1].split()[0]
    app = started(home, session)
    async with app.run_test() as pilot:
        await until(pilot, lambda: answers(app))
        assert "[bold]hi" in statics(app, "user")[0]
        assert "you said: [bold]hi[/bold]" in answers(app)[0]


async def test_the_draft_survives_a_restart_of_the_daemon(home: Home) -> None:
    app = started(home)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.screen.query(Prompt))
        await pilot.press(*"my draft")
        await asyncio.to_thread(home.run, "down")
        await until(pilot, lambda: "not connected" in app.screen.query_one(StatusLine).activity)
        await pilot.press("enter")
        assert app.screen.query_one(Prompt).text == "my draft"
        await asyncio.to_thread(home.run, "up")
        await until(pilot, lambda: "not connected" not in app.screen.query_one(StatusLine).activity)
        await pilot.press("enter")
        await until(pilot, lambda: any("you said: my draft" in text for text in answers(app)))


async def test_a_new_question_interrupts_the_answer_above_it(home: Home) -> None:
    app = started(home)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.screen.query(Prompt))
        await pilot.press(*"count 1000", "enter")
        await until(pilot, lambda: any("3 4 5" in text for text in answers(app)))
        await pilot.press(*"hello", "enter")
        await until(pilot, lambda: any("you said: hello" in text for text in answers(app)))
        shown = [child for child in app.screen.query_one(Transcript).children if not child.has_class("welcome")]
        kinds = [next(iter(child.classes & {"user", "answer", "notice"})) for child in shown]
        assert kinds == ["user", "answer", "notice", "user", "answer"]


async def test_a_refused_prompt_comes_back(home: Home) -> None:
    app = started(home)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.screen.query(Prompt))
        app.screen.query_one(Prompt).text = "x" * (1 << 21)
        await pilot.press("enter")
        await until(pilot, lambda: statics(app, "error"))
        assert "1,048,576" in statics(app, "error")[0]
        assert len(app.screen.query_one(Prompt).text) == 1 << 21
