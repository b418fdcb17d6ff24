"""A whole assistant in this process, with a virtual microphone and loudspeaker.

    async with VoiceHarness({"mine": my_plugin}) as harness:
        result = await harness.run(Timeline().wake().say("roll a die"))
"""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import msgspec

from assistant.config import PluginTable, Settings
from assistant.daemon import running
from assistant.engines import Engine, LanguageModel, SpeechToText, TextToSpeech
from assistant.errors import EngineNotFound, VoiceError
from assistant.events import Event
from assistant.hookspecs import GROUP, WakeWord
from assistant.intents import IntentMatcher
from assistant.paths import Paths, find
from assistant.services import Services
from assistant.turn import Parts
from assistant.voice.frames import RATE
from assistant.voice.front import FrontEnd
from assistant.voice.loop import VoiceLoop
from assistant.voice.playback import Playback

from .activity import Activity, Canceller
from .audio import EchoPath
from .engines import Replies, ScriptedLanguageModel
from .known import KnownSpeechToText
from .parts import activity_for, alone, canceller_for, turns_for
from .plugin import OfferingPlugin
from .result import HarnessResult, Noted, is_noted
from .script import Script
from .timeline import Timeline
from .tones import ScriptedWakeWord, ToneTextToSpeech
from .virtual import VirtualAudio

if TYPE_CHECKING:
    from assistant.voice.smart_turn import SmartTurn

SCRIPTED = "scripted"
"""The name of the plugin with the harness's own engines."""


