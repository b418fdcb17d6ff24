"""Working out an expression in exact decimals, and saying the result."""

from __future__ import annotations

import ast
import operator
from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow, localcontext

from simpleeval import InvalidExpression, SimpleEval

from assistant import ToolError

from .spoken import to_symbols

MAX_LENGTH = 250
"""Characters of an expression."""

DIGITS = 28
"""Significant digits that are calculated with."""

_CLEAN_DIGITS = 12
_SPOKEN_DIGITS = 8
_LONG = Decimal(10) ** 15
_SHORT = Decimal(10) ** -6
_UNSPOKEN = ("add", "subtract", "multiply", "divide")


def answer(expression: str) -> str:
    """The sentence for ``expression``: ``17 percent of 340 is 57.8.``

    Raises:
        ToolError: it is no arithmetic, or it has no result that could be told.
    """
    said = " ".join(expression.split()).rstrip(" =?!.")
    if not said:
        raise ToolError("There is nothing to calculate.")
    if len(said) > MAX_LENGTH:
        raise ToolError(f"That is too long to calculate: {MAX_LENGTH} characters are the limit.")
    value, exact = evaluate(to_symbols(said))
    result = spoken(value, exact)
    if said.lower().startswith(_UNSPOKEN):
        return f"The answer is {result}."
    said = f"the {said}" if said.lower().startswith(("square root", "cube root", "root", "sum", "product")) else said
    return f"{said[0].upper()}{said[1:]} is {result}."


def evaluate(symbols: str) -> tuple[Decimal, bool]:
    """The value of an expression in symbols, and whether it is exact.

    Decimals of bounded precision and exponent cost the same whatever the power, so nothing here can take long.

    Raises:
        ToolError: it is not well formed, divides by zero, is too large or is not a real number.
    """
    context = Context(prec=DIGITS, Emax=9999, Emin=-9999, traps=[DivisionByZero, InvalidOperation, Overflow])
    evaluator = SimpleEval(operators=_OPERATORS, functions={}, names={})
    evaluator.nodes = {
        ast.Expr: evaluator._eval_expr,
        ast.BinOp: evaluator._eval_binop,
        ast.UnaryOp: evaluator._eval_unaryop,
        # The digits themselves, because a float in between would lose some.
        ast.Constant: lambda node: Decimal(symbols[node.col_offset : node.end_col_offset]),
    }
    with localcontext(context) as used:
        try:
            value = +evaluator.eval(symbols)
        except DivisionByZero:
            raise ToolError("I cannot divide by zero.") from None
        except Overflow:
            raise ToolError("That number is too large for me.") from None
        except InvalidOperation:
            raise ToolError("That has no answer among the ordinary numbers.") from None
        except (InvalidExpression, SyntaxError, RecursionError, MemoryError, KeyError, ValueError):
            raise ToolError("I could not make sense of that as a calculation.") from None
        return value, not used.flags[Inexact]


def spoken(value: Decimal, exact: bool) -> str:
    """A number as it is told: in full if it is short, else rounded and said to be so."""
    clean = Context(prec=_CLEAN_DIGITS).plus(value)
    if not value or (_SHORT <= abs(value) < _LONG):
        if exact and len(value.normalize().as_tuple().digits) <= _CLEAN_DIGITS + 3:
            return _plain(value)
        if len(clean.normalize().as_tuple().digits) <= _SPOKEN_DIGITS:
            return _plain(clean)
        return f"about {_plain(Context(prec=_SPOKEN_DIGITS).plus(value))}"
    rounded = Context(prec=_SPOKEN_DIGITS).plus(value)
    exponent = rounded.adjusted()
    if exact and rounded == value and value == Decimal(1).scaleb(exponent):
        return f"10 to the power of {exponent}"
    return f"about {_plain(rounded.scaleb(-exponent))} times 10 to the power of {exponent}"


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in {"-0", ""} else text


def _root(value: Decimal) -> Decimal:
    return value.sqrt()


_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: _root,
}
