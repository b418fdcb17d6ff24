"""Every hook a plugin may implement.

A plugin is a module or an object named by an entry point of the group ``assistant``. It implements the hooks it
needs, each marked ``@hookimpl``, and may leave out arguments that it does not use. Hooks are synchronous and
cheap: they return objects that the host then runs. A hook that raises isolates its plugin and nobody else.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec
import pluggy

if TYPE_CHECKING:
    import click

    from .engines import LanguageModel, SpeechToText, TextToSpeech, ToolCall
    from .events import Event
    from .intents import Intent
    from .tools import Tool

GROUP = "assistant"
"""The entry-point group and pluggy project name."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


class PluginSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of a plugin's settings; every field needs a default and a docstring under it."""



@dataclass(frozen=True)
class Cluster:
    """The machines that run one model together; see ``[llm.cluster]``."""

    hosts: tuple[str, ...] = ()
    """One entry a rank, this machine first; empty: no cluster."""
    backend: Literal["ring", "jaccl"] = "ring"
    """MLX's distributed back end: ``ring`` over TCP, ``jaccl`` for RDMA over Thunderbolt 5."""
    python: str = ""
    """The Python with this assistant on the other machines; empty: the same path as here."""
    hostfile: str = ""
    """A file that ``mlx.distributed_config`` wrote, in place of ``hosts``; empty: none."""


@dataclass(frozen=True)
class PluginContext:
    """What the host gives to a plugin."""

    name: str
    """The plugin's own name, which is its entry point's."""
    settings: PluginSettings
    """An instance of what ``plugin_settings`` returned, from ``[plugins.<name>]``."""
    data_dir: Path
    """A folder of the plugin's own; create it before the first write."""
    log: logging.Logger
    publish: Callable[[Event], None]
    """Puts an event on the bus; from any thread."""
    cluster: Cluster = Cluster()
    """The machines that may share a language model."""


@dataclass(frozen=True)
class Session:
    """The conversation that a hook is asked about."""

    id: str
    channel: str
    """``cli``, ``tui``, ``voice`` or ``api``."""


@dataclass(frozen=True)
class Verdict:
    """What a review says of a tool call."""

    decision: Literal["allow", "deny", "ask"]
    reason: str = ""


class ResourceProbe(Protocol):
    """Something that measures the machine."""

    name: str

    def sample(self) -> dict[str, float]:
        """Readings now, units in the names (``gpu_percent``, ``ane_watts``); what is unknown is left out."""


class WakeWord(ABC):
    """A detector of one wake phrase; runs in the daemon's audio thread, frame by frame."""

    name: str
    """How the configuration chooses it, for example ``hey_jarvis``."""
    phrase: str
    """What is said, for example ``hey jarvis``."""
    frame_samples: int
    """Samples that ``score`` takes at a time, 16 kHz mono."""
    threshold: float = 0.5
    """The score that counts when the configuration names none."""
    costly: bool = False
    """It takes more than a hundredth of a core, so it runs only while somebody speaks."""

    def available(self) -> str:
        """Why it cannot run on this machine, as one sentence naming the remedy; empty if it can."""
        return ""

    @abstractmethod
    def load(self) -> None:
        """Get ready."""

    @abstractmethod
    def score(self, frame: bytes) -> float:
        """Probability, 0 to 1, that the phrase ends in this frame of ``frame_samples`` 16-bit samples."""

    @abstractmethod
    def reset(self) -> None:
        """Forget the past audio."""

    @abstractmethod
    def close(self) -> None:
        """Give everything back."""


