"""A daemon that follows a script: the real wire on a real Unix socket, and no engines behind it.

``python fake_daemon.py SOCKET`` runs one until it is asked to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec
import uvicorn

from assistant import events, wire
from assistant.errors import AssistantError, ModelNotFound, SessionNotFound, VoiceError
from assistant.events import Event
from assistant.wire import Cancel, Command, EndAudio, Listen, Say

SESSION = wire.SessionInfo(
    id="0123456789abcdef0123456789abcdef", title="The capital", channel="cli", created_at=1e9, updated_at=1e9,
    messages=2,
)  # fmt: skip
MODEL = wire.ModelInfo(name="starter", present=True, folder="/models/starter", bytes=92_871_040, licence="Apache-2.0")
TRANSCRIPT = wire.Transcript(text="hello world", language="en", seconds=1.0)
VOICE = wire.VoiceInfo(
    state="idle", microphone="open", device="Desk microphone", output_device="Loudspeaker", wake_words=("hey_jarvis",),
    duplex="full", attenuation_db=None, recording=False, overflows=0, listened_seconds=1.5,
)  # fmt: skip
AFTER: dict[str, dict[str, str]] = {
    "mute": {"microphone": "muted", "state": "muted"},
    "unmute": {"microphone": "open", "state": "idle"},
    "talk": {"state": "listening"},
    "release": {"state": "thinking"},
}
"""What an action changes."""

Step = Event | str | float
"""An event to send; ``cancel``: wait for it; ``die``: cut the connection; ``audio``: wait for its end; or seconds."""


def text(*pieces: str) -> list[Step]:
    """A complete answer in these pieces."""
    deltas: list[Step] = [events.TextDelta(text=piece) for piece in pieces]
    return [events.TurnStarted(source="text"), *deltas, events.TurnFinished(reason="complete", text="".join(pieces))]


def failed(code: str, message: str, *, permanent: bool, hint: str = "") -> list[Step]:
    """A turn that fails."""
    error = events.ErrorInfo(code=code, message=message, hint=hint, permanent=permanent)
    return [events.TurnStarted(source="text"), events.TurnFinished(reason="failed", error=error)]


def cancelled(*pieces: str) -> list[Step]:
    """An answer that goes on until it is cancelled."""
    return [*text(*pieces)[:-1], "cancel", events.TurnFinished(reason="cancelled", text="".join(pieces))]


@dataclass
class FakeDaemon:
    """What the daemon will do, and what it was asked."""

    socket: Path
    script: Sequence[Step] = field(default_factory=lambda: text("Paris"))
    commands: list[Command] = field(default_factory=list)
    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Method, target and body of every HTTP request but the polls for the status."""
    audio: bytearray = field(default_factory=bytearray)
    pid: int = field(default_factory=os.getpid)
    progress: Sequence[Event] = ()
    """Sent to every connection while a model is pulled."""
    stopped: threading.Event = field(default_factory=threading.Event)
    plugins: list[wire.PluginInfo] = field(default_factory=list)
    engines: tuple[wire.EngineInfo, ...] = ()
    models: tuple[wire.LoadedModel, ...] = ()
    hangs: bool = False
    """Requests are accepted and never answered."""
    hanging: bool = False
    """A request is waiting."""
    voice: wire.VoiceInfo | None = None
    actions: list[str] = field(default_factory=list)
    """What the listening loop was asked for."""
    heard: dict[str, Sequence[Event]] = field(default_factory=dict)
    """Sent to every connection after such an action."""
    refusal: AssistantError | None = None
    """Why it cannot listen."""
    stubborn: bool = False
    """The microphone stays as it is."""
    on_listen: Callable[[], None] = lambda: None
    """Called when it is asked to listen."""
    stale: Sequence[Event] = ()
    """Sent to every connection before it listens."""
    simulated: Sequence[Event] = ()
    """What a simulation gives; without any it is refused."""
    _links: list[asyncio.Queue[Event]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI application."""
        if scope["type"] == "websocket":
            await self._turns(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _turns(self, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        cancel, spoken = asyncio.Event(), asyncio.Event()
        extra: asyncio.Queue[Event] = asyncio.Queue()
        self._links.append(extra)
        tasks = [asyncio.create_task(_forward(extra, send))]
        while (message := await receive())["type"] == "websocket.receive":
            if message.get("bytes") is not None:
                self.audio += message["bytes"]
                continue
            command = msgspec.json.decode(message["text"], type=Command)
            self.commands.append(command)
            if isinstance(command, Say | Listen):
                tasks.append(asyncio.create_task(self._play(command, cancel, spoken, send)))
            elif isinstance(command, Cancel):
                cancel.set()
            elif isinstance(command, EndAudio):
                spoken.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _play(self, command: Say | Listen, cancel: asyncio.Event, spoken: asyncio.Event, send: Any) -> None:
        for step in self.script:
            match step:
                case "cancel":
                    await cancel.wait()
                case "audio":
                    await spoken.wait()
                case "die":
                    await send({"type": "websocket.close", "code": 1011})
                    return
                case float():
                    await asyncio.sleep(step)
                case msgspec.Struct():
                    await send(_message(msgspec.structs.replace(step, session_id=SESSION.id, turn_id=command.turn_id)))

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if self.hangs:
            self.hanging = True
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        target = scope["raw_path"].decode() + ("?" + scope["query_string"].decode() if scope["query_string"] else "")
        if target != "/api/status":
            self.requests.append((scope["method"], target, body))
        headers = [(b"content-type", b"application/json")]
        try:
            status, answer = 200, await self._route(scope["method"], target.partition("?")[0], scope, body)
        except AssistantError as error:
            info = events.ErrorInfo(code=error.code, message=error.message, hint=error.hint, permanent=error.permanent)
            status, answer = 404, wire.ErrorBody(error=info)
        if isinstance(answer, bytes):
            headers.append((b"x-sample-rate", b"16000"))
        content = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
        headers.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _route(self, method: str, path: str, scope: Any, body: bytes) -> object:
        kind, _, name = path.removeprefix("/api/").partition("/")
        match method, kind:
            case "GET", "status":
                return self.status()
            case "POST", "stop":
                self.stopped.set()
            case "GET", "plugins":
                return self.plugins
            case "GET", "search":
                return self._search(parse_qs(scope["query_string"].decode())["q"][0])
            case _, "sessions":
                return self._sessions(name)
            case "POST", "models":
                return await self._pull(msgspec.json.decode(body)["name"])
            case _, "models":
                return self._models(unquote(name))
            case "POST", "transcribe":
                return TRANSCRIPT
            case "POST", "speak":
                return b"\x01\x02" * 1600
            case "POST", "voice" if name == "simulate":
                return self._simulation()
            case "POST", "voice":
                return self._voice(msgspec.json.decode(body)["action"])
            case "GET", "voice":
                return self.voice
        return {}

    def status(self) -> wire.Status:
        """What ``/api/status`` says."""
        return wire.Status(
            version="0.1.0", pid=self.pid, started_at=time.time() - 90, rss=90_000_000, cpu_percent=0.5,
            socket=str(self.socket), llm="mlx:starter", stt="moonshine", tts="espeak",
            lanes=(wire.LaneInfo(name="gpu", state="up", pid=77, engines=("llm:mlx:starter",), rss=400_000_000),),
            engines=self.engines, models=self.models, plugins_loaded=6, plugins_failed=1, live_turns=0, sessions=3,
            home_config="", voice=self.voice,
        )

    def _simulation(self) -> bytes:
        if not self.simulated:
            raise self.refusal or VoiceError("it cannot listen")
        return b"".join(events.encode(event) + b"\n" for event in self.simulated)

    def _voice(self, action: str) -> wire.VoiceInfo | None:
        self.actions.append(action)
        if action == "listen":
            self.on_listen()
            self.tell(*self.stale)
        if action == "listen" and self.refusal is not None:
            raise self.refusal
        if action == "listen" and self.voice is None:
            self.voice = VOICE
        if action not in ("listen", "stop", "leave") and self.voice is None:
            raise VoiceError("the assistant is not listening", hint="`assistant listen`")
        if self.voice is not None and not self.stubborn:
            self.voice = msgspec.structs.replace(self.voice, **AFTER.get(action, {}))
        if self.voice is not None and (action == "stop" or (action == "leave" and not self.voice.enabled)):
            self.voice = None
        answer = self.voice
        self.tell(*self.heard.get(action, ()))
        return answer

    def tell(self, *news: Event) -> None:
        """Send these to every connection."""
        if any(isinstance(event, events.VoiceStateChanged) and event.state == "off" for event in news):
            self.voice = None
        for link in self._links:
            for event in news:
                link.put_nowait(event)

    def _sessions(self, name: str) -> object:
        if not name:
            return [SESSION]
        if not SESSION.id.startswith(name):
            raise SessionNotFound(f"there is no conversation {name!r}", hint="assistant sessions list")
        asked = wire.StoredMessage(id=1, turn_id="t", role="user", text="And the capital?", at=1e9)
        told = wire.StoredMessage(id=2, turn_id="t", role="assistant", text="Paris\x1b[2J", at=1e9, state="cancelled")
        return wire.Conversation(session=SESSION, messages=(asked, told))

    def _search(self, query: str) -> list[wire.SearchHit]:
        hit = wire.SearchHit(
            session_id=SESSION.id, title=SESSION.title, message_id=2, role="assistant", at=1e9, snippet=f"[{query}]"
        )
        return [] if query == "nothing" else [hit]

    def _models(self, name: str) -> object:
        if not name:
            return [MODEL]
        if name != MODEL.name:
            raise ModelNotFound(f"there is no model {name!r}", hint="did you mean starter?")
        return MODEL

    async def _pull(self, name: str) -> wire.ModelInfo:
        self.tell(*self.progress)
        await asyncio.sleep(0.1)
        found = self._models(name)
        assert isinstance(found, wire.ModelInfo)
        return found


async def _forward(source: asyncio.Queue[Event], send: Any) -> None:
    while True:
        await send(_message(await source.get()))


def _message(event: Event) -> dict[str, str]:
    return {"type": "websocket.send", "text": events.encode(event).decode()}


@contextlib.contextmanager
def serving(daemon: FakeDaemon) -> Iterator[uvicorn.Server]:
    """Serve in a thread while the block runs, or until the daemon is asked to stop."""
    daemon.socket.parent.mkdir(parents=True, exist_ok=True)
    config = uvicorn.Config(
        daemon, uds=str(daemon.socket), http="h11", ws="websockets-sansio", lifespan="off", log_config=None,
        access_log=False, timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    ending = threading.Thread(target=_end, args=(daemon, server))
    thread.start()
    ending.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield server
    finally:
        daemon.stopped.set()
        thread.join()
        ending.join()
        daemon.socket.unlink(missing_ok=True)


def _end(daemon: FakeDaemon, server: uvicorn.Server) -> None:
    daemon.stopped.wait()
    time.sleep(0.1)
    server.should_exit = True


def run_script(check: Callable[[FakeDaemon], None] = lambda daemon: None) -> None:
    """Be a daemon at the socket that the command line names, until it is asked to stop."""
    daemon = FakeDaemon(Path(sys.argv[1]))
    with serving(daemon):
        check(daemon)
        daemon.stopped.wait()


if __name__ == "__main__":
    run_script()
