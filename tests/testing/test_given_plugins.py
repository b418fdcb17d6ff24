"""Plugins that a program hands over to the host, as the test kit does."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from third_party import GOOD, info, installed

from assistant import PluginContext, PluginSettings, Tool, hookimpl
from assistant.config import PluginTable, Settings
from assistant.events import Event
from assistant.plugins import PluginHost
from assistant.testing import OfferingPlugin, ScriptedLanguageModel, ScriptedWakeWord, ToneTextToSpeech


class Greeter:
    """A plugin with settings and a tool."""

    class Greeting(PluginSettings, frozen=True):
        """Its settings."""

        word: str = "hello"
        """What it says."""

    @hookimpl
    def plugin_settings(self) -> type[PluginSettings]:
        """Their type."""
        return self.Greeting

    @hookimpl
    def register_tools(self, context: PluginContext) -> Iterable[Tool]:
        """One."""
        assert isinstance(context.settings, self.Greeting)
        word = context.settings.word

        def wave() -> str:
            """Greet."""
            return word

        yield Tool.of(wave)


def test_an_object_is_a_plugin_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with installed(tmp_path, monkeypatch) as site:
        site.install("other", GOOD.replace("wave", "nod"))
        settings = Settings(plugins=PluginTable(site.bundled, {"greeter": {"word": "hi"}}))
        published: list[Event] = []
        host = PluginHost(settings, site.paths, published.append, plugins={"greeter": Greeter()})
        host.load()
        assert [(one.name, one.state) for one in host.plugins if one.state != "disabled"] == [
            ("greeter", "loaded"), ("other", "loaded"),
        ]
        assert host.tools["wave"].run() == "hi"
        assert (info(host, "greeter").version, info(host, "greeter").distribution) == ("", "")
        assert not host.problems


def test_it_takes_the_place_of_the_installed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with installed(tmp_path, monkeypatch) as site:
        site.install("greeter", GOOD)
        settings = Settings(plugins=PluginTable(site.bundled))
        host = PluginHost(settings, site.paths, lambda event: None, plugins={"greeter": Greeter()})
        host.load()
        assert [one.name for one in host.plugins if one.state == "loaded"] == ["greeter"]
        assert info(host, "greeter").distribution == ""


@pytest.mark.parametrize(("name", "plugin", "reason"), [
    ("Greeter", Greeter(), "is no name for a plugin"),
    ("greeter", None, "names None"),
    ("greeter", OfferingPlugin(ToneTextToSpeech(name="no good")), "has the name 'no good'"),
])
def test_what_is_wrong_with_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, plugin: object, reason: str
) -> None:
    with installed(tmp_path, monkeypatch) as site:
        settings = Settings(plugins=PluginTable(site.bundled))
        host = PluginHost(settings, site.paths, lambda event: None, plugins={name: plugin})
        host.load()
        found = info(host, name)
        assert reason in found.reason
        assert found.state == "failed"


def test_offers_are_sorted_to_their_hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, voice, robin = ScriptedLanguageModel(), ToneTextToSpeech(), ScriptedWakeWord()
    with installed(tmp_path, monkeypatch) as site:
        settings = Settings(plugins=PluginTable(site.bundled))
        host = PluginHost(
            settings, site.paths, lambda event: None, plugins={"mine": OfferingPlugin(model, voice, robin)}
        )
        host.load()
        assert host.engines == {("llm", "scripted_model"): model, ("tts", "tones"): voice}
        assert host.wake_words() == [robin]
        assert host.tools == {}
