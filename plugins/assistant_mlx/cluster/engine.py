"""The engine ``mlx-cluster``: one language model shared by several machines."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from assistant import (
    AssistantError,
    ChatRequest,
    Cluster,
    Delta,
    EngineFailed,
    FinetuneJob,
    FinetuneStep,
    LanguageModel,
    MemoryUse,
    ModelError,
)

if TYPE_CHECKING:
    from assistant_mlx import Settings

    from .ranks import Ranks

log = logging.getLogger("assistant.plugins.mlx")

POLL_SECONDS = 0.25
"""The longest that a step waits for news."""

BACKOFF_SECONDS = 0.5
"""The wait before the ranks are started again after one died; each further death in a row doubles it."""

BACKOFF_LIMIT_SECONDS = 30.0


class ClusterLanguageModel(LanguageModel):
    """A language model of which each rank of a cluster holds a share.

    When a rank dies, every answer fails, and the next request starts the cluster again.
    """

    name = "mlx-cluster"
    lane = "cluster"
    default_model = "starter"
    rank = 10

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self._settings = settings
        self._cluster = cluster
        self._folder: Path | None = None
        self._ranks: Ranks | None = None
        self._deaths = 0
        self._not_before = 0.0

    def available(self) -> str:
        """What is missing for a cluster; empty if nothing is."""
        cluster = self._cluster
        if importlib.util.find_spec("mlx_lm") is None:
            return "mlx-lm is not installed: pip install mlx-lm (on Linux also 'mlx[cpu]')"
        if not cluster.hostfile and len(cluster.hosts) < 2:
            return "`[llm.cluster] hosts` names one machine only: name two at least, this one first"
        if cluster.hostfile and not Path(cluster.hostfile).expanduser().is_file():
            return f"there is no hostfile {cluster.hostfile}: `mlx.distributed_config` writes one"
        if cluster.backend == "jaccl" and sys.platform != "darwin":
            return "the back end jaccl needs Macs with Thunderbolt 5: set `[llm.cluster] backend` to \"ring\""
        if cluster.backend == "jaccl" and not cluster.hostfile:
            return "the back end jaccl needs `[llm.cluster] hostfile`: `mlx.distributed_config` writes one"
        others = any(host not in ("127.0.0.1", "localhost") for host in cluster.hosts)
        if (others or cluster.hostfile) and shutil.which("ssh") is None:
            return "ssh is not installed, by which the other machines are reached: install OpenSSH"
        return ""

    def load(self, model: Path | None) -> None:
        """Start the ranks and wait until each has loaded its share.

        Raises:
            ModelError: there is no model, or it cannot be divided by so many machines.
            EngineFailed: a machine cannot be reached, or differs from the others.
        """
        if model is None:
            raise ModelError("the engine mlx-cluster needs a model", hint='set `[llm] model = "starter"`')
        self._folder = model
        while not self._up():
            pass

    def close(self) -> None:
        """End all ranks."""
        ranks, self._ranks = self._ranks, None
        if ranks is not None:
            ranks.close()

    def memory(self) -> MemoryUse:
        """What the first rank held when it was last idle."""
        return self._ranks.use if self._ranks is not None else MemoryUse()

    def speech_live(self, live: bool) -> None:
        """Read prompts in shorter steps while a spoken turn is live."""
        from .messages import SpeechLive

        if self._ranks is not None:
            self._ranks.tell(SpeechLive(live))

    def finetune(self, job: FinetuneJob) -> Iterator[FinetuneStep]:
        """Train a LoRA adapter on this machine alone, as the engine ``mlx`` does, which can then answer with it."""
        from assistant_mlx.training.finetuning import finetune

        return finetune(job, self._settings)

    @property
    def context(self) -> int:
        """Tokens of prompt and answer together; 0 while the ranks are not up."""
        return self._ranks.context if self._ranks is not None else 0

    def generate(self, request: ChatRequest) -> Generator[Delta, None, None]:
        """Answer: a ``next()`` waits ``POLL_SECONDS`` at most for what the ranks have next, and gives an empty delta if
        there is nothing, also while they are being started again.

        Raises:
            ContextOverflow: no token would fit after the prompt.
            ModelError: the chat template refuses the conversation.
            EngineFailed: a rank died, or the request needs what a cluster cannot do.
        """
        if request.adapter:
            raise EngineFailed(
                "a cluster cannot answer with a LoRA adapter",
                hint="set `[llm] adapter` to nothing, or `[llm] engine` to \"mlx\"",
            )
        if request.seed is None and request.temperature > 0:
            request = msgspec.structs.replace(request, seed=int.from_bytes(os.urandom(7)))
        while not self._up():
            yield Delta()
        assert self._ranks is not None
        yield from self._answer(self._ranks, request)

    def _answer(self, ranks: Ranks, request: ChatRequest) -> Generator[Delta, None, None]:
        from .ranks import error

        number, finished = ranks.begin(request), False
        try:
            while not finished:
                try:
                    news = ranks.take(number, POLL_SECONDS)
                except AssistantError:
                    self._drop(ranks)
                    raise
                if news is None:
                    yield Delta()
                    continue
                finished = news.ended
                if news.code:
                    raise error(news.code, news.message, news.hint)
                if news.delta is not None:
                    yield news.delta
            self._deaths = 0
        finally:
            ranks.end(number, finished)

    def _up(self) -> bool:
        """Whether the ranks can be asked, ``POLL_SECONDS`` later at most; they are started if they are not there.

        Raises:
            AssistantError: they do not come up.
        """
        from .places import lay_out
        from .ranks import Ranks
        from .splitting import check

        if self._ranks is not None and self._ranks.lost:
            log.warning("the cluster died while it was idle: %s", self._ranks.lost)
            self._drop(self._ranks)
        if self._ranks is None:
            wait = self._not_before - time.monotonic()
            if wait > 0:
                time.sleep(min(wait, POLL_SECONDS))
                return False
            if self._folder is None:
                raise EngineFailed("the engine mlx-cluster is not loaded", hint="ask again; the host loads it first")
            layout = lay_out(self._cluster)
            check(self._folder, layout.size)
            settings = msgspec.to_builtins(self._settings)
            self._ranks = Ranks(layout, self._folder, settings, self._cluster.python)
        try:
            return self._ranks.wait(POLL_SECONDS)
        except AssistantError:
            self._drop(self._ranks)
            raise

    def _drop(self, ranks: Ranks) -> None:
        """End what is left of a cluster that died."""
        if self._ranks is ranks:
            self._ranks = None
            self._not_before = time.monotonic() + min(BACKOFF_SECONDS * 2**self._deaths, BACKOFF_LIMIT_SECONDS)
            self._deaths += 1
            ranks.kill()