@dataclass(frozen=True)
class Route:
    """An HTTP route below ``/plugins/<name>/``."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    handler: Callable[[bytes], Awaitable[bytes]]
    """Takes the body of the request and returns that of the answer."""
    media_type: str = "application/json"


@hookspec
def plugin_settings() -> type[PluginSettings]:
    """The type of ``[plugins.<name>]`` in the configuration.

    Called: first of all, once. Runs on: a thread of its own, 10 s at most. Returns: a ``PluginSettings`` subclass.

    Example::

        class Settings(PluginSettings, frozen=True):
            units: str = "metric"

        @hookimpl
        def plugin_settings() -> type[PluginSettings]:
            return Settings
    """
    raise NotImplementedError


@hookspec
def register_stt(context: PluginContext) -> Iterable[SpeechToText]:
    """Speech-to-text engines.

    Called: once, at start. Runs on: a thread of its own, 10 s at most. Returns: engines that are not loaded yet.

    Example::

        @hookimpl
        def register_stt(context):
            yield Moonshine()
    """
    raise NotImplementedError


@hookspec
def register_llm(context: PluginContext) -> Iterable[LanguageModel]:
    """Language-model engines.

    Called: once, at start. Runs on: a thread of its own, 10 s at most. Returns: engines that are not loaded yet.

    Example::

        @hookimpl
        def register_llm(context):
            yield MlxLanguageModel(name="mlx")
    """
    raise NotImplementedError


@hookspec
def register_tts(context: PluginContext) -> Iterable[TextToSpeech]:
    """Text-to-speech engines.

    Called: once, at start. Runs on: a thread of its own, 10 s at most. Returns: engines that are not loaded yet.

    Example::

        @hookimpl
        def register_tts(context):
            yield Espeak(name="espeak")
    """
    raise NotImplementedError


@hookspec
def register_wake_words(context: PluginContext) -> Iterable[WakeWord]:
    """Wake-word detectors.

    Called: once, when listening is switched on. Runs on: the daemon's thread. Returns: detectors not loaded yet.

    Example::

        @hookimpl
        def register_wake_words(context):
            yield HeyJarvis()
    """
    raise NotImplementedError


@hookspec
def register_tools(context: PluginContext) -> Iterable[Tool]:
    """Tools that the model and the intents may call.

    Called: once, at start. Runs on: a thread of its own, 10 s at most. Returns: tools; a name taken by an earlier
    plugin fails the later one.

    Example::

        def roll_die(sides: int = 6) -> str:
            "Roll a die and say what came up."
            return str(random.randint(1, sides))

        @hookimpl
        def register_tools(context):
            yield Tool.of(roll_die)
    """
    raise NotImplementedError


@hookspec
def register_intents(context: PluginContext) -> Iterable[Intent]:
    """Sentences that call a tool without a model.

    Called: once, after every plugin's tools are known. Runs on: a thread of its own, 10 s at most. Returns:
    intents, each naming a tool that exists.

    Example::

        @hookimpl
        def register_intents(context):
            yield Intent(tool="roll_die", sentences=("roll a (die|dice)",))
    """
    raise NotImplementedError


@hookspec
def register_resource_probes(context: PluginContext) -> Iterable[ResourceProbe]:
    """Things that measure the machine.

    Called: once, at start. Runs on: a thread of its own, 10 s at most; ``sample`` in a worker thread, only while
    somebody looks. Returns: probes.

    Example::

        @hookimpl
        def register_resource_probes(context):
            yield BatteryProbe()
    """
    raise NotImplementedError


@hookspec
def register_commands(context: PluginContext) -> Iterable[click.Command]:
    """Subcommands of ``assistant``.

    Called: once, in the command line's process, when a command is asked for that is not built in. Runs on: its main
    thread. Returns: click commands.

    Example::

        @hookimpl
        def register_commands(context):
            @click.command()
            def hello():
                click.echo("hello")
            yield hello
    """
    raise NotImplementedError


@hookspec
def register_routes(context: PluginContext) -> Iterable[Route]:
    """HTTP routes below ``/plugins/<name>/`` on the daemon's socket.

    Called: once, before the server starts. Runs on: a thread of its own, 10 s at most; handlers on the daemon's
    event loop. Returns: routes.

    Example::

        async def ping(body: bytes) -> bytes:
            return b'"pong"'

        @hookimpl
        def register_routes(context):
            yield Route("GET", "ping", ping)
    """
    raise NotImplementedError


@hookspec
def lifespan(context: PluginContext) -> AbstractAsyncContextManager[None]:
    """Background work.

    Called: once, after all plugins are registered. Runs on: the daemon's event loop, entered before the server
    starts and left before the lanes close. Returns: an async context manager; it must not block.

    Example::

        @hookimpl
        @asynccontextmanager
        async def lifespan(context):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(poll)
                yield
                tasks.cancel_scope.cancel()
    """
    raise NotImplementedError


@hookspec
def prompt_parts(session: Session) -> str | None:
    """Text for the system prompt; the parts are joined in the order of the plugins' names.

    Called: at every turn that reaches a model. Runs on: the daemon's thread, so it must be quick. Returns: a
    sentence or two, or None. It stands at the very beginning of the prompt, and an engine that remembers what it has
    read starts anew where a prompt differs: a part that changes from turn to turn (the time, a counter) makes every
    turn read the whole conversation again. Offer a tool for what changes.

    Example::

        @hookimpl
        def prompt_parts(session):
            return "The user prefers metric units."
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def review_tool_call(call: ToolCall, session: Session) -> Verdict | None:
    """Judge a tool call before it runs.

    Called: before every call, of a model's or an intent's. Runs on: the daemon's thread. Returns: a verdict, or
    None for no opinion; the first verdict counts, plugins being asked in the order of their names. A review that
    raises denies the call.

    Example::

        @hookimpl
        def review_tool_call(call, session):
            if call.name == "shell" and session.channel == "voice":
                return Verdict("deny", "not by voice")
    """
    raise NotImplementedError


@hookspec
def on_event(event: Event) -> None:
    """Observe everything that happens.

    Called: for every event, in order. Runs on: a worker thread of the plugin's own behind a bounded queue; an
    observer that falls behind loses events, nobody waits for it.

    Example::

        @hookimpl
        def on_event(event):
            if isinstance(event, TimerFired):
                flash_the_lamp()
    """
    raise NotImplementedError
