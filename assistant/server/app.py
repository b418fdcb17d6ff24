"""The web application: routes, the WebSocket, errors, checks."""

from __future__ import annotations

from litestar import Litestar
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from assistant import __version__
from assistant.services import Services

from . import auth, failures, routes
from .websocket import STALL_SECONDS, events_route

TITLE = "assistant"


def build_app(services: Services, *, stall_seconds: float = STALL_SECONDS) -> Litestar:
    """The application that serves a daemon's parts; the OpenAPI document is at ``/api/schema``, made when asked for.

    Args:
        stall_seconds: how long one event may wait for a client that does not read.
    """
    return Litestar(
        route_handlers=[*routes.HANDLERS, events_route(services, stall_seconds)],
        dependencies={"services": Provide(lambda: services, sync_to_thread=False)},
        guards=[auth.check_source],
        exception_handlers=failures.HANDLERS,
        after_exception=[failures.log_unexpected],
        openapi_config=OpenAPIConfig(
            title=TITLE, version=__version__, path="/api/schema", render_plugins=[JsonRenderPlugin(path="/")]
        ),
        logging_config=None,
    )
