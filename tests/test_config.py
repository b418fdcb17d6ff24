"""Settings: read strictly, and every mistake is shown with its place and the nearest key."""

from __future__ import annotations

import math
import os
import tomllib
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant import PluginSettings
from assistant.config import ClusterSettings, PluginTable, Section, Settings, describe, load, render
from assistant.errors import ConfigError
from assistant.hookspecs import GROUP
from assistant.paths import Paths, find
from assistant.plugins import PluginHost
from assistant.tomlfile import emit, fields_of, line_of

ROOT = Path(__file__).parents[1]
SECTIONS = {name: kind for name, kind in fields_of(Settings).items() if name != "plugins"}
BELOW = {
    f"{name}.{below}": inner
    for name, kind in SECTIONS.items() for below, inner in fields_of(kind).items() if fields_of(inner)
}
"""Tables within a section."""


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A home of its own."""
    return find({"ASSISTANT_HOME": str(tmp_path)})


def _load(paths: Paths, text: str | bytes, **environ: str) -> Settings:
    paths.config_file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(paths, environ)


def _refused(paths: Paths, text: str | bytes, **environ: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        _load(paths, text, **environ)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


def test_no_file_is_all_defaults(paths: Paths) -> None:
    assert load(paths, {}) == Settings()


def test_an_empty_file_is_all_defaults(paths: Paths) -> None:
    assert _load(paths, "") == Settings()


def test_values_are_read(paths: Paths) -> None:
    settings = _load(paths, """
    [llm]
    model = "hf:org/name"
    temperature = 1
    [plugins]
    disabled = ["say"]
    [plugins.clock]
    zone = "UTC"
    """)
    assert settings.llm.model == "hf:org/name"
    assert settings.llm.temperature == 1.0
    assert settings.llm.max_tokens == 512
    assert settings.plugins == PluginTable(["say"], {"clock": {"zone": "UTC"}})


def test_a_byte_order_mark_and_foreign_line_ends_are_no_mistake(paths: Paths) -> None:
    settings = _load(paths, "\ufeff[llm]\r\nmodel = \"x\"\r\n")
    assert settings.llm.model == "x"
    assert ", line 3: " in _refused(paths, b"\xef\xbb\xbf[llm]\r\n\r\nmodle = 1\r\n").message


@pytest.mark.parametrize(("text", "place", "what", "hint"), [
    ("[llm]\nmodle = 'x'", "line 2: [llm] modle", "there is no such setting", "did you mean [llm] model?"),
    ("\n\n[lmm]\nmodel = 'x'", "line 3: [lmm]", "there is no such setting", "did you mean [llm]?"),
    ("[stt]\nmax_tokens = 3", "line 2: [stt] max_tokens", "there is no such setting", "did you mean [llm] max_tokens?"),
    ("zone = 1\n", "line 1: [zone]", "there is no such setting", "the tables are assistant, llm, stt, tts"),
    ("[log]\nx = 1", "line 2: [log] x", "there is no such setting", "[log] has level"),
    ("resume_minutes = 5", "line 1: [resume_minutes]", "there is no", "did you mean [sessions] resume_minutes?"),
    ("# x\n[llm]\nmax_tokens = 'many'", "line 3: [llm] max_tokens", "expected `int`, got `str`", "correct the value"),
    ("[llm]\nmax_tokens = 0", "line 2: [llm] max_tokens", "expected `int` >= 1", "correct the value"),
    ("[llm]\nmax_tokens = 2.5", "line 2: [llm] max_tokens", "expected `int`, got `float`", "correct"),
    ("[llm]\nmax_tokens = true", "line 2: [llm] max_tokens", "expected `int`, got `bool`", "correct"),
    ("[llm]\nmodel = 3", "line 2: [llm] model", "expected `str`, got `int`", "put the value in quotes"),
    ("[llm]\ntemperature = nan", "line 2: [llm] temperature", "expected `float`", "correct"),
    ("[llm]\ntop_p = 1.1", "line 2: [llm] top_p", "expected `float` <= 1.0", "correct"),
    ("[lanes]\nstep_seconds = inf", "line 2: [lanes] step_seconds", "expected `float` <= ", "correct"),
    ("[lanes]\nstep_seconds = 0", "line 2: [lanes] step_seconds", "expected `float` > 0", "correct"),
    ("[assistant]\nlanguage = 'English!'", "line 2: [assistant] language", "expected `str` matching regex", "correct"),
    ("[log]\nlevel = 'inof'", "line 2: [log] level", 'expected one of "debug", "info", "warning", "error"', '"info"?'),
    ("[log]\nlevel = 1979-05-27", "line 2: [log] level", "expected", "choose one of them"),
    ("llm = 3", "line 1: [llm]", "expected a table, got `int`", "correct"),
    ("plugins = 3", "line 1: [plugins]", "expected a table, got `int`", "[plugins]"),
    ("[plugins]\n\ndisabled = 'say'", "line 3: [plugins] disabled", "expected a list of names", '["one", "two"]'),
    ("[plugins]\ndisabled = [1]", "line 2: [plugins] disabled", "expected a list of names", '["one", "two"]'),
    ("[plugins]\ndisable = ['x']", "line 2: [plugins] disable", "there is no such setting", "did you mean disabled?"),
    ("[llm.cluster]\nhost = ['a']", "line 2: [llm.cluster] host", "there is no", "did you mean [llm.cluster] hosts?"),
    ("[llm]\ncluster.hosts = 'a'", "line 2: [llm.cluster] hosts", "expected a list, got `str`", '["one", "two"]'),
    ("[llm.cluster]\nhosts = [\n 'a', 3]", "line 2: [llm.cluster] hosts", "expected `str`, got `int`", "quotes"),
    ("[llm.cluster]\nhosts = ['-oX=y']", "line 2: [llm.cluster] hosts", "expected `str` matching regex", "correct"),
    ("[llm.cluster]\nbackend = 'rign'", "line 2: [llm.cluster] backend", 'expected one of "ring", "jaccl"', '"ring"?'),
    ("\n[llm.clutser]\nhosts = []", "line 2: [llm] clutser", "there is no such setting", "did you mean [llm] cluster?"),
    ("[llm]\nhosts = ['a']", "line 2: [llm] hosts", "there is no such setting", "did you mean [llm.cluster] hosts?"),
    ("[llm]\ncluster = 3", "line 2: [llm] cluster", "expected a table, got `int`", "correct"),
    ("[plugins]\nclock = 'x'", "line 2: [plugins] clock", "there is no such setting", "go below `[plugins.clock]`"),
])
def test_a_mistake_is_shown_with_its_place(paths: Paths, text: str, place: str, what: str, hint: str) -> None:
    error = _refused(paths, text)
    assert error.message.startswith(f"{paths.config_file}, {place}: ")
    assert what in error.message
    assert hint in error.hint


@pytest.mark.parametrize(("text", "line"), [
    ('x = """\n[llm]\nmodle = 1\n"""\n[llm]\nmodle = 1', 6),
    ("[stt]\nmodel = '[llm] modle'\n[llm]\n# modle = 1\nmodle = 1", 5),
    ("llm.modle = 1", 1),
    ("\nllm = { model = 'x',  modle = 1 }", 2),
    ("[stt]\n[llm]\n  'modle'=1", 3),
    ("[ llm ]\nmodel = 'x'\nmax_tokens = 3\n\n\"modle\" = [\n 1,\n 2,\n]\n", 5),
    ("llm.engine = 'x'\nllm.modle = 1\nllm.model = 'y'", 2),
])
def test_the_line_is_the_real_one_however_it_is_written(text: str, line: int) -> None:
    assert line_of(text, ("llm", "modle")) == line


def test_a_long_file_is_searched_quickly() -> None:
    text = "".join(f"[plugins.p{number}]\nx = {number}\n" for number in range(2000)) + "[llm]\nmodle = 1\n"
    assert line_of(text, ("llm", "modle")) == 4002


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.sampled_from(["", "\n", "# [llm]\n", "# modle = 2\n"]))
def test_the_line_moves_with_what_stands_before(before: int, between: int, filler: str) -> None:
    text = filler * before + "[llm]\n" + filler * between + "modle = 1\n"
    lines = filler.count("\n")
    assert line_of(text, ("llm", "modle")) == lines * (before + between) + 2


@pytest.mark.parametrize(("text", "where", "what"), [
    ("[llm]\nmodel = x", "line 2, column 9", "not TOML: invalid value"),
    ("[llm]\nmodel", "line 2", "not TOML: "),
    ("[llm]\nmodel = 'x'\nmodel = 'y'", "line 3", "not TOML: cannot overwrite a value"),
    ("[llm]\n[llm]\n", "line 2", "not TOML: cannot declare"),
    ("[llm]\nmodel = 'x", "line 2", "not TOML: "),
    ("\n[llm", "line 2", "not TOML: "),
    (b"[llm]\n# gr\xfc\xdfe\n", "line 2", "not UTF-8 text"),
    ("\n".join(["x = " + "[" * 20_000]), "", ""),
])
def test_what_is_no_toml(paths: Paths, text: str | bytes, where: str, what: str) -> None:
    error = _refused(paths, text)
    assert error.message.startswith(f"{paths.config_file}")
    assert where in error.message
    assert what in error.message


def test_what_is_no_file(paths: Paths) -> None:
    paths.config_file.mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(paths, {})


def test_a_link_to_nothing_is_not_taken_for_no_file(paths: Paths) -> None:
    paths.config_file.symlink_to(paths.config / "gone.toml")
    with pytest.raises(ConfigError, match="a link to a file that does not exist"):
        load(paths, {})


def test_a_file_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(find({"ASSISTANT_HOME": str(tmp_path / "home")}), {})


def test_a_variable_beats_the_file(paths: Paths) -> None:
    settings = _load(
        paths, "[llm]\nmodel = 'file'\nmax_tokens = 5",
        ASSISTANT_LLM__MODEL="variable", ASSISTANT_LLM__TEMPERATURE="0.5", ASSISTANT_HOME="/x", OTHER="y",
        ASSISTANT_PLUGINS__CLOCK__ZONE="Asia/Tokyo", ASSISTANT_PLUGINS__CLOCK__HOURS="12",
        ASSISTANT_PLUGINS__DISABLED='["say", "mlx"]',
    )
    assert (settings.llm.model, settings.llm.max_tokens, settings.llm.temperature) == ("variable", 5, 0.5)
    assert settings.plugins == PluginTable(["say", "mlx"], {"clock": {"zone": "Asia/Tokyo", "hours": 12}})


def test_a_variable_reaches_a_table_within_a_table(paths: Paths) -> None:
    settings = _load(
        paths, "[llm.cluster]\nhosts = ['c']\npython = '/file'",
        ASSISTANT_LLM__CLUSTER__HOSTS='["a","b"]', ASSISTANT_LLM__CLUSTER__PYTHON="3", ASSISTANT_LLM__TOP_P="0.5",
    )
    assert settings.llm.cluster == ClusterSettings(hosts=["a", "b"], python="3")
    assert settings.llm.top_p == 0.5
    assert load(paths, {}).llm.cluster == ClusterSettings(hosts=["c"], python="/file")


@pytest.mark.parametrize(("text", "meant"), [
    ("plain", "plain"), ('"quoted"', "quoted"), ("3", "3"), ("1.50", "1.50"), ("true", "true"), ("", ""),
    ("a\nb = 1", "a\nb = 1"), ("1\nb = 2", "1\nb = 2"), ("1979-05-27", "1979-05-27"), ("[1]", "[1]"), ("# x", "# x"),
])
def test_a_variable_for_a_text_is_that_text(paths: Paths, text: str, meant: str) -> None:
    assert load(paths, {"ASSISTANT_LLM__MODEL": text}).llm.model == meant


@pytest.mark.parametrize(("variable", "text", "message", "hint"), [
    ("ASSISTANT_LLM__MODLE", "x", "[llm] modle: there is no such setting", "did you mean ASSISTANT_LLM__MODEL?"),
    ("ASSISTANT_LMM__MODEL", "x", "[lmm]: there is no such setting", "did you mean [llm]?"),
    ("ASSISTANT_LLM_MODEL", "x", "there is no such setting", "did you mean ASSISTANT_LLM__MODEL?"),
    ("ASSISTANT_LLM", "x", "there is no such setting", "a setting is ASSISTANT_LLM__NAME"),
    ("ASSISTANT_HOEM", "/x", "there is no such setting", "did you mean ASSISTANT_HOME?"),
    ("ASSISTANT_LLM__MAX_TOKENS", "many", "[llm] max_tokens: expected `int`, got `str`", "correct"),
    ("ASSISTANT_LLM__MAX_TOKENS", "0", "[llm] max_tokens: expected `int` >= 1", "correct"),
    ("ASSISTANT_LOG__LEVEL", "loud", "[log] level: expected one of", "choose"),
    ("ASSISTANT_LLM__CLUSTER__HOST", "[]", "[llm.cluster] host: there is no", "ASSISTANT_LLM__CLUSTER__HOSTS?"),
    ("ASSISTANT_LLM__CLUSTER__HOSTS", "a", "[llm.cluster] hosts: expected a list, got `str`", '["one", "two"]'),
    ("ASSISTANT_LLM_CLUSTER_HOSTS", "a", "there is no such setting", "did you mean ASSISTANT_LLM__CLUSTER__HOSTS?"),
    ("ASSISTANT_LLM__CLUSTER__HOSTS__X", "1", "[llm.cluster] hosts: expected a list, got a table", '["one"'),
    ("ASSISTANT_LLM__MODEL__X", "1", "[llm] model is not a table", "[llm] model"),
    ("ASSISTANT_PLUGINS__CLOCK", "x", "[plugins] clock: there is no such setting", "[plugins.clock]"),
    ("ASSISTANT_PLUGINS__DISABLED", "say", "[plugins] disabled: expected a list", "[\"one\""),
])
def test_a_mistake_in_a_variable_names_the_variable(
    paths: Paths, variable: str, text: str, message: str, hint: str,
) -> None:
    error = _refused(paths, "[llm]\nmodel = 'x'", **{variable: text})
    assert error.message.startswith(f"{variable}: {message}")
    assert hint in error.hint


def test_variables_of_others_are_left_alone(paths: Paths) -> None:
    assert load(paths, {"ASSISTANT_ID": "7", "ASSISTANTS": "x", "assistant_llm__model": "x"}) == Settings()


def test_the_environment_is_the_default(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ASSISTANT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ASSISTANT_LLM__MODEL", "mine")
    assert load(paths).llm.model == "mine"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Settings().llm.model = "x"  # type: ignore[misc]


class Sample(PluginSettings, frozen=True):
    """A sample."""

    zone: str = "UTC"
    """Where the user lives.

    An IANA name."""
    hours: int | None = None
    """Twelve or twenty-four."""
    names: list[str] = msgspec.field(default_factory=lambda: ["a", 'b"c'])
    """Some names."""
    marks: dict[str, float] = msgspec.field(default_factory=lambda: {"x y": 1.5})
    """Some marks."""
    undocumented: bool = True


class Further(Sample, frozen=True, kw_only=True):
    """A sample with more."""

    more: int
    """Has to be set."""


def test_describe_reads_the_docstrings_under_the_fields() -> None:
    zone, hours, names, marks, undocumented, more = describe(Further)
    assert (zone.name, zone.type, zone.default) == ("zone", "str", "UTC")
    assert zone.doc == "Where the user lives.\n\nAn IANA name."
    assert (hours.type, hours.default) == ("int | None", None)
    assert names.default == ["a", 'b"c']
    assert marks.doc == "Some marks."
    assert undocumented.doc == ""
    assert (more.doc, more.default) == ("Has to be set.", msgspec.NODEFAULT)


def test_describe_says_what_is_allowed() -> None:
    types = {field.name: field.type for kind in SECTIONS.values() for field in describe(kind)}
    assert types["top_p"] == "float > 0, <= 1"
    assert types["pinned"] == "list[str]"
    assert types["level"] == '"debug" | "info" | "warning" | "error"'


@pytest.mark.parametrize("docs", [False, True])
def test_what_is_rendered_reads_back_the_same(paths: Paths, docs: bool) -> None:
    settings = _load(paths, """
    [assistant]
    system_prompt = '''He said "no" \\\\ and\nleft\\u007f. \U0001f600'''
    [llm]
    temperature = 0.1
    [llm.cluster]
    hosts = ["127.0.0.1", "user@other.local"]
    [plugins]
    disabled = ["say"]
    """)
    text = render(settings, {"sample": Sample(hours=3), "empty": PluginSettings()}, docs=docs)
    again = _load(paths, text)
    assert again.llm == settings.llm
    assert again.assistant == settings.assistant
    assert again.plugins.disabled == ["say"]
    assert msgspec.convert(again.plugins.tables, dict[str, Sample]) == {"sample": Sample(hours=3)}
    assert ("# Some names." in text) is docs


def test_a_setting_without_a_value_is_rendered_as_a_comment() -> None:
    assert "# hours =\n" in render(Settings(), {"sample": Sample()})


_texts = st.text(st.characters(codec="utf-8"))
_values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | _texts,
    lambda inner: st.lists(inner) | st.dictionaries(_texts, inner), max_leaves=10,
)


@settings(deadline=None)
@given(_values)
def test_any_value_is_emitted_as_toml(item: Any) -> None:
    assert tomllib.loads(f"x = {emit(item)}")["x"] == item


def test_not_a_number_is_emitted_too() -> None:
    assert math.isnan(tomllib.loads(f"x = {emit(math.nan)}")["x"])


def test_what_toml_has_nothing_for() -> None:
    with pytest.raises(TypeError):
        emit(object())


# The sample in the root of the source tree

SAMPLE = ROOT / "config.toml"

HEADER = """\
# Every setting with its default. Copy what you want to change to your own config.toml (`assistant config path` says
# where that is); what you leave out keeps its default, and a mistake is shown with its line. A variable beats the file:
# ASSISTANT_LLM__MODEL="starter" is `model` below [llm], ASSISTANT_PLUGINS__CLOCK__ZONE is `zone` below [plugins.clock].

