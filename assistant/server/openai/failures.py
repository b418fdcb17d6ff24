"""Errors in OpenAI's form: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap, Send

from assistant.errors import (
    AssistantError,
    ConfigError,
    ContextOverflow,
    EngineFailed,
    EngineNotFound,
    LaneQuarantined,
    ModelNotFound,
    PluginError,
    StoreError,
)
from assistant.server.failures import INTERNAL, describe

RETRY_SECONDS = 2
"""When to try again after a transient error."""


class Refused(AssistantError):
    """A request that cannot be carried out as it was sent.

    Args:
        param: the field at fault, such as ``messages[0].content``.
        kind: OpenAI's code for it.
        status: the HTTP status.
    """

    code = "api_request"

    def __init__(
        self, message: str, *, param: str = "", kind: str = "invalid_value", status: int = 400, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.param = param
        self.kind = kind
        self.status = status


class ApiError(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ApiErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every answer that is not 2xx."""

    error: ApiError


def status_of(error: AssistantError) -> int:
    """The HTTP status: 4xx if the request is at fault, 503 if trying again can help, else 500."""
    match error:
        case Refused():
            return error.status
        case ModelNotFound():
            return 404
        case EngineNotFound() | EngineFailed() | LaneQuarantined() | PluginError() | StoreError() | ConfigError():
            return 500 if error.permanent else 503
        case _:
            return 400 if error.permanent else 503


def body_of(error: AssistantError) -> ApiErrorBody:
    """An error as OpenAI's clients read it; the hint goes with the message."""
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    param, code = None, error.code
    match error:
        case Refused():
            param, code = error.param or None, error.kind
        case ContextOverflow():
            param, code = "messages", "context_length_exceeded"
        case ModelNotFound():
            param = "model"
    return ApiErrorBody(error=ApiError(message=message, type=_kind(status_of(error)), param=param, code=code))


def headers_of(error: AssistantError) -> dict[str, str]:
    """What the client is told besides: when to try again, or how to say who it is."""
    match status_of(error):
        case 429 | 503:
            return {"Retry-After": str(RETRY_SECONDS)}
        case 401:
            return {"WWW-Authenticate": "Bearer"}
        case _:
            return {}


async def send_error(error: AssistantError, send: Send) -> None:
    """An error as a whole answer."""
    content = msgspec.json.encode(body_of(error))
    headers = {
        "content-type": "application/json", "content-length": str(len(content)), **headers_of(error)
    }  # fmt: skip
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status_of(error), "headers": raw})
    await send({"type": "http.response.body", "body": content, "more_body": False})


def _kind(status: int) -> str:
    return {429: "rate_limit_error"}.get(status, "server_error" if status >= 500 else "invalid_request_error")


def _answer(body: ApiErrorBody, status: int, headers: Mapping[str, str] | None = None) -> Response[ApiErrorBody]:
    return Response(body, status_code=status, media_type="application/json", headers=headers)


def _on_assistant_error(_: Request[Any, Any, Any], problem: AssistantError) -> Response[ApiErrorBody]:
    return _answer(body_of(problem), status_of(problem), headers_of(problem))


def _on_http_error(request: Request[Any, Any, Any], problem: HTTPException) -> Response[ApiErrorBody]:
    status = problem.status_code
    message = INTERNAL.message if status >= 500 else describe(problem)
    if status in (404, 405):
        message = f"there is no route {request.method} {request.url.path}; there are POST /v1/chat/completions, " \
            "GET /v1/models, GET /v1/models/{id} and GET /health"  # fmt: skip
    return _answer(ApiErrorBody(error=ApiError(message=message, type=_kind(status))), status, problem.headers)


def _on_bug(_: Request[Any, Any, Any], problem: Exception) -> Response[ApiErrorBody]:
    message = f"{INTERNAL.message}: {type(problem).__name__}: {problem} ({INTERNAL.hint})"
    return _answer(ApiErrorBody(error=ApiError(message=message, type="server_error", code=INTERNAL.code)), 500)


HANDLERS: ExceptionHandlersMap = {
    AssistantError: _on_assistant_error,
    HTTPException: _on_http_error,
    Exception: _on_bug,
}
"""What an exception becomes."""
