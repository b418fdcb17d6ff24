"""The HTTP routes of training: adapters, starting one, cancelling, removing."""

from __future__ import annotations

import anyio.to_thread
from litestar import delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody

from assistant.finetune import AdapterInfo, FinetuneRequest

from .routes import Parts

MAX_DATASET_BYTES = 512 << 20


@get("/api/finetune")
async def list_adapters(services: Parts) -> list[AdapterInfo]:
    """Every adapter, and how its training stands."""
    return await anyio.to_thread.run_sync(services.finetuner.adapters)


@post("/api/finetune", status_code=202, request_max_body_size=MAX_DATASET_BYTES)
async def start_training(services: Parts, data: JSONBody[FinetuneRequest]) -> AdapterInfo:
    """Train an adapter, or go on with one; answers when it has begun, progress and end come as events."""
    return await services.finetuner.start(data)


@get("/api/finetune/{name:str}")
async def get_adapter(services: Parts, name: FromPath[str]) -> AdapterInfo:
    """One adapter."""
    return await anyio.to_thread.run_sync(services.finetuner.adapter, name)


@post("/api/finetune/{name:str}/cancel", status_code=200)
async def cancel_training(services: Parts, name: FromPath[str]) -> bool:
    """Stop a training, and answer when what was learnt is saved; false if it does not run."""
    return await services.finetuner.cancel(name)


@delete("/api/finetune/{name:str}")
async def remove_adapter(services: Parts, name: FromPath[str]) -> None:
    """Delete an adapter with its data; its training is stopped first."""
    await services.finetuner.remove(name)


HANDLERS: list[HTTPRouteHandler] = [list_adapters, start_training, get_adapter, cancel_training, remove_adapter]
"""All routes of training."""
