"""Events to and from real plugins: floods, nonsense, slow and raising observers."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from third_party import GOOD, Site, eventually, info, installed

from assistant.events import Base, DaemonStopping, Event, PluginEvent, PluginFailed
from assistant.plugins.observers import CAPACITY, FLOOD, GuardedPublish, Observer


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty folder of installed plugins."""
    with installed(tmp_path, monkeypatch) as folder:
        yield folder


PUBLISHER = """
@hookimpl
def register_tools(context):
    def shout(count: int) -> str:
        "Publish."
        for number in range(count):
            context.publish(events.PluginEvent(plugin="loud", name="x", data={"n": number}))
        return "done"
    def nonsense() -> str:
        "Publish nonsense."
        context.publish(object())
        return ""
    def unsendable() -> str:
        "Publish what JSON has not."
        context.publish(events.PluginEvent(plugin="loud", name="x", data={"n": object()}))
        return ""
    yield Tool.of(shout)
    yield Tool.of(nonsense)
    yield Tool.of(unsendable)
"""


def test_a_flood_fails_its_plugin_and_is_cut_off(site: Site) -> None:
    site.install("loud", PUBLISHER)
    site.install("good", GOOD)
    host = site.host()
    assert host.tools["shout"].run(count=3 * FLOOD) == "done"
    assert info(host, "loud").reason == "published more than 1000 events in one second"
    assert len([event for event in site.events if isinstance(event, PluginEvent)]) == FLOOD
    assert list(host.tools) == ["wave"]


@pytest.mark.parametrize("tool", ["nonsense", "unsendable"])
def test_nonsense_is_not_published(site: Site, tool: str) -> None:
    site.install("loud", PUBLISHER)
    host = site.host()
    with pytest.raises(Exception, match=r"is not an event|cannot be sent"):
        host.tools[tool].run()
    assert site.events == []


def test_a_thousand_events_a_second_are_fine() -> None:
    now = [0.0]
    seen: list[Event] = []
    failed: list[str] = []
    publish = GuardedPublish(seen.append, failed.append, lambda: now[0])
    for second in range(5):
        now[0] = float(second)
        for _ in range(FLOOD):
            publish(DaemonStopping())
    assert failed == []
    assert len(seen) == 5 * FLOOD
    now[0] += 0.5
    publish(DaemonStopping())
    now[0] += 10
    publish(DaemonStopping())
    assert failed == ["published more than 1000 events in one second"]
    assert len(seen) == 5 * FLOOD


def test_publishing_from_many_threads_counts_them_all() -> None:
    seen: list[Event] = []
    failed: list[str] = []
    publish = GuardedPublish(seen.append, failed.append, lambda: 0.0)

    def publish_many() -> None:
        for _ in range(400):
            publish(DaemonStopping())

    threads = [threading.Thread(target=publish_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == FLOOD
    assert len(failed) == 1


def test_only_events_of_the_union_are_published() -> None:
    publish = GuardedPublish(lambda event: None, lambda reason: None)
    with pytest.raises(Exception, match="Base is not an event"):
        publish(Base())  # type: ignore[arg-type]


OBSERVER = """
import threading
seen = []
gate = threading.Event()
@hookimpl
def on_event(event):
    gate.wait()
    seen.append(event)
"""


def test_a_slow_observer_loses_events_and_holds_nobody_up(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    slow = site.install("slow", OBSERVER)
    quick = site.install("quick", OBSERVER)
    host = site.host()
    sys.modules[quick].gate.set()
    for number in range(CAPACITY + 100):
        host.observe(PluginEvent(plugin="x", name=str(number)))
        if number % 500 == 499:
            eventually(lambda count=number + 1: len(sys.modules[quick].seen) == count)  # type: ignore[misc]
    eventually(lambda: len(sys.modules[quick].seen) == CAPACITY + 100)
    assert host.dropped["quick"] == 0
    assert host.dropped["slow"] in (99, 100)
    assert [record.name for record in caplog.records if "too slow" in record.message] == ["assistant.plugins.slow"]
    sys.modules[slow].gate.set()
    eventually(lambda: len(sys.modules[slow].seen) + host.dropped["slow"] == CAPACITY + 100)
    names = [event.name for event in sys.modules[slow].seen]
    assert names == [str(number) for number in range(len(names))]
    assert info(host, "slow").state == "loaded"


def test_an_observer_that_keeps_raising_is_failed(site: Site) -> None:
    site.install("angry", "@hookimpl\ndef on_event(event):\n    raise ValueError('no')")
    site.install("good", GOOD)
    host = site.host()
    for _ in range(9):
        host.observe(DaemonStopping())
    assert info(host, "angry").state == "loaded"
    for _ in range(3):
        host.observe(DaemonStopping())
    eventually(lambda: info(host, "angry").state == "failed")
    assert info(host, "angry").reason == "on_event raised 10 times, the last time ValueError: no"
    eventually(lambda: [event.plugin for event in site.events if isinstance(event, PluginFailed)] == ["angry"])
    assert info(host, "good").state == "loaded"


def test_closing_lets_the_observers_finish() -> None:
    seen: list[Event] = []
    gate = threading.Event()

    def slow(event: Event) -> None:
        gate.wait()
        seen.append(event)

    observer = Observer("x", slow, logging.getLogger("x"), lambda reason: None)
    for _ in range(5):
        observer.put(DaemonStopping())
    observer.stop(drain=True)
    observer.put(DaemonStopping())
    assert not observer.join(0.01)
    gate.set()
    assert observer.join(10)
    assert len(seen) == 5
