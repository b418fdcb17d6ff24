"""Settings: ``config.toml``, overridden by ``ASSISTANT_*`` variables, strictly checked.

``config.toml`` in the root of the source tree lists every setting with its default.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from .errors import ConfigError
from .hookspecs import PluginSettings
from .paths import Paths
from .tomlfile import Key, Source, convert, emit, fields_of, keys_of, label, nearest, read, value, variable_name

__all__ = [
    "AssistantSettings", "ClusterSettings", "Field", "LaneSettings", "LlmSettings", "LogSettings", "PluginTable",
    "ServerSettings", "SessionSettings", "Settings", "SttSettings", "ToolSettings", "TtsSettings", "describe", "load",
    "render",
]

PREFIX = "ASSISTANT_"
"""What a variable that overrides a setting begins with."""

NOT_SETTINGS = frozenset({"ASSISTANT_HOME"})
"""Variables that begin so and are no settings."""

Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration."""


class AssistantSettings(Section, frozen=True):
    """Who the assistant is."""

    language: Annotated[str, Meta(pattern=r"^([A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*)?$")] = "en"
    """The language you speak, as a BCP 47 tag such as "en"; empty lets the recogniser decide."""
    system_prompt: str = "You are a helpful assistant."
    """What the model is told before every conversation."""


class ClusterSettings(Section, frozen=True):
    """Machines that run one language model together, each holding a share of every layer."""

    hosts: list[Annotated[str, Meta(pattern=r"^[^\s,-][^\s,]*$")]] = []
    """Address or ssh name of each, this machine first; the others are reached by ssh. Empty: this machine alone."""
    backend: Literal["ring", "jaccl"] = "ring"
    """How they talk: "ring" is TCP over any network, "jaccl" is RDMA over Thunderbolt 5 and needs a hostfile."""
    python: str = ""
    """The Python in which this assistant is installed on the other machines; empty: the same path as here."""
    hostfile: str = ""
    """A file that `mlx.distributed_config` wrote, in place of hosts; empty: none."""


class LlmSettings(Section, frozen=True):
    """The language model."""

    engine: str = "auto"
    """Which plugin's engine answers; "auto" takes the first that can run on this machine."""
    model: str = ""
    """"starter", "hf:organisation/name" or a folder; empty: the engine's own default."""
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] = 512
    """The longest answer, in tokens."""
    temperature: Annotated[float, Meta(ge=0, le=2)] = 0.0
    """0 gives the same answer every time; up to 2 for more variety."""
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Choose among the likeliest tokens that make up this share of the probability; 1 for all."""
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Choose among so many of the likeliest tokens; 0 for all."""
    min_p: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Leave out tokens less likely than this share of the likeliest one's probability; 0 for none."""
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] = 1.0
    """Above 1 makes words of the recent text less likely, against models that repeat themselves; 1 is off."""
    history_messages: Annotated[int, Meta(ge=0, le=10_000)] = 100
    """How many earlier messages of the conversation the model reads at most."""
    reasoning_budget: Annotated[int, Meta(ge=-1, le=1_000_000)] = -1
    """Most tokens that a model which reasons may spend on that before it answers; -1 for no limit, 0 for none.
    A turn that is spoken never waits for any."""
    draft_model: str = ""
    """A smaller model of the same family that guesses tokens ahead when one request runs alone; empty: none."""
    adapter: str = ""
    """A LoRA adapter to answer with: a name that `assistant finetune` gave, or a folder; empty: the model as it is."""
    idle_minutes: Annotated[float, Meta(ge=0, le=525_600)] = 30.0
    """A model that nobody used for so long is unloaded, and its memory returned; 0 keeps it."""
    max_loaded: Annotated[int, Meta(ge=1, le=100)] = 2
    """How many language models may be loaded at once; the one used least recently makes room."""
    pinned: list[str] = []
    """Models that are never unloaded to make room or for idleness."""
    cluster: ClusterSettings = ClusterSettings()


class SttSettings(Section, frozen=True):
    """Speech to text."""

    engine: str = "auto"
    """Which plugin's engine listens; "auto" takes the first that can run on this machine."""
    model: str = ""
    """Its model; empty: the engine's own default."""


