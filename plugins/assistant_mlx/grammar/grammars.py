"""What the answers of a loaded model are kept to: a JSON schema, well-formed tool calls, a budget of reasoning."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from assistant import ChatRequest, ModelError
from assistant_mlx.chat.answer import opened
from assistant_mlx.chat.toolcalls import GUIDED, JSON_STYLES, Dialect

from .calls import CallGrammar, Unenforceable, json_only, without
from .guide import Ban, Guide, Thinking
from .limits import Limits
from .masks import Masks

if TYPE_CHECKING:
    from assistant_mlx.decoding.sequence import Processor

log = logging.getLogger(__name__)

KEPT = 64
"""Compiled grammars that are kept; one takes about a millisecond to make."""

LLG_OPTIONS = {"whitespace_flexible": False}


class Grammars:
    """Makes the logits processors of requests; one per loaded model.

    llguidance's tokenizer is built when it is first needed, which takes about a second, and kept.

    Args:
        tokenizer: mlx-lm's.
        vocabulary: width of the logits.
    """

    def __init__(self, tokenizer: Any, vocabulary: int) -> None:
        self._tokenizer = tokenizer
        self._width = max(vocabulary, 1 + max(tokenizer.get_vocab().values()))
        self._ll: Any = None
        self._masks: Masks | None = None
        self._matchers: OrderedDict[str, Any] = OrderedDict()
        self._problems: OrderedDict[str, str] = OrderedDict()

    def processors(
        self, request: ChatRequest, dialect: Dialect, prompt: list[int], max_tokens: int = 0
    ) -> list[Processor]:
        """The logits processors that keep the answer to what was asked for; none if nothing is constrained.

        Args:
            max_tokens: of the answer, if fewer than the request asks for.

        Raises:
            ModelError: the schema, or the call that is demanded, cannot be enforced.
        """
        thinking = self._thinking(request, prompt)
        if request.schema is not None or dialect.forced:
            return [self._ruled(request, dialect, thinking, max_tokens or request.max_tokens)]
        within: dict[str, Any] = {}
        if dialect.calls and dialect.style in GUIDED:
            within = self._within(dialect, max_tokens or request.max_tokens)
        elif dialect.tools and not dialect.calls:
            within = self._without_calls(dialect)
        banned: list[Processor] = [Ban([within.pop("ban")])] if "ban" in within else []
        budgeted = thinking is not None and thinking.budget is not None
        if not within and not budgeted:
            return banned
        if not budgeted and "answer" not in within:
            thinking = None
        return [*banned, Guide(self._ready(), thinking=thinking, **within)]

    def _ruled(self, request: ChatRequest, dialect: Dialect, thinking: Thinking | None, max_tokens: int) -> Guide:
        """The whole answer is given: calls, JSON, or either."""
        schema, leading = request.schema, thinking is not None
        if schema is not None:
            schema = schema if schema else {"type": "object"}
            self._refuse(schema)
        try:
            if dialect.forced:
                one = dialect.choice != "required"
                lark = self._calls(dialect).only(calls=1, leading=leading) if one else (
                    self._calls(dialect).only(leading=leading))
            elif dialect.calls and dialect.style in GUIDED:
                lark = self._calls(dialect).only(schema, leading=leading)
            else:
                assert schema is not None
                lark = json_only(schema, leading=leading)
        except Unenforceable as error:
            raise ModelError(
                f"this model's form of tool calls cannot express what is demanded ({error})",
                hint='let the model decide (tool_choice = "auto"), or simplify the schema of the tool',
            ) from error
        within = self._limited(dialect, max_tokens) if dialect.forced else {
            "limits": Limits(self._llguidance(), max_tokens, whole=True, calls=False), "ends": self._ends(),
        }
        return Guide(self._ready(), thinking=thinking, answer=self._matcher(lark), **within)

    def _ends(self) -> list[int]:
        first = self._tokenizer.eos_token_id
        others = sorted(self._tokenizer.eos_token_ids - {first})
        return others if first is None else [first, *others]

    def _within(self, dialect: Dialect, max_tokens: int) -> dict[str, Any]:
        """Text that may hold calls."""
        try:
            marker = self._added(dialect.start)
            if dialect.style == "llama3":
                grammar = self._calls(dialect).opening()
                follows = self._calls(dialect).after_marker()
                found = {"answer": self._matcher(grammar), "stays": self._begins_call(marker)}
                found |= self._limited(dialect, max_tokens)
                return found | ({} if marker < 0 else {"trigger": marker, "call": lambda: self._matcher(follows)})
            if marker < 0:
                answer = self._matcher(self._calls(dialect).within_text())
                return {"answer": answer, **self._limited(dialect, max_tokens, dialect.start)}
            after = self._calls(dialect).after_marker()
            self._matcher(after)
            limited = self._limited(dialect, max_tokens)
            return {"trigger": marker, "call": lambda: self._matcher(after), "returns": bool(dialect.end), **limited}
        except (Unenforceable, ModelError) as error:
            log.warning("tool calls are not guided, because their grammar cannot be made: %s", error)
            return {}

    def _limited(self, dialect: Dialect, max_tokens: int, marker: str = "") -> dict[str, Any]:
        closes = dialect.style in JSON_STYLES
        limits = Limits(
            self._llguidance(), max_tokens, whole=False, calls=True, marker=marker.encode(), closes=closes
        )
        return {"ends": self._ends(), "limits": limits}

    def _without_calls(self, dialect: Dialect) -> dict[str, Any]:
        """Text that may not hold calls, although the prompt shows the tools."""
        marker = self._added(dialect.start)
        if marker >= 0:
            return {"ban": marker}
        return {"answer": self._matcher(without(dialect.start))} if dialect.style == "own" else {}

    def _thinking(self, request: ChatRequest, prompt: list[int]) -> Thinking | None:
        """None if the model does not reason, or the prompt has ended its reasoning already."""
        tokenizer = self._tokenizer
        if not tokenizer.has_thinking:
            return None
        end = tuple(tokenizer.think_end_tokens)
        is_open = opened(tokenizer, prompt)
        at = tokenizer.rfind_think_end(prompt)
        if not is_open and at >= 0 and not tokenizer.decode(prompt[at + len(end) :]).strip():
            return None
        return Thinking(tuple(tokenizer.think_start_tokens), end, is_open, request.reasoning_budget)

    def _begins_call(self, marker: int) -> Any:
        tokenizer = self._llguidance()
        return lambda token: token == marker or tokenizer.decode_bytes([token]).startswith(b"{")

    def _calls(self, dialect: Dialect) -> CallGrammar:
        return CallGrammar(dialect, self._token, lambda schema: not self._problem(schema, lenient=True))

    def _added(self, marker: str) -> int:
        """The token that the marker always is, or -1: one of the ordinary vocabulary need not be used."""
        return int(self._tokenizer.added_tokens_encoder.get(marker, -1))

    def _token(self, marker: str) -> str:
        token = self._added(marker)
        special = token >= 0 and self._llguidance().is_special_token(token)
        return f"<[{token}]>" if special else json.dumps(marker, ensure_ascii=False)

    def _refuse(self, schema: dict[str, Any]) -> None:
        if problem := self._problem(schema, lenient=False):
            raise ModelError(
                f"the answer cannot be kept to this JSON schema: {problem}",
                hint="simplify the schema, or leave it out and check the answer yourself",
            )

    def _problem(self, schema: dict[str, Any], *, lenient: bool) -> str:
        """Why llguidance does not take a schema; empty if it does."""
        from llguidance import LLMatcher

        text = json.dumps([lenient, schema])
        if text not in self._problems:
            try:
                options: Any = LLG_OPTIONS | {"lenient": lenient}
                grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=options)
                _, messages = LLMatcher.validate_grammar_with_warnings(grammar, self._llguidance())
                wrong = _ if lenient else bool(messages)
                self._problems[text] = " ".join(" ".join(messages).split())[:300] if wrong else ""
            except ValueError as error:
                self._problems[text] = str(error)[:300]
            _shrink(self._problems)
        return self._problems[text]

    def _matcher(self, lark: str) -> Any:
        """A new matcher; compiling is done once a grammar.

        Raises:
            ModelError: it is too complex.
        """
        from llguidance import LLMatcher

        compiled = self._matchers.get(lark)
        if compiled is None:
            compiled = LLMatcher(self._llguidance(), LLMatcher.grammar_from_lark(lark), log_level=0)
            if compiled.is_error():
                raise ModelError(
                    f"the grammar of the answer cannot be made: {' '.join(compiled.get_error().split())[:300]}",
                    hint="simplify the schema, or the schemas of the tools",
                )
            self._matchers[lark] = compiled
            _shrink(self._matchers)
        self._matchers.move_to_end(lark)
        return compiled.deep_copy()

    def _ready(self) -> Masks:
        if self._masks is None:
            self._masks = Masks(self._width)
        return self._masks

    def _llguidance(self) -> Any:
        if self._ll is None:
            import llguidance.hf

            try:
                self._ll = llguidance.hf.from_tokenizer(
                    self._tokenizer._tokenizer, n_vocab=self._width, eos_token=self._ends()
                )
            except ValueError as error:
                raise ModelError(
                    f"answers of this model cannot be kept to a form: {error}",
                    hint="its tokenizer is of an unusual kind; choose another model for schemas and demanded calls",
                ) from error
        return self._ll


def _shrink(kept: OrderedDict[str, Any]) -> None:
    while len(kept) > KEPT:
        kept.popitem(last=False)
