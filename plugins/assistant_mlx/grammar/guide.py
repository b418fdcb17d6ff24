"""Logits processors: an answer that keeps to a grammar, reasoning that keeps to a budget, a token that may not come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .limits import Limits
from .masks import Masks

if TYPE_CHECKING:
    import mlx.core as mx

Phase = Literal["maybe", "reasoning", "forced", "answer", "call", "free", "done"]


class Thinking(NamedTuple):
    """How a model reasons, and how much it may."""

    start: tuple[int, ...]
    end: tuple[int, ...]
    """The tokens around it."""
    opened: bool
    """The prompt has opened it."""
    budget: int | None
    """Tokens; None for no limit."""


class Guide:
    """Keeps one answer to what was asked for.

    First comes the reasoning, if the model reasons; then either ``answer`` rules what follows, or the text is free and
    ``call`` rules what follows the token ``trigger``. While the text is free nothing waits for the token that is being
    computed: that the mask of a call's beginning applies is decided on the device, and the rest catches up a token
    later.

    Args:
        answer: a new matcher of the whole answer.
        stays: whether the answer, having begun with this token, is ruled by its matcher; else it is free.
        call: makes a matcher of what follows ``trigger``.
        returns: whether the text is free again after a call; else the answer ends with it.
        ends: the tokens that end an answer; they may not come in the reasoning before an answer that is ruled.
        limits: for an answer of a model that does not find an end.
    """

    def __init__(
        self,
        masks: Masks,
        *,
        thinking: Thinking | None = None,
        answer: Any = None,
        stays: Callable[[int], bool] | None = None,
        call: Callable[[], Any] | None = None,
        trigger: int = -1,
        returns: bool = True,
        ends: Sequence[int] = (),
        limits: Limits | None = None,
    ) -> None:
        self.failed = ""
        """Why the answer cannot go on; empty while it can."""
        self._masks = masks
        self._thinking = thinking
        self._answer = answer
        self._stays = stays
        self._call = call
        self._trigger = trigger
        self._returns = returns
        self._matcher: Any = None
        self._phase: Phase = "free"
        self._forced: list[int] = []
        self._then: Phase = "free"
        self._thought: list[int] = []
        self._previous: mx.array | None = None
        self._first_mask: mx.array | None = None
        self._begun = False
        self._limits = limits
        self._count = 0
        self._ends = ends
        self._no_end = Ban([*ends]) if ends and answer is not None and stays is None else None
        self._begin()

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        """The logits [1, V] of the next token, those that may not come at -inf."""
        if self._phase == "free" and self._call is not None and not self.failed:
            return self._watch(tokens, logits)
        if self.failed or self._phase in ("free", "done"):
            return logits
        if self._begun:
            self._count += 1
            self._take(_number(tokens[-1]))
        self._begun = True
        return self._masked(tokens, logits)

    @property
    def shortened(self) -> bool:
        """Whether the answer was brought to its end because the tokens ran out."""
        return self._limits is not None and self._limits.shortened

    def _begin(self) -> None:
        thinking = self._thinking
        if thinking is None:
            self._enter("answer")
        elif thinking.opened:
            self._reason()
        elif thinking.budget != 0 or self._answer is None:
            self._phase, self._matcher = "maybe", self._answer
        else:
            self._enter("answer")

    def _reason(self) -> None:
        self._thought = []
        self._phase = "reasoning"
        self._spend()

    def _spend(self) -> None:
        assert self._thinking is not None
        budget = self._thinking.budget
        if budget is not None and len(self._thought) >= budget:
            self._force([*self._thinking.end], "answer")

    def _force(self, tokens: list[int], then: Phase) -> None:
        self._forced, self._then = tokens, then
        if tokens:
            self._phase = "forced"
        else:
            self._enter(then)

    def _enter(self, phase: Phase) -> None:
        """Go on to a phase, or to the text that is free where nothing rules it."""
        self._phase, self._matcher, self._previous = phase, None, None
        if self._limits is not None:
            self._limits.restart()
        if phase == "reasoning":
            self._reason()
        elif phase == "answer" and self._answer is not None:
            self._matcher = self._answer
        elif phase == "call" and self._call is not None:
            self._matcher = self._call()
        else:
            self._phase = "free" if self._call is not None else "done"

    def _take(self, token: int) -> None:
        """The token that was chosen after the last call."""
        thinking = self._thinking
        if self._phase == "forced":
            del self._forced[0]
            if not self._forced:
                self._enter(self._then)
        elif self._phase == "maybe" and thinking is not None and token == thinking.start[0]:
            self._force([*thinking.start[1:]], "reasoning")
        elif self._phase == "reasoning" and thinking is not None:
            self._thought.append(token)
            if token == self._trigger and self._call is not None:
                self._enter("call")
            elif tuple(self._thought[-len(thinking.end) :]) == thinking.end:
                self._enter("answer")
            else:
                self._spend()
        else:
            if self._phase == "maybe":
                self._enter("answer")
            self._follow(token)

    def _follow(self, token: int) -> None:
        if self._matcher is None:
            return
        stays, self._stays = self._stays, None
        if stays is not None and not stays(token):
            self._enter("free")
        elif not self._matcher.consume_token(token):
            self._fail("a token left the grammar")
        elif self._matcher.is_stopped():
            self._check()
            if (self._phase == "call" and self._returns) or self._matcher.stop_reason() == "EndOfSentence":
                self._enter("free")
        elif self._limits is not None and self._limits.over(self._matcher, token, self._count):
            self._force([*self._ends[:1]], "free")

    def _masked(self, tokens: mx.array, logits: mx.array) -> mx.array:
        import mlx.core as mx

        if self._phase == "free" and self._call is not None:
            return self._watch(tokens, logits)
        if self._phase == "forced":
            only = mx.arange(logits.shape[-1]) == self._forced[0]
            return mx.where(only, logits, mx.array(-float("inf"), logits.dtype))
        if self._phase == "reasoning" and self._no_end is not None:
            return self._no_end(tokens, logits)
        if self._matcher is None or self.failed:
            return logits
        also = self._thinking.start[0] if self._phase == "maybe" and self._thinking else -1
        if self._limits is not None and self._limits.landing:
            mask = self._masks.closing(self._matcher, logits, self._limits.tokenizer)
        else:
            mask = self._masks.row(self._matcher, logits, also)
        self._check()
        return logits if self.failed else logits + mask

    def _watch(self, tokens: mx.array, logits: mx.array) -> mx.array:
        import mlx.core as mx

        self._begun = True
        if self._previous is not None and _number(self._previous) == self._trigger:
            self._enter("call")
            self._follow(_number(tokens[-1]))
            return self._masked(tokens, logits)
        assert self._call is not None
        if self._first_mask is None:
            self._first_mask = self._masks.row(self._call(), logits)
        # A sum, so that nothing of the caller's buffer is held; submitted now, it is there when the next call asks.
        self._previous = tokens[-1:] + 0
        mx.async_eval(self._previous)  # type: ignore[no-untyped-call]
        return logits + mx.where(self._previous == self._trigger, self._first_mask, mx.array(0, logits.dtype))

    def _check(self) -> None:
        if self._matcher.is_error():
            self._fail(str(self._matcher.get_error()))

    def _fail(self, why: str) -> None:
        self.failed = f"the grammar cannot be followed: {' '.join(why.split())[:300]}"


class Ban:
    """Tokens that may not come."""

    failed = ""

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens
        self._mask: mx.array | None = None

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        """The logits [1, V] without those tokens."""
        import mlx.core as mx

        if self._mask is None:
            banned = mx.any(mx.arange(logits.shape[-1])[None] == mx.array(self._tokens)[:, None], axis=0, keepdims=True)
            self._mask = mx.where(banned, mx.array(-float("inf"), logits.dtype), mx.array(0, logits.dtype))
        return logits + self._mask


def _number(token: mx.array) -> int:
    value: Any = token.item()
    return int(value)
