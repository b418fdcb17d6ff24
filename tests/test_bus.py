"""The event bus."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
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
    seen_on: list[int] = []
    bus.add_observer(lambda event: seen_on.append(threading.get_ident()))
    await anyio.to_thread.run_sync(bus.publish, delta("from a thread"))
    await settled()
    bus.publish(delta("from the loop"))
    assert seen_on == [threading.get_ident()] * 2


async def test_wants_chooses_and_what_is_not_wanted_takes_no_room() -> None:
    bus = Bus()
    async with bus.subscribe(lambda event: isinstance(event, TurnStarted), capacity=1) as events:
        for number in range(10):
            bus.publish(delta(number))
        bus.publish(TurnStarted(source="text"))
        assert isinstance(await anext(events), TurnStarted)
        bus.publish(TurnStarted(source="voice"))
        assert isinstance(await anext(events), TurnStarted)


async def test_a_slow_subscriber_is_dropped_and_told_and_nobody_else_notices() -> None:
    bus = Bus()
    async with bus.subscribe(capacity=3) as slow, bus.subscribe(capacity=100) as quick:
        for number in range(10):
            bus.publish(delta(number))
        *kept, last = await drain(slow)
        assert [event.text for event in kept if isinstance(event, TextDelta)] == ["0", "1", "2"]
        assert isinstance(last, SubscriberLagged)
        assert last.missed == 7
        bus.publish(delta(10))
        assert await drain(slow) == []
        assert await take(quick, 11) == [str(number) for number in range(11)]


async def test_room_that_was_made_before_the_buffer_is_full_counts() -> None:
    bus = Bus()
    async with bus.subscribe(capacity=2) as events:
        for number in range(20):
            bus.publish(delta(number))
            assert await take(events, 1) == [str(number)]


async def test_a_dropped_subscriber_gets_nothing_more_even_when_it_has_caught_up() -> None:
    bus = Bus()
    async with bus.subscribe(capacity=1) as events:
        bus.publish(delta("kept"))
        bus.publish(delta("missed"))
        assert await take(events, 1) == ["kept"]
        bus.publish(delta("missed too"))
        (last,) = await drain(events)
        assert isinstance(last, SubscriberLagged)
        assert last.missed == 2


async def test_wants_that_raises_ends_its_own_subscription_with_that_error() -> None:
    bus = Bus()

    def broken(event: Event) -> bool:
        if isinstance(event, DaemonStopping):
            raise LookupError("broken filter")
        return True

    async with bus.subscribe(broken) as events, bus.subscribe() as other:
        bus.publish(delta("a"))
        bus.publish(DaemonStopping())
        bus.publish(delta("b"))
        assert await take(events, 1) == ["a"]
        with pytest.raises(LookupError, match="broken filter"):
            await anext(events)
        assert await drain(events) == []
        assert await take(other, 1) == ["a"]
        assert isinstance(await anext(other), DaemonStopping)
        assert await take(other, 1) == ["b"]


async def test_leaving_unsubscribes_and_ends_the_iteration() -> None:
    bus = Bus()
    asked: list[Event] = []

    def wants(event: Event) -> bool:
        asked.append(event)
        return True

    async with bus.subscribe(wants) as events:
        bus.publish(delta("in"))
    bus.publish(delta("out"))
    assert len(asked) == 1
    assert await drain(events) == []


async def test_nothing_of_a_subscription_is_kept_once_it_was_left() -> None:
    class Wants:
        def __call__(self, event: Event) -> bool:
            return True

    bus = Bus()
    wants = Wants()
    kept = weakref.ref(wants)
    async with bus.subscribe(wants) as events:
        bus.publish(delta("a"))
        assert await take(events, 1) == ["a"]
    del wants, events
    gc.collect()
    assert kept() is None
    bus.publish(delta("b"))


async def test_leaving_wakes_a_task_that_still_waits() -> None:
    bus = Bus()
    ended: list[list[Event]] = []
    async with anyio.create_task_group() as tasks, bus.subscribe() as events:

        async def read() -> None:
            ended.append(await drain(events))

        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        assert ended == []
    assert ended == [[]]


async def test_a_cancelled_wait_loses_no_event() -> None:
    bus = Bus()
    async with bus.subscribe() as events:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anext(events)
        assert scope.cancelled_caught
        bus.publish(delta("a"))
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anext(events)
        assert await take(events, 1) == ["a"]


async def test_an_observer_that_raises_is_removed_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    bus = Bus()
    calls: list[str] = []

    def broken(event: Event) -> None:
        calls.append("broken")
        raise ValueError("observer is ill")

    def well(event: Event) -> None:
        calls.append("well")

    bus.add_observer(broken)
    bus.add_observer(well)
    with caplog.at_level(logging.ERROR, logger="assistant.bus"):
        async with bus.subscribe() as events:
            bus.publish(delta("a"))
            bus.publish(delta("b"))
            assert await take(events, 2) == ["a", "b"]
    assert calls == ["broken", "well", "well"]
    (record,) = caplog.records
    assert "TextDelta" in record.getMessage()
    assert record.exc_info is not None
    assert "observer is ill" in str(record.exc_info[1])


async def test_an_observer_that_publishes_does_not_change_the_order_for_others() -> None:
    bus = Bus()
    seen: list[str] = []

    def echo(event: Event) -> None:
        if isinstance(event, TextDelta) and not event.text.startswith("echo"):
            bus.publish(delta(f"echo {event.text}"))

    def record(event: Event) -> None:
        if isinstance(event, TextDelta):
            seen.append(event.text)

    bus.add_observer(echo)
    bus.add_observer(record)
    async with bus.subscribe() as events:
        bus.publish(delta("a"))
        bus.publish(delta("b"))
        expected = ["a", "echo a", "b", "echo b"]
        assert seen == expected
        assert await take(events, 4) == expected


async def test_a_reader_that_always_has_an_event_lets_others_run() -> None:
    bus = Bus()
    others = 0

    async def other() -> None:
        nonlocal others
        for _ in range(5):
            others += 1
            await anyio.lowlevel.checkpoint()

    async with bus.subscribe() as events:
        for number in range(100):
            bus.publish(delta(number))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other)
            await take(events, 100)
            assert others == 5


def test_what_is_published_before_the_loop_runs_waits_for_it_and_is_bounded() -> None:
    bus = Bus()
    seen: list[str] = []
    bus.add_observer(lambda event: seen.append(event.text) if isinstance(event, TextDelta) else None)
    for number in range(BACKLOG + 5):
        bus.publish(delta(number))
    assert seen == []

    async def main() -> list[str]:
        async with bus.subscribe() as events:
            bus.publish(delta("now"))
            return await take(events, 1)

    assert anyio.run(main) == ["now"]
    assert seen == [*map(str, range(5, BACKLOG + 5)), "now"]


def test_publishing_after_the_loop_has_closed_is_quiet_and_another_loop_may_take_over() -> None:
    bus = Bus()
    seen: list[str] = []
    bus.add_observer(lambda event: seen.append(event.text) if isinstance(event, TextDelta) else None)

    async def say(text: str) -> None:
        async with bus.subscribe() as events:
            bus.publish(delta(text))
            assert await take(events, 1) == [text]

    anyio.run(say, "first")
    bus.publish(delta("lost"))
    anyio.run(say, "second")
    assert seen == ["first", "second"]


async def test_a_second_loop_may_publish_but_not_subscribe_while_the_first_runs() -> None:
    bus = Bus()

    async def elsewhere() -> None:
        bus.publish(delta("from elsewhere"))
        with pytest.raises(RuntimeError, match="another event loop"):
            async with bus.subscribe():
                raise AssertionError("subscribed")

    async with bus.subscribe() as events:
        await anyio.to_thread.run_sync(asyncio.run, elsewhere())
        assert await take(events, 1) == ["from elsewhere"]
