"""Make the pictures of the documentation from the real application on a running daemon: python docs/pictures.py"""

from __future__ import annotations

import asyncio
from pathlib import Path

from textual.pilot import Pilot

from assistant import paths
from assistant.client import Client
from assistant.tui.app import AssistantApp
from assistant.tui.screens.chat import ChatScreen

QUESTIONS = ("What is the capital of France?", "what is 17 percent of 340", "set a timer for ten minutes")
IMAGES = Path(__file__).parent / "images"


async def _ask(pilot: Pilot[None], question: str) -> None:
    await pilot.press(*question, "enter")
    await pilot.pause(0.5)
    screen = pilot.app.screen
    assert isinstance(screen, ChatScreen)
    while screen.busy:
        await pilot.pause(0.1)
    await pilot.pause(0.5)


async def main() -> None:
    """Ask a few questions and save what the screen shows."""
    app = AssistantApp(Client(paths.find().socket))
    async with app.run_test(size=(92, 24)) as pilot:
        await pilot.pause(2)
        for question in QUESTIONS:
            await _ask(pilot, question)
        app.save_screenshot("chat.svg", str(IMAGES))


if __name__ == "__main__":
    asyncio.run(main())
