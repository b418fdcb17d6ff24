"""The HTTP routes: thin, each a call of one of the daemon's parts."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import unquote

import anyio.to_thread
import msgspec
from litestar import Request, Response, delete, get, patch, post, route
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter, RawBody, SkipValidation
from litestar.types import ASGIApp

from assistant import status
from assistant.engines import Transcript
from assistant.errors import PromptError
from assistant.services import Services
from assistant.speech import transcribe
from assistant.store import STORE, Store
from assistant.wire import Conversation, ModelInfo, PluginInfo, SearchHit, SessionInfo, Status

from .speaking import SpokenAnswer

MAX_AUDIO_BYTES = 512 << 20
"""About four and a half hours of speech."""
MAX_SPOKEN_CHARACTERS = 1 << 20

Parts = NamedDependency[SkipValidation[Services]]
Limit = Annotated[int, QueryParameter(ge=1, le=1000)]
Offset = Annotated[int, QueryParameter(ge=0)]
AnyRequest = Request[Any, Any, Any]


class NewSession(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A conversation to begin; an empty title is filled by its first message."""

    title: str = ""
    channel: str = "api"


class Rename(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A conversation's new title."""

    title: str


class ModelName(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model, as the configuration names it."""

    name: str


class Pull(ModelName, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model to fetch."""

    force: bool = False
    """Also if this machine has not the memory for it."""


class Speech(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Words to say."""

    text: str
    voice: str = ""


@get("/api/status")
async def get_status(services: Parts) -> Status:
    """The daemon at a glance."""
    return await status.build(services)


@post("/api/stop", status_code=202)
async def stop(services: Parts) -> None:
    """Ask the daemon to go down in good order."""
    services.stop()


@get("/api/plugins", sync_to_thread=False)
def list_plugins(services: Parts) -> list[PluginInfo]:
    """Every plugin that was found."""
    return services.plugins.plugins


@get("/api/sessions")
async def list_sessions(services: Parts, limit: Limit = 50, offset: Offset = 0) -> list[SessionInfo]:
    """Conversations, the newest first."""
    return await services.db.call(STORE, Store.sessions, limit, offset)


@post("/api/sessions")
async def create_session(services: Parts, data: JSONBody[NewSession]) -> SessionInfo:
    """Begin a conversation."""
    return await services.db.call(STORE, Store.create_session, data.channel, data.title)


@get("/api/sessions/{session_id:str}")
async def get_session(services: Parts, session_id: FromPath[str]) -> Conversation:
    """A conversation with its messages."""
    session = await services.db.call(STORE, Store.session, session_id)
    messages = await services.db.call(STORE, Store.messages, session.id)
    return Conversation(session=session, messages=tuple(messages))


@patch("/api/sessions/{session_id:str}")
async def rename_session(services: Parts, session_id: FromPath[str], data: JSONBody[Rename]) -> SessionInfo:
    """Give a conversation another title."""
    session = await services.db.call(STORE, Store.session, session_id)
    await services.db.call(STORE, Store.rename, session.id, data.title)
    return await services.db.call(STORE, Store.session, session.id)


@delete("/api/sessions/{session_id:str}")
async def remove_session(services: Parts, session_id: FromPath[str]) -> None:
    """Forget a conversation; its live turn is cancelled first."""
    session = await services.db.call(STORE, Store.session, session_id)
    await services.sessions.cancel(session.id)
    await services.db.call(STORE, Store.remove, session.id)


@get("/api/search")
async def search(services: Parts, q: FromQuery[str], limit: Limit = 20) -> list[SearchHit]:
    """Messages that match, the best first."""
    return await services.db.call(STORE, Store.search, q, limit)


@get("/api/models")
async def list_models(services: Parts) -> list[ModelInfo]:
    """Models that are known, on the disk or loaded."""
    found = await anyio.to_thread.run_sync(services.models.known)
    names = {model.name for model in found}
    held = dict.fromkeys(each.model for each in services.pool.residency.loaded() if each.model not in names | {""})
    found += [await anyio.to_thread.run_sync(services.models.info, name) for name in held]
    return [services.pool.residency.describe(model) for model in found]


@post("/api/models/pull", status_code=200)
async def pull_model(services: Parts, data: JSONBody[Pull]) -> ModelInfo:
    """Fetch a model if it is absent; answers when it is there, progress comes as events."""
    await services.models.resolve(data.name, force=data.force)
    return await _describe(services, data.name)


@post("/api/models/load", status_code=200)
async def load_model(services: Parts, data: JSONBody[ModelName]) -> ModelInfo:
    """Load a language model, which is fetched if it is absent; answers when it can be used."""
    async with services.pool.using("llm", model=data.name):
        return await _describe(services, data.name)


@post("/api/models/unload", status_code=204)
async def unload_model(services: Parts, data: JSONBody[ModelName]) -> None:
    """Unload a language model that is not in use; the last engine of a lane takes its process with it."""
    await services.pool.residency.unload(data.name)


@get("/api/models/{name:path}")
async def get_model(request: AnyRequest, services: Parts, name: FromPath[str]) -> ModelInfo:
    """One model."""
    return await _describe(services, _model_name(request))


@delete("/api/models/{name:path}")
async def remove_model(request: AnyRequest, services: Parts, name: FromPath[str]) -> None:
    """Delete a model from the disk; it is unloaded first."""
    name = _model_name(request)
    if services.pool.residency.has_language_model(name):
        await services.pool.residency.unload(name)
    await services.models.remove(name)


@post("/api/transcribe", status_code=200, request_max_body_size=MAX_AUDIO_BYTES)
async def transcribe_audio(services: Parts, body: RawBody, language: FromQuery[str] = "") -> Transcript:
    """What is said in the body: 16 kHz 16-bit little-endian mono PCM."""
    return await transcribe(services.pool, bytes(body), language or services.settings.assistant.language)


@post("/api/speak", status_code=200, media_type="audio/L16")
async def speak_text(services: Parts, data: JSONBody[Speech]) -> ASGIApp:
    """The words as speech, sent as it is made: 16-bit little-endian mono PCM at the rate in ``X-Sample-Rate``."""
    if not data.text.strip():
        raise PromptError("there is nothing to say", hint='give some text: {"text": "hello"}')
    if len(data.text) > MAX_SPOKEN_CHARACTERS:
        raise PromptError(f"the text has {len(data.text):,} characters; at most {MAX_SPOKEN_CHARACTERS:,} are spoken")
    return SpokenAnswer(services.pool, data.text, data.voice or services.settings.tts.voice)


@route("/plugins/{plugin:str}/{path:path}", http_method=["GET", "POST", "DELETE"], status_code=200)
async def call_plugin(
    request: AnyRequest, services: Parts, plugin: FromPath[str], path: FromPath[str], body: RawBody
) -> Response[bytes]:
    """A route that a plugin registered."""
    for owner, offered in services.plugins.routes:
        if (owner, offered.method, offered.path.strip("/")) == (plugin, request.method, path.strip("/")):
            return Response(await offered.handler(bytes(body)), media_type=offered.media_type)
    raise NotFoundException(f"the plugin {plugin!r} has no route {request.method} {path.strip('/')!r}")


async def _describe(services: Services, name: str) -> ModelInfo:
    return services.pool.residency.describe(await anyio.to_thread.run_sync(services.models.info, name))


def _model_name(request: AnyRequest) -> str:
    """As it was sent: the router would make ``//`` of an absolute folder one ``/``."""
    raw: bytes = request.scope["raw_path"]
    return unquote(raw.decode("ascii").removeprefix("/api/models/"))


HANDLERS: list[HTTPRouteHandler] = [
    get_status, stop, list_plugins, list_sessions, create_session, get_session, rename_session, remove_session, search,
    list_models, pull_model, load_model, unload_model, get_model, remove_model, transcribe_audio, speak_text,
    call_plugin,
]
"""All routes."""
