"""The web applications: routes, the WebSocket, errors, checks; and what of it is served over TCP."""

from __future__ import annotations

from litestar import Litestar
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.types import ASGIApp

from assistant import __version__
from assistant.services import Services

from . import auth, failures, routes, training, voice
from .openai import failures as api_failures
from .openai.gate import Gate
from .openai.routes import router
from .tcp import Guarded
from .websocket import STALL_SECONDS, events_route

TITLE = "assistant"


def build_app(
    services: Services, *, gate: Gate | None = None, stall_seconds: float = STALL_SECONDS
) -> Litestar:
    """The application that serves a daemon's parts; the OpenAPI document is at ``/api/schema``, made when asked for.

    Args:
        gate: how many chat completions run at once, in all applications that have it.
        stall_seconds: how long one event may wait for a client that does not read.
    """
    return Litestar(
        route_handlers=[
            *routes.HANDLERS, *training.HANDLERS, *voice.HANDLERS, events_route(services, stall_seconds),
            router(gate or Gate()),
        ],
        dependencies={"services": Provide(lambda: services, sync_to_thread=False)},
        guards=[auth.check_source],
        exception_handlers=failures.HANDLERS,
        after_exception=[failures.log_unexpected],
        openapi_config=OpenAPIConfig(
            title=TITLE, version=__version__, path="/api/schema", render_plugins=[JsonRenderPlugin(path="/")]
        ),
        logging_config=None,
    )


def build_api(services: Services, gate: Gate, *, local: bool = True) -> ASGIApp:
    """What is served over TCP: the OpenAI-compatible routes, behind the token.

    Args:
        gate: see ``build_app``.
        local: whether only this machine reaches the address.
    """
    app = Litestar(
        route_handlers=[router(gate)],
        dependencies={"services": Provide(lambda: services, sync_to_thread=False)},
        exception_handlers=api_failures.HANDLERS,
        after_exception=[failures.log_unexpected],
        openapi_config=None,
        logging_config=None,
    )
    return Guarded(app, services.paths.token, local=local)
