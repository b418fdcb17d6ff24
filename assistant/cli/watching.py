"""Showing a model's download while a request that needs the model is under way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import anyio

from assistant.errors import AssistantError
from assistant.events import ModelProgressed

from .output import StatusLine
from .progress import ModelProgress

if TYPE_CHECKING:
    from assistant.client import Client, Connection

T = TypeVar("T")


async def with_progress(client: Client, work: Callable[[], Awaitable[T]], *, quiet: bool = False) -> T:
    """Do the work and meanwhile show every ``ModelProgressed`` of the daemon on standard error.

    Raises:
        AssistantError: what the work raised.
    """
    line = StatusLine(quiet=quiet)
    results: list[T] = []
    failure: AssistantError | None = None
    async with client.connect() as connection, anyio.create_task_group() as tasks:
        tasks.start_soon(_show, connection, ModelProgress(line, quiet=quiet))
        try:
            results.append(await work())
        except AssistantError as error:
            failure = error
        tasks.cancel_scope.cancel()
    line.clear()
    if failure is not None:
        raise failure
    return results[0]


async def _show(connection: Connection, progress: ModelProgress) -> None:
    try:
        async for event in connection:
            if isinstance(event, ModelProgressed):
                progress.show(event)
    except AssistantError:
        return