"""


def _bundled() -> dict[str, type[PluginSettings]]:
    """The settings of every bundled plugin that has some."""
    found = {}
    for point in entry_points(group=GROUP):
        if point.dist is None or point.dist.name != "assistant":
            continue
        plugin: Any = import_module(point.module)
        for part in (point.attr or "").split(".") if point.attr else ():
            plugin = getattr(plugin, part)
        if hasattr(plugin, "plugin_settings"):
            found[point.name] = plugin.plugin_settings()
    return found


BUNDLED = _bundled()
TABLES: dict[str, type[msgspec.Struct]] = SECTIONS | BELOW | {f"plugins.{name}": kind for name, kind in BUNDLED.items()}


def _sample_of(table: str) -> dict[str, str]:
    """What the sample writes above each key of a table."""
    comments: list[str] = []
    found: dict[str, str] = {}
    inside = False
    for line in SAMPLE.read_text().splitlines():
        if line.startswith("["):
            inside = line == f"[{table}]"
        name, equals, _ = line.removeprefix("# ").partition(" =")
        if inside and equals and name.isidentifier():
            found[name] = "\n".join(comments)
        comments = [*comments, line.removeprefix("#").removeprefix(" ")] if line.startswith("#") else []
    return found


def test_the_sample_is_exactly_the_defaults(paths: Paths) -> None:
    settings = _load(paths, SAMPLE.read_text())
    raw = tomllib.loads(SAMPLE.read_text())
    assert {name: kind() for name, kind in SECTIONS.items()} == {name: getattr(settings, name) for name in SECTIONS}
    assert settings.plugins.disabled == []
    for name, kind in BUNDLED.items():
        assert msgspec.convert(raw["plugins"].get(name, {}), kind) == kind()
    assert {*raw["plugins"]} - {"disabled"} <= {*BUNDLED}


@pytest.mark.parametrize("table", TABLES)
def test_the_sample_has_every_setting_with_its_docstring(table: str) -> None:
    kind = TABLES[table]
    assert _sample_of(table) == {field.name: field.doc for field in describe(kind)}, (
        "write the sample anew: python tests/test_config.py"
    )


@pytest.mark.parametrize("table", TABLES)
def test_every_setting_has_a_docstring_and_a_default(table: str) -> None:
    for field in describe(TABLES[table]):
        assert field.doc, f"[{table}] {field.name} has no docstring"
        assert field.default is not msgspec.NODEFAULT, f"[{table}] {field.name} has no default"


@pytest.mark.parametrize("table", BUNDLED)
def test_the_settings_of_bundled_plugins_refuse_unknown_keys(table: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({"surely_no_setting": 1}, BUNDLED[table])


@pytest.mark.parametrize("name", SECTIONS | BELOW)
def test_every_section_is_strict_and_described(name: str) -> None:
    kind = (SECTIONS | BELOW)[name]
    assert issubclass(kind, Section)
    assert kind.__doc__
    for field in msgspec.structs.fields(kind):
        if field.type not in (str, bool) and not fields_of(field.type):
            assert get_args(field.type), f"[{name}] {field.name} has no range"


def test_the_sample_suits_the_plugins_that_are_installed(paths: Paths) -> None:
    settings = _load(paths, SAMPLE.read_text())
    host = PluginHost(settings, paths, lambda event: None)
    host.load()
    host.close()
    assert [problem for problem in host.problems if "config.toml" in problem] == []
    assert [(plugin.name, plugin.reason) for plugin in host.plugins if plugin.state != "loaded"] == []


if __name__ == "__main__":
    SAMPLE.write_text(HEADER + render(Settings(), {name: kind() for name, kind in BUNDLED.items()}, docs=True))
