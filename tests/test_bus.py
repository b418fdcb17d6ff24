"""The event bus."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator

import anyio
import anyio.to_thread
import pytest

from assistant.bus import BACKLOG, Bus
from assistant.events import DaemonStopping, Event, SubscriberLagged, TextDelta, TurnStarted

pytestmark = pytest.mark.anyio


def delta(text: object) -> TextDelta:
    return TextDelta(text=str(text))


async def take(events: AsyncIterator[Event], number: int) -> list[str]:
    found: list[str] = []
    while len(found) < number:
        event = await anext(events)
        assert isinstance(event, TextDelta)
        found.append(event.text)
    return found


async def drain(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


async def settled() -> None:
    """Let everything that other threads have handed to the loop be done."""
    await anyio.to_thread.run_sync(lambda: None)
    await anyio.lowlevel.checkpoint()


async def test_every_subscriber_gets_every_event_in_order() -> None:
    bus = Bus()
    async with bus.subscribe() as first, bus.subscribe() as second:
        for number in range(50):
            bus.publish(delta(number))
        expected = [str(number) for number in range(50)]
        assert await take(first, 50) == expected
        assert await take(second, 50) == expected


async def test_a_subscriber_that_waits_is_woken() -> None:
    bus = Bus()
    found: list[str] = []
    async with bus.subscribe() as events, anyio.create_task_group() as tasks:

        async def read() -> None:
            found.extend(await take(events, 2))

        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        bus.publish(delta("a"))
        await anyio.wait_all_tasks_blocked()
        bus.publish(delta("b"))
    assert found == ["a", "b"]


async def test_only_events_from_the_subscription_on() -> None:
    bus = Bus()
    bus.publish(delta("before"))
    async with bus.subscribe() as events:
        bus.publish(delta("after"))
        assert await take(events, 1) == ["after"]


async def test_threads_publish_and_each_keeps_its_order() -> None:
    bus = Bus()
    threads, each = 4, 200
    start = threading.Barrier(threads)

    def work(name: int) -> None:
        start.wait()
        for number in range(each):
            bus.publish(delta(f"{name}:{number}"))

    async with bus.subscribe() as events:
        workers = [threading.Thread(target=work, args=(name,)) for name in range(threads)]
        for worker in workers:
            worker.start()
        found = await take(events, threads * each)
        for worker in workers:
            worker.join()
    for name in range(threads):
        assert [text for text in found if text.startswith(f"{name}:")] == [f"{name}:{n}" for n in range(each)]


async def test_observers_run_on_the_thread_of_the_loop() -> None:
    bus = Bus()
    seen: list[tuple[str, int]] = []
    bus.add_observer(lambda event: seen.append((event.type_name(), threading.get_ident())))  # type: ignore[union-attr]
    bus = Bus()
    seen_on: list[int] = []
    bus.add_observer(lambda event: seen_on.append(threading.get_ident()))
    await anyio.to_thread.run_sync(bus.publish, delta("from a thread"))
    await settled()
    bus.publish(delta("from the loop"))
    assert seen_on == [threading.get_ident()] * 2
