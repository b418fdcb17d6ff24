"""The routes that OpenAI's clients ask."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from litestar import Request, Response, Router, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, RawBody, SkipValidation
from litestar.types import ASGIApp

from assistant.errors import EngineNotFound
from assistant.services import Services

from . import asking, failures, names
from .completion import ChatAnswer
from .gate import Gate
from .shapes import Health, Model, ModelList, State

MAX_BODY_BYTES = 16 << 20
"""About four million tokens of text."""

Parts = NamedDependency[SkipValidation[Services]]
Entrance = NamedDependency[SkipValidation[Gate]]


@post("/v1/chat/completions", status_code=200, request_max_body_size=MAX_BODY_BYTES)
async def complete_chat(services: Parts, gate: Entrance, body: RawBody) -> ASGIApp:
    """An answer to a conversation that the client keeps: nothing is stored, no tool is run here."""
    return ChatAnswer(services, gate, asking.read(bytes(body), services.settings.llm))


@get("/v1/models")
async def list_models(services: Parts) -> ModelList:
    """The models that a request may name."""
    return ModelList(data=await names.listed(services))


@get("/v1/models/{name:path}")
async def get_model(request: Request[Any, Any, Any], services: Parts, name: FromPath[str]) -> Model:
    """One of them."""
    raw: bytes = request.scope["raw_path"]
    asked = unquote(raw.decode("ascii").removeprefix("/v1/models/"))
    found = await names.choose(services, asked) or names.configured(services)
    return next((model for model in await names.listed(services) if model.id == found),
                Model(id=found, created=int(services.started_at)))  # fmt: skip


@get("/health", sync_to_thread=False)
def get_health(services: Parts, gate: Entrance) -> Response[Health]:
    """Whether an answer can be had: 200, or 503 and why not."""
    health = _health(services, gate)
    return Response(health, status_code=200 if health.status == "ok" else 503)


def _health(services: Services, gate: Gate) -> Health:
    try:
        engine, model = services.pool.choose("llm"), names.configured(services)
    except EngineNotFound as problem:
        return Health(status="unavailable", model="", lane="", requests=gate.inside, detail=problem.message)
    lane = next((info for info in services.lanes.infos() if info.name == engine.lane), None)
    state = lane.state if lane else "down"
    told = {"quarantined": "its process died too often: `assistant logs` says why, `assistant down && assistant up`",
            "restarting": "its process died and is starting again"}  # fmt: skip
    status: State = "unavailable" if state in told else "loading" if state == "starting" else "ok"
    return Health(status=status, model=model, lane=state, requests=gate.inside, detail=told.get(state, ""))


def router(gate: Gate) -> Router:
    """All of them; what is refused is said in OpenAI's form."""
    return Router(
        path="/",
        route_handlers=[complete_chat, list_models, get_model, get_health],
        dependencies={"gate": Provide(lambda: gate, sync_to_thread=False)},
        exception_handlers=failures.HANDLERS,
    )
