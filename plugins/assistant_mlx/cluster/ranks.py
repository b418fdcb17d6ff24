"""All ranks of a cluster: started together, asked together, ended together."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from threading import Condition
from typing import Any, Literal

from assistant import (
    AssistantError,
    ChatRequest,
    ContextOverflow,
    EngineFailed,
    MemoryUse,
    ModelError,
    ModelTooLarge,
    PluginError,
)

from .messages import Begin, Cancel, Command, FromRank, Hello, Join, Joined, News, Ready, Round, Setup, Stop, Usage
from .places import Layout
from .processes import Death, RankProcess

PATIENCE = {"greet": 60.0, "join": 45.0, "load": 900.0}
"""Seconds for each phase of a start: importing MLX, finding each other, loading (what the host allows too)."""

STALL_SECONDS = 120.0
"""Without a round, while there are requests; a step is at most a few seconds."""

CULPRIT_SECONDS = 1.0
"""When a rank says that another one is gone: how long that one has to say why."""

STOP_SECONDS = 3.0
"""For an end in good order."""

Phase = Literal["greet", "join", "load", "up"]

_ERRORS: dict[str, type[AssistantError]] = {
    kind.code: kind for kind in (ContextOverflow, EngineFailed, ModelError, ModelTooLarge, PluginError)
}


class Ranks:
    """The processes of one cluster, from their start to their end; used on one thread, fed by those of the ranks.

    Args:
        layout: where they run.
        folder: of the model.
        settings: ``[plugins.mlx]``.
        python: the Python of other machines; empty for the path of this one.
    """

    def __init__(self, layout: Layout, folder: Path, settings: dict[str, Any], python: str) -> None:
        self.context = 0
        """Tokens of prompt and answer together; known once they are up."""
        self.use = MemoryUse()
        """What the first rank held when it was last idle."""
        self._layout = layout
        self._settings = settings
        self._changed = Condition()
        self._reports: dict[type[FromRank], dict[int, FromRank]] = {Hello: {}, Joined: {}, Ready: {}}
        self._deaths: dict[int, Death] = {}
        self._died_at = 0.0
        self._news: dict[int, deque[News]] = {}
        self._numbers = 0
        self._phase: Phase = "greet"
        self._since = time.monotonic()
        self._processes: list[RankProcess] = []
        files = layout.files()
        try:
            for number, place in enumerate(layout.places):
                environment = layout.variables() | layout.threads(place)
                process = RankProcess(number, place, python, layout.threads(place), self._hear, self._bury)
                self._processes.append(process)
                process.send(Setup(number, layout.size, layout.here(place), layout.backend, str(folder), settings,
                                   environment, files))
        except BaseException:
            self.kill()
            raise

    @property
    def pids(self) -> list[int]:
        """Of the processes here, by rank."""
        return [process.pid for process in self._processes]

    @property
    def lost(self) -> str:
        """What they died of after they had come up; empty if they live."""
        with self._changed:
            verdict = self._verdict() if self._phase == "up" else None
            return verdict.message if verdict else ""

    def wait(self, seconds: float) -> bool:
        """Wait so long for the ranks to come up; whether they are.

        Raises:
            AssistantError: they will not.
        """
        end = time.monotonic() + seconds
        while self._phase != "up":
            with self._changed:
                self._changed.wait_for(self._moved, max(0.0, min(end - time.monotonic(), 0.5)))
                self._check()
                complete = self._complete()
            if complete:
                self._next_phase()
            elif time.monotonic() >= end:
                break
        return self._phase == "up"

    def begin(self, request: ChatRequest) -> int:
        """Have a request answered; the number to ask for its news with."""
        self._numbers += 1
        with self._changed:
            if not self._news:
                self._since = time.monotonic()
            self._news[self._numbers] = deque()
        self.tell(Begin(self._numbers, request))
        return self._numbers

    def take(self, number: int, seconds: float) -> News | None:
        """The next news of a request, at most so many seconds later.

        Raises:
            AssistantError: a rank died.
        """
        with self._changed:
            queue = self._news[number]
            self._changed.wait_for(lambda: queue or self._verdict(), seconds)
            if queue:
                return queue.popleft()
            self._check()
            return None

    def end(self, number: int, finished: bool) -> None:
        """Forget a request; cancel it if it has not finished."""
        with self._changed:
            self._news.pop(number, None)
        if not finished:
            self.tell(Cancel(number))

    def tell(self, command: Command) -> None:
        """Send a command to all ranks."""
        for process in self._processes:
            process.send(command)

    def close(self) -> None:
        """End them in good order, or in bad order if they take too long."""
        self.tell(Stop())
        if self._phase == "up" and not self._deaths:
            end = time.monotonic() + STOP_SECONDS
            for process in self._processes:
                process.join(max(0.0, end - time.monotonic()))
        self.kill()

    def kill(self) -> None:
        """End them now."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join(STOP_SECONDS)

    def _hear(self, number: int, report: FromRank) -> None:
        with self._changed:
            if isinstance(report, Round):
                self._since = time.monotonic()
                for news in report.news:
                    if (queue := self._news.get(news.id)) is not None:
                        queue.append(news)
            elif isinstance(report, Usage):
                self.use = report.use
            else:
                self._reports[type(report)][number] = report
            self._changed.notify_all()

    def _bury(self, number: int, death: Death) -> None:
        with self._changed:
            self._died_at = self._died_at or time.monotonic()
            self._deaths[number] = death
            self._changed.notify_all()

    def _check(self) -> None:
        """Raise what the cluster died of, once that is known, or that it does not move."""
        if death := self._verdict():
            raise error(death.code, death.message, death.hint)
        limit = STALL_SECONDS if self._phase == "up" else PATIENCE[self._phase]
        if (self._phase != "up" or self._news) and time.monotonic() - self._since > limit:
            raise EngineFailed(self._stalled(limit), hint=_STALLED[self._phase])

    def _verdict(self) -> Death | None:
        """What they died of: of the deaths the first that no other one explains."""
        culprits = [death for death in self._deaths.values() if not death.secondary]
        if culprits:
            return culprits[0]
        waited = bool(self._deaths) and time.monotonic() - self._died_at > CULPRIT_SECONDS
        known = waited or len(self._deaths) == self._layout.size
        return next(iter(self._deaths.values())) if known else None

    def _stalled(self, limit: float) -> str:
        awaited: dict[Phase, type[FromRank]] = {"greet": Hello, "join": Joined, "load": Ready}
        if self._phase == "up":
            return f"the cluster has not moved for {limit:g} s"
        there = self._reports[awaited[self._phase]]
        missing = [f"rank {process.number} (host {process.place.host})"
                   for process in self._processes if process.number not in there]
        what = {"greet": "start", "join": "find the other ranks", "load": "load the model", "up": ""}[self._phase]
        return f"{' and '.join(missing)} of the cluster did not {what} within {limit:g} s"

    def _complete(self) -> bool:
        awaited: dict[Phase, type[FromRank]] = {"greet": Hello, "join": Joined, "load": Ready}
        return len(self._reports[awaited[self._phase]]) == self._layout.size

    def _moved(self) -> bool:
        return self._verdict() is not None or self._complete()

    def _next_phase(self) -> None:
        self._since = time.monotonic()
        match self._phase:
            case "greet":
                join = Join(self._common_settings())
                for process in self._processes:
                    process.send(join)
                self._phase = "join"
            case "join":
                self._phase = "load"
            case "load":
                ready = self._reports[Ready][0]
                assert isinstance(ready, Ready)
                self.context, self._phase = ready.context, "up"
            case "up":
                pass

    def _common_settings(self) -> dict[str, Any]:
        """The settings of all ranks: where each would choose for itself, one choice for all.

        Raises:
            EngineFailed: the machines differ in what must be the same.
        """
        hellos = [hello for _, hello in sorted(self._reports[Hello].items()) if isinstance(hello, Hello)]
        for number, hello in enumerate(hellos):
            for what, here, there in (
                ("the model's files", hellos[0].model, hello.model),
                (f"its versions ({hello.versions})", hellos[0].versions, hello.versions),
                (f"its device (a {hello.device})", hellos[0].device, hello.device),
            ):
                if here != there:
                    raise EngineFailed(
                        f"the host {self._layout.places[number].host} of the cluster differs from this machine in "
                        f"{what}", hint="all need the same model folder and the same versions of everything",
                    )
        return self._settings | {
            "context": min(hello.context for hello in hellos),
            "prompt_cache_mb": min(hello.prompt_cache for hello in hellos) >> 20,
            "prompt_cache_disk_mb": 0,
        }


_STALLED: dict[Phase, str] = {
    "greet": "see that the machine is awake and not overloaded",
    "join": "see that the machines reach each other at these addresses and that no firewall is between them",
    "load": "see that the model is on a local disk of each machine",
    "up": "ask again: the cluster starts anew",
}


def error(code: str, message: str, hint: str) -> AssistantError:
    """The error that a rank reported."""
    return _ERRORS.get(code, EngineFailed)(message, hint=hint)
