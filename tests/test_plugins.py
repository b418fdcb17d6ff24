"""Real plugins, found through real metadata, each broken in its own way beside one that works."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from third_party import GOOD, Site, info, installed

from assistant.config import PluginTable
from assistant.engines import ToolCall
from assistant.events import PluginFailed
from assistant.hookspecs import Session
from assistant.tomlfile import Source

SESSION = Session("s", "cli")
CALL = ToolCall(id="1", name="wave", arguments={})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty folder of installed plugins."""
    with installed(tmp_path, monkeypatch) as folder:
        yield folder


TOOL = """
def spare() -> str:
    "Do nothing."
    return ""

@hookimpl
def register_tools(context):
    yield Tool.of(spare)
"""


def _hook(name: str, body: str, arguments: str = "context") -> str:
    return f"@hookimpl\ndef {name}({arguments}):\n    {body}\n"


def _intent(arguments: str) -> str:
    return _hook("register_intents", f"yield Intent({arguments})")


BROKEN = {
    "import error": ("import no_such_module_at_all", "the import raised ModuleNotFoundError: No module named"),
    "syntax error": ("def broken(:", "the import raised SyntaxError"),
    "exit at import": ("raise SystemExit(3)", "the import raised SystemExit: 3"),
    "raising hook": (_hook("register_tools", "raise KeyError('x')"), "register_tools raised KeyError: 'x' at site/"),
    "exit in a hook": (_hook("register_llm", "raise SystemExit"), "register_llm raised SystemExit"),
    "raising generator": (_hook("register_tools", "yield from 1 / 0"), "register_tools raised ZeroDivisionError"),
    "endless generator": (_hook("register_tools", "while True: yield 1"), "returned more than 1000 objects"),
    "not iterable": (_hook("register_stt", "return 7"), "register_stt returned int, expected an iterable of Spee"),
    "text": (_hook("register_tools", "return 'abc'"), "register_tools returned str, expected an iterable of Tool"),
    "wrong thing": (_hook("register_tts", "return [7]"), "register_tts: got int, expected a TextToSpeech"),
    "function for a tool": (_hook("register_tools", "return [print]"), "expected a Tool (write Tool.of(function))"),
    "class for an engine": (_hook("register_llm", "return [LanguageModel]"), "got the class LanguageModel, expected a"),
    "async hook": (_hook("register_tools", "return []").replace("def", "async def"), "is async (hooks are plain func"),
    "tool without docstring": (
        _hook("register_tools", "return [Tool.of(lambda: '', name='x')]"),
        "tool 'x' has no docstring",
    ),
    "tool name": (TOOL.replace("of(spare)", "of(spare, name='a.b')"), "the tool's name 'a.b' is not made of letters"),
    "tool twice": (TOOL + "    yield Tool.of(spare)", "it offers tool:spare twice"),
    "tool of another": (TOOL.replace("of(spare)", "of(spare, name='wave')"), "tool:wave is offered by the plugin"),
    "unknown hook": (
        _hook("register_tolls", "return []"),
        "there is no hook 'register_tolls' (did you mean register_tools?)",
    ),
    "unknown argument": (_hook("register_tools", "return []", "contxt"), "Argument(s) {'contxt'} are declared"),
    "hook twice": (
        _hook("register_tools", "return []") + "@hookimpl(specname='register_tools')\ndef more(): ...\n",
        "it implements register_tools twice",
    ),
    "settings of no kind": (_hook("plugin_settings", "return dict", ""), "plugin_settings returned dict, expected a"),
    "setting without default": (
        "class S(PluginSettings):\n    key: str\n" + _hook("plugin_settings", "return S", ""),
        "[plugins.kaputt] key: it must be set (write a value for it, or set ASSISTANT_PLUGINS__KAPUTT__KEY)",
    ),
    "intent without tool": (
        TOOL + _intent("tool='wavee', sentences=('go',)"),
        "register_intents: there is no tool 'wavee' (did you mean wave?)",
    ),
    "intent with a wrong slot": (
        _intent("tool='wave', sentences=('go {x}',), slots={'x': Range(1, 2)}"),
        "register_intents: the tool 'wave' has no argument 'x' (it takes no arguments)",
    ),
    "intent with a wrong renamed slot": (
        _intent("tool='wave', sentences=('go {x:y}',), slots={'x': Range(1, 2)}"),
        "register_intents: the tool 'wave' has no argument 'y' (it takes no arguments)",
    ),
    "intent that cannot be parsed": (_intent("tool='wave', sentences=('go (',)"), "cannot be parsed"),
    "route": (
        "async def h(body):\n    return b''\n" + _hook("register_routes", "yield Route('GET', '../x', h)"),
        "the route's path '../x' is not",
    ),
    "probe": (
        "class P:\n    name = 'p'\n" + _hook("register_resource_probes", "yield P()"),
        "'p' lacks sample()",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_fails_alone(site: Site, case: str) -> None:
    source, reason = BROKEN[case]
    site.install("good", GOOD)
    site.install("kaputt", source)
    site.install("well", TOOL.replace("spare", "well"))
    host = site.host()

    found = info(host, "kaputt")
    assert found.state == "failed"
    assert reason in found.reason
    assert "\n" not in found.reason
    assert found.provides == ()
    assert sorted(host.tools) == ["wave", "well"]
    assert host.engines == {}
    assert host.intents == []
    assert [event.plugin for event in site.events if isinstance(event, PluginFailed)] == ["kaputt"]
    assert info(host, "good").provides == ("tool:wave",)


def test_where_it_raised_is_part_of_the_reason(site: Site) -> None:
    module = site.install("kaputt", "1 / 0")
    assert f"{module}.py:5" in info(site.host(), "kaputt").reason


def test_a_name_is_free_again_when_its_owner_failed(site: Site) -> None:
    site.install("a", GOOD + "@hookimpl\ndef register_routes(context):\n    return 1")
    site.install("b", GOOD)
    host = site.host()
    assert (info(host, "a").state, info(host, "b").state) == ("failed", "loaded")


def test_the_earlier_engine_keeps_its_name(site: Site) -> None:
    engine = """
    class Voice(TextToSpeech):
        name = "voice"
        def load(self, model): ...
        def speak(self, text, voice): yield from ()
        def close(self): ...
    @hookimpl
    def register_tts(context):
        return [Voice()]
    """
    site.install("b_second", engine)
    site.install("a_first", engine)
    host = site.host()
    assert list(host.engines) == [("tts", "voice")]
    assert host.engine_plugin("tts", "voice") == "a_first"
    assert host.engine_plugin("llm", "voice") == ""
    assert "tts:voice is offered by the plugin 'a_first'" in info(host, "b_second").reason


def test_a_failing_intent_takes_its_tools_and_the_intents_on_them_along(site: Site) -> None:
    bad = _intent("tool='nowhere', sentences=('x',)")
    site.install("a_user", _intent("tool='spare', sentences=('y',)"))
    site.install("b_owner", TOOL + bad)
    site.install("good", GOOD)
    host = site.host()
    assert [info(host, name).state for name in ("a_user", "b_owner", "good")] == ["failed", "failed", "loaded"]
    assert host.intents == []


def test_an_intent_may_name_the_tool_of_a_later_plugin(site: Site) -> None:
    site.install("a", _intent("tool='wave', sentences=('wave',)"))
    site.install("good", GOOD)
    host = site.host()
    assert [intent.tool for intent in host.intents] == ["wave"]
    host.fail("good", "test")
    assert host.intents == []


def test_two_distributions_with_one_plugin_name(site: Site) -> None:
    site.install("twin", GOOD)
    site.install("twin", TOOL)
    host = site.host()
    states = [(plugin.state, plugin.reason) for plugin in host.plugins if plugin.name == "twin"]
    assert [state for state, _ in states] == ["loaded", "failed"]
    assert "has a plugin of that name too" in states[1][1]
    assert list(host.tools) == ["wave"]


@pytest.mark.parametrize("name", ["Upper", "with-dash", "disabled", "a.b"])
def test_a_name_that_no_table_or_url_can_have(site: Site, name: str) -> None:
    site.install("good", GOOD)
    info_folder = site.folder / "odd-1.dist-info"
    info_folder.mkdir()
    (info_folder / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1\n")
    (info_folder / "entry_points.txt").write_text(f"[assistant]\n{name} = {site.modules[0]}\n")
    host = site.host()
    assert "is no name for a plugin" in info(host, name).reason
    assert info(host, "good").state == "loaded"


def test_an_object_as_plugin(site: Site) -> None:
    site.install("thing", """
    class Thing:
        @hookimpl
        def prompt_parts(self, session):
            return f"in {session.channel}"
    plugin = Thing()
    nothing = None
    """, attribute=":plugin")
    site.install("none", "nothing = None", attribute=":nothing")
    site.install("gone", "", attribute=":missing")
    host = site.host()
    assert host.prompt_parts(SESSION) == ["in cli"]
    assert "names None" in info(host, "none").reason
    assert "has no attribute 'missing'" in info(host, "gone").reason


def test_disabled_plugins_are_not_even_imported(site: Site) -> None:
    module = site.install("noisy", "raise SystemExit")
    host = site.host(PluginTable(["noisy"], {"noisy": {"anything": 1}}))
    assert info(host, "noisy").state == "disabled"
    assert module not in sys.modules
    assert site.events == []
    assert host.problems == []


def test_what_is_said_of_a_plugin(site: Site) -> None:
    module = site.install("good", GOOD + "@hookimpl\ndef on_event(event): ...", version="4.5")
    found = info(site.host(), "good")
    assert (found.version, found.distribution, found.state, found.reason) == ("4.5", module, "loaded", "")
    assert found.provides == ("tool:wave", "observer")
    assert found.seconds > 0


def test_no_plugins_at_all(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(site.folder)])
    host = site.host(PluginTable())
    assert host.plugins == []
    assert "no plugins are installed (run pip install)" in host.problems


SETTINGS = """
class Settings(PluginSettings):
    zone: str = "UTC"
    hours: int = 24

@hookimpl
def plugin_settings():
    return Settings

@hookimpl
def register_tools(context):
    def zone() -> str:
        "The zone."
        return context.settings.zone
    yield Tool.of(zone)
"""


def _table(text: str, **tables: dict[str, object]) -> PluginTable:
    return PluginTable([], dict(tables), Source(Path("/etc/config.toml"), text))


def test_settings_reach_the_plugin(site: Site) -> None:
    site.install("watch", SETTINGS)
    host = site.host(_table("", watch={"zone": "Asia/Tokyo"}))
    assert host.tools["zone"].run() == "Asia/Tokyo"
    assert host.settings["watch"].zone == "Asia/Tokyo"  # type: ignore[attr-defined]


def test_wrong_settings_fail_their_plugin_with_file_line_and_key(site: Site) -> None:
    site.install("watch", SETTINGS)
    site.install("good", GOOD)
    host = site.host(_table("\n[plugins.watch]\n\nzoen = 'UTC'\n", watch={"zoen": "UTC"}))
    reason = info(host, "watch").reason
    assert reason == (
        "/etc/config.toml, line 4: [plugins.watch] zoen: there is no such setting (did you mean [plugins.watch] zone?)"
    )
    assert host.problems == [reason]
    assert list(host.tools) == ["wave"]


def test_a_plugin_without_settings_takes_none(site: Site) -> None:
    site.install("good", GOOD)
    host = site.host(_table("[plugins.good]\nx = 1\n", good={"x": 1}))
    assert info(host, "good").reason.endswith(
        "line 2: [plugins.good] x: there is no such setting ([plugins.good] has no settings)"
    )


def test_tables_of_unknown_plugins_are_problems(site: Site) -> None:
    site.install("good", GOOD)
    text = "[plugins]\ndisabled = ['goood']\n[plugins.god]\n"
    table = PluginTable(["goood"], {"god": {}}, Source(Path("/etc/config.toml"), text))
    assert site.host(table).problems == [
        "/etc/config.toml, line 3: [plugins.god]: there is no plugin 'god' (did you mean good?)",
        "/etc/config.toml, line 2: [plugins] disabled: there is no plugin 'goood' (did you mean good?)",
    ]


def test_a_forgotten_marker_is_a_problem(site: Site) -> None:
    site.install("good", GOOD + "def on_event(event): ...")
    site.install("idle", "x = 1")
    assert site.host().problems == [
        "plugin 'good': on_event is never called (mark it with @hookimpl)",
        "plugin 'idle' implements no hook (mark its functions with @hookimpl)",
    ]


def test_prompt_parts_in_the_order_of_names(site: Site) -> None:
    for name, answer in [("c", "'three'"), ("a", "' one '"), ("b", "None"), ("d", "7"), ("e", "1 / 0"), ("f", "' '")]:
        site.install(name, f"@hookimpl\ndef prompt_parts(session):\n    return {answer}")
    host = site.host()
    assert host.prompt_parts(SESSION) == ["one", "three"]
    assert info(host, "d").reason == "prompt_parts returned int, expected str or None"
    assert info(host, "e").reason.startswith("prompt_parts raised ZeroDivisionError")
    assert [event.plugin for event in site.events if isinstance(event, PluginFailed)] == ["d", "e"]


def _review(answer: str) -> str:
    return f"@hookimpl\ndef review_tool_call(call, session):\n    return {answer}"


def test_the_first_verdict_by_name_counts(site: Site) -> None:
    site.install("c", _review("Verdict('deny', 'c')"))
    site.install("b", _review("Verdict('allow', 'b')"))
    site.install("a", _review("None"))
    verdict = site.host().review(CALL, SESSION)
    assert verdict is not None
    assert (verdict.decision, verdict.reason) == ("allow", "b")


def test_no_opinion_at_all(site: Site) -> None:
    site.install("a", _review("None"))
    assert site.host().review(CALL, SESSION) is None


@pytest.mark.parametrize("answer", ["1 / 0", "'allow'", "exit()"])
def test_a_review_that_breaks_denies(site: Site, answer: str) -> None:
    site.install("a", _review(answer))
    site.install("b", _review("Verdict('allow')"))
    host = site.host()
    verdict = host.review(CALL, SESSION)
    assert verdict is not None
    assert verdict.decision == "deny"
    assert "'a' could not review it" in verdict.reason
    assert info(host, "a").state == "loaded"


def test_breaking_a_guard_does_not_open_the_gate(site: Site) -> None:
    site.install("guard", _review("Verdict('deny')"))
    host = site.host()
    host.fail("guard", "test")
    verdict = host.review(CALL, SESSION)
    assert verdict is not None
    assert verdict.decision == "deny"


def test_failing_at_run_time(site: Site) -> None:
    site.install("good", GOOD)
    host = site.host()
    host.fail("good", "enough")
    host.fail("good", "again")
    host.fail("unknown", "x")
    assert host.tools == {}
    assert info(host, "good").reason == "enough"
    assert [event.reason for event in site.events if isinstance(event, PluginFailed)] == ["enough"]