class VoiceHarness:
    """Runs timelines through a daemon's plugins, lanes, store, sessions, turns and listening loop, all real.

    Only what hears, thinks and speaks is scripted, unless the test brings its own.

    Args:
        plugins: what is tested, by the names the plugins would have.
        replies: what the language model answers, see ``ScriptedLanguageModel``.
        installed: names of installed plugins that take part too, for example ``clock``.
        settings: the configuration; the harness adds the engines, and the plugins that stay off.
        stt, llm, tts: an engine, or the name of one that a plugin offers.
        wake_words: detectors, or the names of some that a plugin offers; with none, all that is said is meant.
        echo: how the loudspeaker is heard by the microphone; None: not at all.
        canceller: takes that out again; by default the assistant's own if there is an echo.
        activity: finds speech, or the folder of the model ``silero-vad``; by default its loudness tells.
        turns: judges pauses, or the folder of the model ``smart-turn``; None: their length decides.
        speaker: a loaded voice that says what a timeline says; by default espeak.
        home: a folder for the assistant's files; by default one that is deleted.
    """

    def __init__(
        self,
        plugins: Mapping[str, object] = MappingProxyType({}),
        *,
        replies: Replies = (),
        installed: Sequence[str] = (),
        settings: Settings | None = None,
        stt: SpeechToText | str | None = None,
        llm: LanguageModel | str | None = None,
        tts: TextToSpeech | str | None = None,
        wake_words: Sequence[WakeWord | str] | None = None,
        echo: EchoPath | None = None,
        canceller: Canceller | None = None,
        activity: Activity | Path | None = None,
        turns: SmartTurn | Path | None = None,
        speaker: TextToSpeech | None = None,
        home: Path | None = None,
    ) -> None:
        self.ear: SpeechToText | str = KnownSpeechToText() if stt is None else stt
        self.model: LanguageModel | str = ScriptedLanguageModel(replies) if llm is None else llm
        self.mouth: TextToSpeech | str = ToneTextToSpeech() if tts is None else tts
        self.wake_words = [ScriptedWakeWord()] if wake_words is None else list(wake_words)
        self._given = plugins
        self._installed = installed
        self._settings = settings or Settings()
        self._echo = echo
        self._canceller = canceller
        self._activity = activity
        self._turns = turns
        self._speaker = speaker
        self._home = home
        self._stack = AsyncExitStack()
        self._noted: list[Noted] = []
        self._services: Services | None = None
        self._audio: VirtualAudio | None = None

    @property
    def services(self) -> Services:
        """The daemon's parts, while it runs."""
        if self._services is None:
            raise VoiceError("the harness is not running", hint="use it with `async with`")
        return self._services

    @property
    def audio(self) -> VirtualAudio:
        """The devices, while it runs."""
        if self._audio is None:
            raise VoiceError("the harness is not running", hint="use it with `async with`")
        return self._audio

    async def __aenter__(self) -> VoiceHarness:
        with alone():
            await self._start()
        return self

    async def _start(self) -> None:
        async with AsyncExitStack() as stack:
            daemon = running(self._configured(), self._paths(stack), _nothing, given=self._plugins())
            self._services = await stack.enter_async_context(daemon)
            self._check(self._services)
            self._audio = await stack.enter_async_context(self._listening(self._services))
            self._stack = stack.pop_all()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with alone():
                await self._stack.__aexit__(kind, error, trace)
        finally:
            self._services = self._audio = None

    async def run(self, timeline: Timeline, *, rest: float = 30.0) -> HarnessResult:
        """Say a timeline; what came of it.

        Ends when the timeline has ended and nothing goes on any more: no turn, nothing to be played, no words expected.

        Args:
            rest: seconds after the timeline until it ends in any case.

        Raises:
            AssertionError: an event that the timeline waits for never came.
        """
        rendered = timeline.render(self._speaker)
        if isinstance(self.ear, KnownSpeechToText):
            for speech in rendered.speeches:
                self.ear.learn(speech)
        audio, started = self.audio, len(self._noted)
        played, heard = len(audio.output), len(audio.microphone)
        script = Script(rendered, lambda: audio.clock, self._noted, self._calm, rest)
        await audio.run(script.frames())
        return HarnessResult(
            noted=tuple(self._noted[started:]),
            utterances=tuple(script.said),
            output=bytes(audio.output[played:]),
            microphone=bytes(audio.microphone[heard:]),
            tones=isinstance(self.mouth, ToneTextToSpeech),
            missed=script.missed,
        ).checked()

    def _calm(self) -> bool:
        """Nothing goes on."""
        audio = self.audio
        playing = audio.playback.buffered > 0 and not audio.playback.done
        return audio.loop.dialogue.state == "idle" and not playing and not self.services.sessions.live

    def _note(self, event: Event) -> None:
        if is_noted(event):
            self._noted.append(Noted(self._audio.clock if self._audio else 0.0, event))

    def _paths(self, stack: AsyncExitStack) -> Paths:
        folder = self._home or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="assistant-")))
        paths = find({"ASSISTANT_HOME": str(folder)})
        paths.make()
        return paths

    def _plugins(self) -> dict[str, object]:
        offers = [one for one in (self.ear, self.model, self.mouth, *self.wake_words) if not isinstance(one, str)]
        return {**self._given, SCRIPTED: OfferingPlugin(*offers)}

    def _configured(self) -> Settings:
        settings, table = self._settings, self._settings.plugins
        given = {*self._given, *self._installed}
        off = [point.name for point in importlib.metadata.entry_points(group=GROUP) if point.name not in given]
        names = [one if isinstance(one, str) else one.name for one in self.wake_words]
        replace = msgspec.structs.replace
        return replace(
            settings,
            stt=replace(settings.stt, engine=_name(self.ear)),
            llm=replace(settings.llm, engine=_name(self.model)),
            tts=replace(settings.tts, engine=_name(self.mouth)),
            voice=replace(settings.voice, wake_words=names, enabled=False),
            plugins=PluginTable([*table.disabled, *off], table.tables, table.source),
        )

    def _check(self, services: Services) -> None:
        """A plugin under test that could not be loaded fails the test that brought it, not something later."""
        for plugin in services.plugins.plugins:
            if plugin.name in {*self._given, *self._installed} and plugin.state != "loaded":
                raise VoiceError(f"the plugin {plugin.name!r} is {plugin.state}: {plugin.reason}")

    @asynccontextmanager
    async def _listening(self, services: Services) -> AsyncIterator[VirtualAudio]:
        from assistant.voice.wake import WakeSpotter

        settings = services.settings
        detectors = [_detector(services, name) for name in settings.voice.wake_words]
        thresholds = {name: one.threshold for name, one in settings.voice.wake.items() if one.threshold}
        spotter = WakeSpotter(detectors, thresholds)
        playback = Playback(RATE, settings.voice.volume)
        canceller: Any = self._canceller or canceller_for(settings, self._echo)
        front = FrontEnd(canceller, activity_for(self._activity), spotter, lambda: playback.sentence)
        parts = Parts(
            settings, services.bus, services.db, services.plugins, services.pool,
            IntentMatcher(services.plugins.intents), services.paths,
        )  # fmt: skip
        phrases = {one.name: one.phrase for one in detectors}
        turns = turns_for(self._turns)
        loop = VoiceLoop(parts, services.sessions, playback, phrases=phrases, smart_turn=turns, tell=_ignore)
        for kind in ("stt", "llm", "tts"):
            await services.pool.ready(kind)
        spotter.load()
        services.bus.add_observer(self._note)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.run)
                await anyio.lowlevel.checkpoint()
                yield VirtualAudio(front, loop, playback, self._echo)
                tasks.cancel_scope.cancel()
        finally:
            services.bus.remove_observer(self._note)
            spotter.close()


def run_voice(
    timeline: Timeline, plugins: Mapping[str, object] = MappingProxyType({}), **options: Any
) -> HarnessResult:
    """A harness for one timeline, for tests that are not ``async``.

    Args:
        options: what ``VoiceHarness`` takes.

    Raises:
        AssertionError: an event that the timeline waits for never came.
    """

    async def main() -> HarnessResult:
        async with VoiceHarness(plugins, **options) as harness:
            return await harness.run(timeline)

    return anyio.run(main)


def _name(engine: Engine | str) -> str:
    return engine if isinstance(engine, str) else engine.name


def _detector(services: Services, name: str) -> WakeWord:
    offered = {one.name: one for one in services.plugins.wake_words()}
    if name not in offered:
        raise EngineNotFound(f"no plugin offers the wake word {name!r}", hint=f"there are: {', '.join(offered)}")
    return offered[name]


def _nothing() -> None:
    """Nobody asks this daemon to stop."""


def _ignore(event: Event) -> None:
    """The events are taken from the bus, which has all of them."""
