"""Errors as HTTP answers: every one has an ``ErrorBody``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap, Scope

from assistant.errors import AssistantError, EngineNotFound, ModelNotFound, SessionNotFound
from assistant.events import ErrorInfo
from assistant.wire import ErrorBody, error_info

log = logging.getLogger(__name__)

INTERNAL = ErrorInfo(
    code="internal", message="the daemon hit a bug of its own", hint="`assistant logs` has the details", permanent=False
)

AnyRequest = Request[Any, Any, Any]


class RequestError(AssistantError):
    """A request or a command is malformed, whatever it asks for."""

    code = "request"


def status_of(error: AssistantError) -> int:
    """The HTTP status: 404 if something was not found, 503 if trying again can help, else 400."""
    if isinstance(error, SessionNotFound | ModelNotFound | EngineNotFound):
        return 404
    return 400 if error.permanent else 503


async def log_unexpected(problem: Exception, scope: Scope) -> None:
    """Write a bug's traceback to the log; called for every exception."""
    if isinstance(problem, AssistantError) or (isinstance(problem, HTTPException) and problem.status_code < 500):
        return
    log.error("%s %s failed", scope.get("method", "WebSocket"), scope["path"], exc_info=problem)


def _answer(error: ErrorInfo, status: int, headers: Mapping[str, str] | None = None) -> Response[ErrorBody]:
    return Response(ErrorBody(error=error), status_code=status, media_type="application/json", headers=headers)


def _on_assistant_error(_: AnyRequest, problem: AssistantError) -> Response[ErrorBody]:
    return _answer(error_info(problem), status_of(problem))


def _on_http_error(_: AnyRequest, problem: HTTPException) -> Response[ErrorBody]:
    if problem.status_code >= 500:
        return _answer(INTERNAL, problem.status_code)
    return _answer(ErrorInfo(code=RequestError.code, message=describe(problem)), problem.status_code, problem.headers)


def _on_bug(request: AnyRequest, problem: Exception) -> Response[ErrorBody]:
    message = f"{INTERNAL.message}: {type(problem).__name__}: {problem}"
    if request.url.path.startswith("/plugins/"):
        message = f"the plugin {request.url.path.split('/')[2]!r} failed: {type(problem).__name__}: {problem}"
    return _answer(ErrorInfo(code=INTERNAL.code, message=message, hint=INTERNAL.hint, permanent=False), 500)


def describe(problem: HTTPException) -> str:
    """What an HTTP error says, with the fields at fault."""
    details = problem.extra if isinstance(problem.extra, list) else []
    parts = [f"{detail['key']}: {detail['message']}" if "key" in detail else detail["message"]
             for detail in details if isinstance(detail, dict) and "message" in detail]
    return "; ".join(parts) or problem.detail


HANDLERS: ExceptionHandlersMap = {
    AssistantError: _on_assistant_error,
    HTTPException: _on_http_error,
    Exception: _on_bug,
}
"""What an exception becomes."""