class TtsSettings(Section, frozen=True):
    """Text to speech."""

    engine: str = "auto"
    """Which plugin's engine speaks; "auto" takes the first that can run on this machine."""
    voice: str = ""
    """The engine's name of a voice; empty: its default."""


class WakeSettings(Section, frozen=True):
    """What one wake word leads to."""

    threshold: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """The score that counts; 0 takes the detector's own."""
    session: str = ""
    """The conversation that it goes on with; empty: the newest one that was spoken."""
    model: str = ""
    """The language model that answers; empty: the configured one."""
    persona: str = ""
    """What the model is told in place of the system prompt; empty: the system prompt."""


class VoiceSettings(Section, frozen=True):
    """Always listening: microphone, wake words, turns and the loudspeaker."""

    enabled: bool = False
    """Listen while the daemon runs; `assistant listen` does so in the foreground."""
    input_device: str = ""
    """The microphone: a part of its name; empty: the system's default."""
    output_device: str = ""
    """The loudspeaker: a part of its name; empty: the system's default."""
    wake_words: list[str] = msgspec.field(default_factory=lambda: ["hey_jarvis"])
    """The phrases that wake it, as `assistant wake list` names them; with none it answers everything it hears."""
    wake: dict[str, WakeSettings] = {}
    """A table [voice.wake.NAME] of its own for each wake word that leads somewhere else."""
    second_look: str = ""
    """Who must agree before a wake word counts: "stt" (speech-to-text looks for the words), or another detector, such
    as "open_hey_jarvis"; empty: nobody. Fewer false ones, and some hundred milliseconds."""
    patience: Literal["aggressive", "balanced", "relaxed"] = "balanced"
    """How long a pause must be before the words count as over."""
    barge_in: bool = True
    """Speaking over the answer stops it."""
    echo: Literal["auto", "half", "off"] = "auto"
    """"auto" cancels the own sound, and hears nothing while it speaks where that fails; "half" always does the latter;
    "off" is for headphones."""
    speculate: bool = True
    """Begin to answer in a pause that may be the end; thrown away if the words go on."""
    follow_up_seconds: Annotated[float, Meta(ge=0, le=120)] = 8.0
    """After an answer that asks something, how long words are taken without the wake word; 0 for never."""
    earcons: bool = True
    """Short sounds: woken, heard, not understood."""
    volume: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """Of everything it plays."""
    ring_seconds: Annotated[float, Meta(ge=1, le=3600)] = 60.0
    """How long a timer rings that nobody stops."""
    record: bool = False
    """Keep what is said to it as WAV files in the data folder, for finding faults; `assistant status` shows it."""


class LaneSettings(Section, frozen=True):
    """The processes that the engines run in, and when they are restarted."""

    heartbeat_seconds: Seconds = 2.0
    """How often a process says that it is alive."""
    step_seconds: Seconds = 120.0
    """The longest single step (one token, one piece of a prompt or of speech) before a process counts as hung."""
    load_seconds: Seconds = 900.0
    """The longest that loading a model may take."""
    restart_limit: Annotated[int, Meta(ge=0, le=1000)] = 5
    """After this many crashes within the window a process stays down."""
    restart_window_seconds: Seconds = 300.0
    """The window in which crashes are counted."""
    backoff_seconds: Seconds = 0.5
    """The wait before the first restart; each further one doubles it."""
    backoff_limit_seconds: Seconds = 30.0
    """The longest wait before a restart."""


class SessionSettings(Section, frozen=True):
    """Conversations."""

    resume_minutes: Annotated[int, Meta(ge=0, le=525_600)] = 60
    """New words continue the last conversation if it is at most this old; 0 begins a new one each time."""


class ToolSettings(Section, frozen=True):
    """What the assistant may do in a turn."""

    max_rounds: Annotated[int, Meta(ge=0, le=100)] = 4
    """How often the model may call tools, see the results and call again before it must answer."""
    timeout_seconds: Seconds = 30.0
    """The longest that any tool may take; a tool may have a shorter limit of its own."""


