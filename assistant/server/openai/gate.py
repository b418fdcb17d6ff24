"""How many requests run at once, and how long their clients are waited for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .failures import RETRY_SECONDS, Refused

MAX_REQUESTS = 32
"""Requests that run or wait for their first token; four times what the engine decodes at once."""
KEEP_ALIVE_SECONDS = 5.0
"""The longest silence of a stream; a comment breaks it while a long prompt is read or a model is loaded."""
STALL_SECONDS = 60.0
"""How long one message may wait for a client that does not read."""


class Gate:
    """Lets so many requests in and refuses the rest at once, so that no queue grows without bound."""

    def __init__(
        self,
        limit: int = MAX_REQUESTS,
        keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.limit = limit
        self.keep_alive_seconds = keep_alive_seconds
        self.stall_seconds = stall_seconds
        self.inside = 0

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Be one of those that run.

        Raises:
            Refused: there are too many.
        """
        if self.inside >= self.limit:
            raise Refused(
                f"{self.inside} requests are running already, and no more are taken", kind="rate_limit_exceeded",
                status=429, hint=f"try again in {RETRY_SECONDS} s",
            )  # fmt: skip
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
