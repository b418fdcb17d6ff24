"""Arithmetic, spoken or typed: ``17 percent of 340``, ``two to the power of ten``, ``3.5 * 2``."""

from __future__ import annotations

from collections.abc import Iterable

from assistant import Intent, PluginContext, Tool, Wildcard, hookimpl

from .spoken import PATTERN


def calculate(expression: str) -> str:
    """Work out arithmetic exactly, in symbols or words: "17 percent of 340", "(2 + 3) * 4", "square root of 144"."""
    from .arithmetic import answer

    return answer(expression)


@hookimpl
def register_tools(context: PluginContext) -> Iterable[Tool]:
    """The calculator."""
    yield Tool.of(calculate)


@hookimpl
def register_intents(context: PluginContext) -> Iterable[Intent]:
    """Calculations as they are asked for; what is no calculation is left to the model."""
    yield Intent(
        tool="calculate",
        sentences=(
            "[(what is|what's|whats|what are|how much is|how much are|calculate|compute|evaluate|work out|solve"
            "|tell me|tell me what)] {expression} [(is|equals|equal to|=)]",
            "(what does|what do|how much does|how much do|how much would) {expression} (equal|make|come to|give)",
        ),
        slots={"expression": Wildcard(PATTERN)},
    )
