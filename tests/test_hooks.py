"""One test a hook: a plugin that implements it, and what the host then does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from third_party import Site, eventually, info, installed

from assistant import events, hookspecs
from assistant.config import PluginTable
from assistant.engines import ToolCall
from assistant.hookspecs import Session
from assistant.plugins.loading import HOOKS

pytestmark = pytest.mark.anyio

SESSION = Session("s1", "tui")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty folder of installed plugins."""
    with installed(tmp_path, monkeypatch) as folder:
        yield folder


def test_every_hook_has_a_test() -> None:
    assert {name for name in globals() if name.startswith("test_hook_")} == {f"test_hook_{name}" for name in HOOKS}


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_every_hook_says_when_where_what_and_how(name: str) -> None:
    doc = getattr(hookspecs, name).__doc__ or ""
    places = [doc.find(part) for part in ("Called: ", "Runs on: ", "Returns:", "Example::\n\n")]
    if name == "on_event":
        assert places.pop(2) == -1
    assert -1 not in places
    assert places == sorted(places)
    assert "@hookimpl" in doc
    assert f"def {name}(" in doc
    assert doc.splitlines()[0].endswith(".")


def test_hook_plugin_settings(site: Site) -> None:
    site.install("sample", """
    class Settings(PluginSettings):
        units: str = "metric"
    @hookimpl
    def plugin_settings():
        return Settings
    @hookimpl
    def prompt_parts(session):
        return seen[0].units
    seen = []
    @hookimpl
    def register_tools(context):
        seen.append(context.settings)
        return []
    """)
    assert site.host().prompt_parts(SESSION) == ["metric"]
    changed = site.host(PluginTable(tables={"sample": {"units": "imperial"}}))
    assert changed.settings["sample"].units == "imperial"  # type: ignore[attr-defined]


ENGINE = """
class Mine({base}):
    name = "mine"
    def load(self, model): ...
    def close(self): ...
    def {method}(self, *arguments): ...
@hookimpl
def register_{kind}(context):
    yield Mine()
"""


@pytest.mark.parametrize("lazy", ["yield Mine()", "return [Mine()]", "return (Mine(),)", "return {Mine()}"])
def test_hook_register_stt(site: Site, lazy: str) -> None:
    source = ENGINE.format(base="SpeechToText", method="open", kind="stt").replace("yield Mine()", lazy)
    site.install("sample", source)
    host = site.host()
    assert type(host.engines["stt", "mine"]).__name__ == "Mine"
    assert host.engine_plugin("stt", "mine") == "sample"
    assert info(host, "sample").provides == ("stt:mine",)


def test_hook_register_llm(site: Site) -> None:
    site.install("sample", ENGINE.format(base="LanguageModel", method="generate", kind="llm"))
    assert list(site.host().engines) == [("llm", "mine")]


def test_hook_register_tts(site: Site) -> None:
    site.install("sample", ENGINE.format(base="TextToSpeech", method="speak", kind="tts"))
    assert list(site.host().engines) == [("tts", "mine")]


def test_hook_register_wake_words(site: Site) -> None:
    module = site.install("sample", """
    asked = []
    from assistant import WakeWord
    class Jarvis(WakeWord):
        name, phrase, frame_samples = "hey_jarvis", "hey jarvis", 1280
        def load(self): ...
        def score(self, frame): return 0.0
        def reset(self): ...
        def close(self): ...
    @hookimpl
    def register_wake_words(context):
        asked.append(context.name)
        yield Jarvis()
    """)
    host = site.host()
    assert sys.modules[module].asked == []
    assert [word.name for word in host.wake_words()] == ["hey_jarvis"]
    assert [word.frame_samples for word in host.wake_words()] == [1280]
    assert sys.modules[module].asked == ["sample"]


def test_hook_register_tools(site: Site) -> None:
    site.install("sample", """
    def roll_die(sides: int = 6) -> str:
        "Roll a die."
        return str(sides)
    @hookimpl
    def register_tools():
        yield Tool.of(roll_die)
    """)
    host = site.host()
    assert host.tools["roll_die"].run(sides=3) == "3"
    assert info(host, "sample").provides == ("tool:roll_die",)


