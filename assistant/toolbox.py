"""Running one tool call: arguments checked, deadline kept, and every failure turned into a sentence."""

from __future__ import annotations

import asyncio
import difflib
import functools
import inspect
import logging
import re
import time
import traceback
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import msgspec
from anyio.lowlevel import RunVar

from .errors import AssistantError, ToolError

if TYPE_CHECKING:
    from .engines import ToolCall
    from .tools import Tool

MAX_RESULT = 20_000
"""Characters of a result that the model and the user get to see."""

MAX_THREADS = 16
"""Worker threads for blocking tools; one that hangs keeps its thread until it returns."""

_log = logging.getLogger(__name__)
_threads: RunVar[anyio.CapacityLimiter] = RunVar("assistant_tool_threads")


class ToolOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a tool call."""

    ok: bool
    result: str
    """The tool's answer, or one sentence on what went wrong."""
    seconds: float


async def call_tool(tool: Tool, call: ToolCall, limit: float) -> ToolOutcome:
    """Run one call; whatever the tool does, only cancellation leaves this function as an exception.

    Args:
        limit: seconds; the deadline is the earlier of this and the tool's own.
    """
    began = time.perf_counter()
    deadline = min(tool.timeout, limit)
    ok, result = False, f"The tool {tool.name!r} took longer than {deadline:g} seconds and was given up."
    with anyio.move_on_after(deadline):
        ok, result = await _attempt(tool, call)
    return ToolOutcome(ok=ok, result=_presentable(result), seconds=time.perf_counter() - began)


async def _attempt(tool: Tool, call: ToolCall) -> tuple[bool, str]:
    try:
        result: object = await _run(tool, _checked(tool, call.arguments))
    except AssistantError as error:
        return False, f"{error.message} {error.hint}".strip()
    except asyncio.CancelledError:
        if _is_cancelled():
            raise
        return False, f"The tool {tool.name!r} failed: it was cancelled from within."
    except (Exception, SystemExit) as error:
        _log.warning("tool %r failed", tool.name, exc_info=error)
        return False, f"The tool {tool.name!r} failed: {_summary(error)}"
    if isinstance(result, str):
        return True, result
    return False, f"The tool {tool.name!r} returned {type(result).__name__} instead of text."


def _checked(tool: Tool, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments by name, of the types that the tool declares.

    Raises:
        ToolError: one is missing, unknown, of the wrong type or out of range.
    """
    try:
        checked = msgspec.convert(arguments, tool.arguments)
    except msgspec.ValidationError as error:
        raise ToolError(_complaint(tool, str(error))) from None
    return {name: getattr(checked, name) for name in tool.arguments.__struct_fields__}


def _complaint(tool: Tool, problem: str) -> str:
    name = tool.name
    if found := re.search(r"required field `(.*?)`", problem):
        return f"The tool {name!r} needs the argument {found[1]!r}."
    if found := re.search(r"unknown field `(.*?)`", problem):
        near = difflib.get_close_matches(found[1], tool.arguments.__struct_fields__, n=1)
        return f"The tool {name!r} has no argument {found[1]!r}." + (f" Did you mean {near[0]!r}?" if near else "")
    what, _, where = problem.partition(" - at `$.")
    argument = f"The argument {where.rstrip('`')!r}" if where else "What was passed as arguments"
    return f"{argument} of the tool {name!r} is wrong: {what[:1].lower()}{what[1:].replace('`', '')}."


async def _run(tool: Tool, arguments: dict[str, Any]) -> object:
    run = functools.partial(tool.run, **arguments)
    if inspect.iscoroutinefunction(tool.run) or inspect.iscoroutinefunction(type(tool.run).__call__):
        result: object = run()
    else:
        result = await anyio.to_thread.run_sync(run, abandon_on_cancel=True, limiter=_limiter())
    return await result if isinstance(result, Awaitable) else result


def _limiter() -> anyio.CapacityLimiter:
    limiter = _threads.get(None)
    if limiter is None:
        limiter = anyio.CapacityLimiter(MAX_THREADS)
        _threads.set(limiter)
    return limiter


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return anyio.current_effective_deadline() == float("-inf") or (task is not None and task.cancelling() > 0)


def _summary(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return " ".join(traceback.format_exception_only(error)[-1].split())


def _presentable(text: str) -> str:
    """Text that can be encoded and is not too long."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    if len(text) <= MAX_RESULT:
        return text
    note = f"\n[cut: {len(text)} characters in all]"
    return text[: MAX_RESULT - len(note)] + note