class ServerSettings(Section, frozen=True):
    """How programs reach the daemon besides its Unix socket."""

    listen: str = ""
    """Address and port for OpenAI-compatible clients, such as "127.0.0.1:11535"; empty: the Unix socket only."""


class LogSettings(Section, frozen=True):
    """The daemon's log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important messages that are written."""


@dataclass(frozen=True)
class PluginTable:
    """Plugins: which stay off, and a table of its own for each that has settings."""

    disabled: list[str] = dataclass_field(default_factory=list)
    """Names of plugins that are not loaded."""
    tables: dict[str, dict[str, Any]] = dataclass_field(default_factory=dict)
    """The table of each plugin as it was read; its plugin knows what it may hold."""
    source: Source = dataclass_field(default_factory=Source, compare=False, repr=False)
    """Where all this was read from."""


class Settings(Section, frozen=True):
    """The whole configuration."""

    assistant: AssistantSettings = AssistantSettings()
    llm: LlmSettings = LlmSettings()
    stt: SttSettings = SttSettings()
    tts: TtsSettings = TtsSettings()
    voice: VoiceSettings = VoiceSettings()
    lanes: LaneSettings = LaneSettings()
    sessions: SessionSettings = SessionSettings()
    tools: ToolSettings = ToolSettings()
    server: ServerSettings = ServerSettings()
    log: LogSettings = LogSettings()
    plugins: PluginTable = msgspec.field(default_factory=PluginTable)


def load(paths: Paths, environ: Mapping[str, str] | None = None) -> Settings:
    """The configuration of this user; without a file, the defaults.

    Raises:
        ConfigError: something in the file or the environment is wrong; names the place, the key and the nearest key.
    """
    raw, source = read(paths.config_file)
    overrides = _overrides(os.environ if environ is None else environ)
    source = Source(source.file, source.text, overrides)
    for key, (variable, text) in overrides.items():
        _put(raw, key, value(text), variable)
    table = _plugin_table(raw.pop("plugins", {}), source)
    return msgspec.structs.replace(convert(raw, Settings, source), plugins=table)


def _plugin_table(raw: Any, source: Source) -> PluginTable:
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{source.where(('plugins',))}: [plugins]: expected a table, got `{type(raw).__name__}`",
            hint='write `[plugins]` and below it `disabled = ["name"]`',
        )
    disabled = raw.pop("disabled", [])
    if not isinstance(disabled, list) or not all(isinstance(name, str) for name in disabled):
        where = source.where(("plugins", "disabled"))
        raise ConfigError(f"{where}: [plugins] disabled: expected a list of names", hint='write it like ["one", "two"]')
    for name, table in raw.items():
        if not isinstance(table, dict):
            close = "disabled" if nearest(name, ["disabled"]) else ""
            raise ConfigError(
                f"{source.where(('plugins', name))}: [plugins] {name}: there is no such setting",
                hint=f"did you mean {close}?" if close else f"a plugin's settings go below `[plugins.{name}]`",
            )
    return PluginTable(disabled, raw, source)


def _overrides(environ: Mapping[str, str]) -> dict[Key, tuple[str, str]]:
    """The settings that the environment names; the key of each, its variable and its text."""
    settings = {variable_name(key) for key in keys_of(Settings)}
    known = [name.removeprefix(PREFIX) for name in settings | NOT_SETTINGS | {variable_name(("plugins", "disabled"))}]
    found: dict[Key, tuple[str, str]] = {}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS:
            continue
        key = tuple(variable.removeprefix(PREFIX).lower().split("__"))
        if len(key) > 1 and all(key):
            found[key] = (variable, text)
            continue
        close = nearest(variable.removeprefix(PREFIX), known)
        if close or key[0] in fields_of(Settings):
            hint = f"did you mean {PREFIX}{close}?" if close else f"a setting is {variable}__NAME"
            raise ConfigError(f"{variable}: there is no such setting", hint=hint)
    return found