def test_hook_register_intents(site: Site) -> None:
    site.install("sample", """
    def roll_die(sides: int = 6) -> str:
        "Roll a die."
        return str(sides)
    @hookimpl
    def register_tools(context):
        yield Tool.of(roll_die)
    @hookimpl
    def register_intents(context):
        yield Intent(tool="roll_die", sentences=("roll a (die|dice)",), arguments={"sides": 8})
    """)
    host = site.host()
    assert [(intent.tool, intent.arguments) for intent in host.intents] == [("roll_die", {"sides": 8})]
    assert info(host, "sample").provides == ("tool:roll_die", "intent:roll_die")


def test_hook_register_resource_probes(site: Site) -> None:
    site.install("sample", """
    class Battery:
        name = "battery"
        def sample(self):
            return {"battery_percent": 80.0}
    @hookimpl
    def register_resource_probes(context):
        yield Battery()
    """)
    host = site.host()
    assert [probe.sample() for probe in host.probes] == [{"battery_percent": 80.0}]


COMMAND = """
import click
@hookimpl
def register_commands(context):
    @click.command()
    def hello():
        click.echo("hello from " + context.name)
    yield hello
"""


def test_hook_register_commands(site: Site) -> None:
    site.install("sample", COMMAND)
    site.install("second", COMMAND)
    site.install("third", "@hookimpl\ndef register_commands(context):\n    return [print]")
    host = site.host()
    (command,) = host.commands()
    assert command.name == "hello"
    assert "another plugin has 'hello' already" in info(host, "second").reason
    assert "expected a click command" in info(host, "third").reason


async def test_hook_register_routes(site: Site) -> None:
    site.install("sample", """
    async def ping(body: bytes) -> bytes:
        return b"pong " + body
    @hookimpl
    def register_routes(context):
        yield Route("POST", "ping", ping)
    """)
    host = site.host()
    ((owner, route),) = host.routes
    assert (owner, route.method, route.path) == ("sample", "POST", "ping")
    assert await route.handler(b"1") == b"pong 1"


async def test_hook_lifespan(site: Site) -> None:
    site.install("sample", """
    from contextlib import asynccontextmanager
    @hookimpl
    @asynccontextmanager
    async def lifespan(context):
        context.publish(events.PluginEvent(plugin=context.name, name="up", data={"folder": str(context.data_dir)}))
        yield
        context.publish(events.PluginEvent(plugin=context.name, name="down"))
    """)
    async with site.host().lifespans():
        (up,) = site.events
        assert isinstance(up, events.PluginEvent)
        assert (up.name, up.data["folder"]) == ("up", str(site.paths.plugin_data("sample")))
    assert [event.name for event in site.events if isinstance(event, events.PluginEvent)] == ["up", "down"]


def test_hook_prompt_parts(site: Site) -> None:
    site.install("sample", "@hookimpl\ndef prompt_parts(session):\n    return f'This is {session.channel}.'")
    assert site.host().prompt_parts(SESSION) == ["This is tui."]


def test_hook_review_tool_call(site: Site) -> None:
    site.install("sample", """
    @hookimpl
    def review_tool_call(call, session):
        if call.name == "shell":
            return Verdict("deny", f"not in {session.channel}")
    """)
    host = site.host()
    verdict = host.review(ToolCall(id="1", name="shell", arguments={}), SESSION)
    assert verdict is not None
    assert (verdict.decision, verdict.reason) == ("deny", "not in tui")
    assert host.review(ToolCall(id="2", name="other", arguments={}), SESSION) is None


def test_hook_on_event(site: Site) -> None:
    module = site.install("sample", """
    import threading
    seen = []
    @hookimpl
    def on_event(event):
        seen.append((event.name, threading.current_thread().name))
    """)
    host = site.host()
    for number in range(20):
        host.observe(events.PluginEvent(plugin="x", name=str(number)))
    eventually(lambda: len(sys.modules[module].seen) == 20)
    assert sys.modules[module].seen == [(str(number), "observer-sample") for number in range(20)]
