"""Trainings as jobs: one at a time, in a lane of its own, with events, and cancelled or resumed by name."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskGroup

from assistant import events
from assistant.engines import FinetuneJob, FinetuneStep, LanguageModel
from assistant.errors import AssistantError, DatasetError, ModelError, TrainingBusy
from assistant.lanes import Priority
from assistant.store import STORE, Store

from . import dataset, shelf
from .records import AdapterInfo, Example, FinetuneRequest, Hyperparameters
from .trainer import LANE, Trainer

if TYPE_CHECKING:
    from assistant.config import Settings
    from assistant.lanes import Lane, Lanes
    from assistant.models import Models
    from assistant.paths import Paths
    from assistant.pool import EnginePool

log = logging.getLogger(__name__)

PAGE = 200
"""Conversations read at once."""
FIXED = ("batch_size", "layers", "rank", "max_tokens", "seed")
"""What a resumed training keeps."""


@dataclass
class Live:
    """The training that runs."""

    info: AdapterInfo
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    done: anyio.Event = field(default_factory=anyio.Event)
    wanted: bool = True
    """Nobody has cancelled it; if it ends all the same, the daemon goes down."""


class Finetuner:
    """Starts, watches and cancels trainings."""

    def __init__(
        self, settings: Settings, paths: Paths, publish: Callable[[events.Event], None], db: Lane, lanes: Lanes,
        models: Models, pool: EnginePool, tasks: TaskGroup,
    ) -> None:
        self._settings = settings
        self._paths = paths
        self._publish = publish
        self._db = db
        self._lanes = lanes
        self._models = models
        self._pool = pool
        self._tasks = tasks
        self._live: Live | None = None
        self._starting = anyio.Lock()

    def adapters(self) -> list[AdapterInfo]:
        """Every adapter; one whose training this daemon knows nothing of was interrupted."""
        return [self._present(info) for info in shelf.adapters(self._paths)]

    def adapter(self, name: str) -> AdapterInfo:
        """One adapter.

        Raises:
            ModelNotFound: there is none of that name.
        """
        return self._present(shelf.find(self._paths, name))

    async def start(self, request: FinetuneRequest) -> AdapterInfo:
        """Begin a training, or go on with one; its events follow.

        Raises:
            TrainingBusy: another one is running.
            DatasetError: there is nothing, or too little, to learn from.
            ModelError, EngineNotFound, SessionNotFound: the request names what there is not, or an adapter that is.
        """
        async with self._starting:
            if self._live is not None:
                name = self._live.info.name
                raise TrainingBusy(
                    f"the adapter {name!r} is being trained", hint=f"wait, or stop it: assistant finetune cancel {name}"
                )
            engine, info = await (self._resumed(request) if request.resume else self._fresh(request))
            live = self._live = Live(info)
        self._tasks.start_soon(self._run, live, engine)
        return info

    async def cancel(self, name: str) -> bool:
        """Stop a training after the piece that it is in, and wait until it is saved; False if it does not run."""
        live = self._live
        if live is None or live.info.name != name:
            return False
        live.wanted = False
        live.scope.cancel()
        await live.done.wait()
        return True

    async def remove(self, name: str) -> None:
        """Delete an adapter with its data; a training of it is stopped first.

        Raises:
            ModelNotFound: there is none of that name.
        """
        await self.cancel(name)
        await anyio.to_thread.run_sync(shelf.remove, self._paths, name)

    def _present(self, info: AdapterInfo) -> AdapterInfo:
        if self._live is not None and self._live.info.name == info.name:
            live = self._live.info
            return msgspec.structs.replace(live, folder=info.folder, bytes=info.bytes, usable=info.usable)
        return msgspec.structs.replace(info, state="interrupted") if info.state == "running" else info

    async def _fresh(self, request: FinetuneRequest) -> tuple[LanguageModel, AdapterInfo]:
        folder = shelf.home(self._paths) / request.name
        if (before := shelf.read(folder)) is not None and before.usable:
            raise ModelError(
                f"there is an adapter {request.name!r} already",
                hint=f"go on with it (--resume), remove it (assistant finetune rm {request.name}), or use another name",
            )
        engine = self._engine("")
        given = {name: getattr(request, name) for name in Hyperparameters.__struct_fields__}
        settings = _settings({name: value for name, value in given.items() if value is not None})
        conversations = [*request.examples, *await self._stored(request)]
        for number, example in enumerate(request.examples, start=1):
            dataset.check(example, f"example {number}")
        built = await anyio.to_thread.run_sync(
            dataset.build, conversations, self._settings.assistant.system_prompt
        )
        info = AdapterInfo(
            name=request.name, model=request.model or self._settings.llm.model or engine.default_model,
            engine=engine.name, state="running", settings=settings, train_examples=len(built.train),
            valid_examples=len(built.valid), updated_at=time.time(), folder=str(folder),
        )
        await anyio.to_thread.run_sync(self._models.info, info.model)
        await anyio.to_thread.run_sync(built.write, folder / "data")
        shelf.write(folder, info)
        return engine, info

    async def _resumed(self, request: FinetuneRequest) -> tuple[LanguageModel, AdapterInfo]:
        before = shelf.find(self._paths, request.name)
        if request.examples or request.from_sessions or request.sessions:
            raise DatasetError(
                "a resumed training goes on with the data that it began with", hint="leave the files and sessions out"
            )
        if request.model and request.model != before.model:
            raise ModelError(
                f"the adapter {before.name!r} is for the model {before.model!r}", hint="train another for that model"
            )
        for name in FIXED:
            wanted, kept = getattr(request, name), getattr(before.settings, name)
            if wanted is not None and wanted != kept:
                raise ModelError(
                    f"the adapter {before.name!r} was begun with {name} {kept}, which cannot change",
                    hint="resume it without that option, or train another",
                )
        settings = {name: getattr(before.settings, name) for name in Hyperparameters.__struct_fields__}
        settings |= {name: value for name in ("iterations", "learning_rate") if (value := getattr(request, name))}
        info = msgspec.structs.replace(
            before, settings=_settings(settings), state="running", error=None, updated_at=time.time()
        )
        return self._engine(before.engine), info

    def _engine(self, name: str) -> LanguageModel:
        engine = self._pool.choose("llm", name)
        assert isinstance(engine, LanguageModel)
        return engine

    async def _stored(self, request: FinetuneRequest) -> list[Example]:
        ids = list(request.sessions)
        if request.from_sessions and not ids:
            while page := await self._db.call(STORE, Store.sessions, PAGE, len(ids)):
                ids += [session.id for session in page]
        found = []
        for session_id in ids:
            messages = await self._db.call(STORE, Store.messages, session_id, priority=Priority.BACKGROUND)
            if example := dataset.from_conversation(messages):
                found.append(example)
        return found

    async def _run(self, live: Live, engine: LanguageModel) -> None:
        began = time.monotonic()
        reason: events.TurnReason = "failed"
        error: events.ErrorInfo | None = None
        try:
            with live.scope:
                await self._train(live, engine)
                reason = "complete"
            if live.scope.cancelled_caught:
                reason = "cancelled"
        except AssistantError as problem:
            error = events.ErrorInfo(
                code=problem.code, message=problem.message, hint=problem.hint, permanent=problem.permanent
            )
        except anyio.get_cancelled_exc_class():
            reason = "cancelled"
            raise
        except Exception as bug:
            log.exception("the training of %s failed", live.info.name)
            hint = "`assistant logs` has the details"
            error = events.ErrorInfo(code="internal", message=f"{type(bug).__name__}: {bug}", hint=hint)
        finally:
            self._finished(live, reason, error, time.monotonic() - began)

    def _finished(
        self, live: Live, reason: events.TurnReason, error: events.ErrorInfo | None, seconds: float
    ) -> None:
        state = "interrupted" if reason == "cancelled" and live.wanted else reason
        live.info = msgspec.structs.replace(live.info, state=state, error=error, updated_at=time.time())
        self._note(live)
        self._live = None
        live.done.set()
        self._publish(
            events.FinetuneFinished(
                adapter=live.info.name, reason=reason, error=error, iteration=live.info.iteration,
                iterations=live.info.settings.iterations, seconds=seconds,
            )
        )

    async def _train(self, live: Live, engine: LanguageModel) -> None:
        info = live.info
        folder = shelf.home(self._paths) / info.name
        model = await self._models.resolve(info.model)
        job = FinetuneJob(
            model=str(model), data=str(folder / "data"), adapter=str(folder),
            **{name: getattr(info.settings, name) for name in Hyperparameters.__struct_fields__},
        )
        lane, key = self._lanes.lane(LANE), f"train:{engine.name}:{info.name}"
        shelf.write(folder, info)
        try:
            await lane.add(key, Trainer(engine), None)
            async with lane.stream(key, Trainer.finetune, job, priority=Priority.BACKGROUND) as steps:
                async for step in steps:
                    self._progressed(live, step)
        finally:
            with anyio.CancelScope(shield=True):
                await lane.remove(key)

    def _progressed(self, live: Live, step: FinetuneStep) -> None:
        info = live.info
        live.info = msgspec.structs.replace(
            info, iteration=step.iteration,
            train_loss=info.train_loss if step.train_loss is None else step.train_loss,
            valid_loss=info.valid_loss if step.valid_loss is None else step.valid_loss,
            first_loss=step.train_loss if info.first_loss is None else info.first_loss, updated_at=time.time(),
        )
        if step.saved:
            self._note(live)
        self._publish(
            events.FinetuneProgressed(
                adapter=info.name, iteration=step.iteration, iterations=step.iterations, train_loss=step.train_loss,
                valid_loss=step.valid_loss, tokens_per_second=step.tokens_per_second, saved=step.saved,
            )
        )

    def _note(self, live: Live) -> None:
        try:
            shelf.write(shelf.home(self._paths) / live.info.name, live.info)
        except OSError as problem:
            log.warning("the record of the adapter %s cannot be written: %s", live.info.name, problem)


def _settings(values: dict[str, object]) -> Hyperparameters:
    try:
        return msgspec.convert(values, Hyperparameters)
    except msgspec.ValidationError as error:
        hint = "assistant finetune train --help"
        raise ModelError(f"a setting of the training is wrong: {error}", hint=hint) from error