def _put(raw: dict[str, Any], key: Key, item: Any, variable: str) -> None:
    table = raw
    for depth, name in enumerate(key[:-1], start=1):
        inner = table.setdefault(name, {})
        if not isinstance(inner, dict):
            hint = f"it would be a setting of {label(key[:depth])}"
            raise ConfigError(f"{variable}: {label(key[:depth])} is not a table", hint=hint)
        table = inner
    table[key[-1]] = item


class Field(msgspec.Struct, frozen=True):
    """One setting, for people."""

    name: str
    type: str
    default: Any
    """``msgspec.NODEFAULT`` where it must be set."""
    doc: str
    """The docstring under the attribute."""


def describe(kind: type[msgspec.Struct]) -> list[Field]:
    """Every setting of a struct, in order, with the docstring under it; the tables below it have their own."""
    docs: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, msgspec.Struct) and base not in (msgspec.Struct, Section, PluginSettings):
            docs |= _attribute_docs(base)
    found = []
    for entry in msgspec.structs.fields(kind):
        if fields_of(entry.type):
            continue
        factory = entry.default_factory
        default = entry.default if factory is msgspec.NODEFAULT else factory()
        found.append(Field(entry.encode_name, _type_text(entry.type), default, docs.get(entry.name, "")))
    return found


def _attribute_docs(kind: type) -> dict[str, str]:
    import ast
    import inspect
    import textwrap

    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError, SyntaxError):
        return {}
    body = tree.body[0].body if tree.body and isinstance(tree.body[0], ast.ClassDef) else []
    docs = {}
    for statement, after in itertools.pairwise(body):
        match statement, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docs[name] = inspect.cleandoc(text)
    return docs


def _type_text(kind: Any) -> str:
    if get_origin(kind) is Annotated:
        base, *notes = get_args(kind)
        signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
        limits = [f"{sign} {getattr(note, name)}" for note in notes if isinstance(note, Meta)
                  for name, sign in signs.items() if getattr(note, name) is not None]
        return " ".join([_type_text(base), ", ".join(limits)]).strip()
    if get_origin(kind) is Literal:
        return " | ".join(emit(choice) for choice in get_args(kind))
    if get_origin(kind) is list:
        return f"list[{', '.join(_type_text(item) for item in get_args(kind))}]"
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)


def render(settings: Settings, plugins: Mapping[str, PluginSettings], *, docs: bool = False) -> str:
    """A configuration as TOML that ``load`` reads back.

    Args:
        plugins: the settings of each plugin, by its name.
        docs: write each setting's docstring above it.
    """
    parts = []
    for name in fields_of(Settings):
        if name != "plugins":
            parts += _tables(name, getattr(settings, name), docs)
    disabled = [f"disabled = {emit(settings.plugins.disabled)}"]
    if docs:
        disabled = [*_comment(_attribute_docs(PluginTable)["disabled"]), *disabled]
    parts.append("\n".join([*(_comment(PluginTable.__doc__ or "") if docs else ()), "[plugins]", *disabled]))
    chosen = {name: table for name, table in sorted(plugins.items()) if fields_of(type(table))}
    parts += [_table(f"plugins.{name}", table, docs) for name, table in chosen.items()]
    return "\n\n".join(parts) + "\n"


def _tables(name: str, settings: msgspec.Struct, docs: bool) -> list[str]:
    """A table and those below it."""
    parts = [_table(name, settings, docs)]
    for below, kind in fields_of(type(settings)).items():
        if fields_of(kind):
            parts += _tables(f"{name}.{below}", getattr(settings, below), docs)
    return parts


def _table(name: str, settings: msgspec.Struct, docs: bool) -> str:
    lines = [*(_comment(type(settings).__doc__ or "") if docs else ()), f"[{name}]"]
    values = {entry.encode_name: getattr(settings, entry.name) for entry in msgspec.structs.fields(type(settings))}
    for entry in describe(type(settings)):
        lines += _comment(entry.doc) if docs else ()
        unset = values[entry.name] is None
        lines.append(f"# {entry.name} =" if unset else f"{entry.name} = {emit(values[entry.name])}")
    return "\n".join(lines)


def _comment(doc: str) -> list[str]:
    import inspect

    return [f"# {line}".rstrip() for line in inspect.cleandoc(doc).splitlines()]
