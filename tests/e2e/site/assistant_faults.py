"""A plugin with a scripted language model and every fault that a plugin may have."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from assistant import ChatRequest, Delta, Intent, LanguageModel, PluginContext, Tool, events, hookimpl


class Scripted(LanguageModel):
    """Does what the last message says: ``count N``, ``crash after N``, ``hang``; else says it back."""

    name = "scripted"

    def load(self, model: Path | None) -> None:
        """Nothing to load."""

    def close(self) -> None:
        """Nothing to give back."""

    def generate(self, request: ChatRequest) -> Iterator[Delta]:
        """One word a step, 20 ms each."""
        words = request.messages[-1].content.split()
        match words:
            case ["count", number]:
                yield from _count(int(number))
            case ["crash", "after", number]:
                yield from _count(int(number))
                os._exit(3)
            case ["hang"]:
                time.sleep(3600)
            case ["call", tool, *rest]:
                yield Delta(text=f"no {tool} {rest}")
            case _:
                yield Delta(text="you said: " + " ".join(words))
        yield Delta(finish_reason="stop", prompt_tokens=len(words), output_tokens=1)


def _count(number: int) -> Iterator[Delta]:
    for i in range(number):
        time.sleep(0.02)
        yield Delta(text=f"{i} ")


@hookimpl
def register_llm(context: PluginContext) -> Iterable[LanguageModel]:
    """The scripted model."""
    yield Scripted()


@hookimpl
def register_tools(context: PluginContext) -> Iterable[Tool]:
    """Tools that misbehave."""

    def sleep_forever() -> str:
        """Never come back."""
        time.sleep(3600)
        return "never"

    def flood() -> str:
        """Publish far too many events."""
        for i in range(20_000):
            context.publish(events.PluginEvent(plugin="faults", name="flood", data={"i": i}))
        return "flooded"

    def raise_error() -> str:
        """Fail with something that is no error of ours."""
        raise ZeroDivisionError("a bug in the tool")

    def lie() -> str:
        """Return something else than text."""
        return msgspec.msgpack.decode(b"\x93\x01\x02\x03")  # type: ignore[no-any-return]

    yield Tool.of(sleep_forever, timeout=0.3)
    yield Tool.of(flood)
    yield Tool.of(raise_error)
    yield Tool.of(lie)


@hookimpl
def register_intents(context: PluginContext) -> Iterable[Intent]:
    """A sentence for each."""
    yield Intent(tool="sleep_forever", sentences=("please sleep forever",))
    yield Intent(tool="flood", sentences=("flood the bus",))
    yield Intent(tool="raise_error", sentences=("raise an error",))
    yield Intent(tool="lie", sentences=("tell a lie",))
