"""Tools: what the assistant can do, described once by a typed function."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Literal, get_type_hints

import msgspec

from .engines import ToolSchema
from .errors import PluginError

Effect = Literal["read", "write", "execute"]
"""What a call may do: look, change the user's data, or run something."""


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """One thing the assistant can do. Make it with ``Tool.of(function)``."""

    name: str
    description: str
    parameters: dict[str, Any]
    """JSON schema of the arguments object."""
    run: Callable[..., str | Awaitable[str]]
    """Called with the arguments by keyword. ``async def`` runs on the daemon's loop, ``def`` in a worker thread.

    Returns the sentence that the user hears and the model reads. Raises ``ToolError`` for what the caller can mend.
    """
    arguments: type[msgspec.Struct]
    """The struct that the arguments are checked against, strictly, before ``run``."""
    effect: Effect = "read"
    timeout: float = 10.0
    """Seconds until the call is abandoned."""

    @classmethod
    def of(
        cls,
        run: Callable[..., str | Awaitable[str]],
        *,
        name: str = "",
        effect: Effect = "read",
        timeout: float = 10.0,
    ) -> Tool:
        """A tool from a typed function: its name, docstring and signature are what the model sees.

        Parameters may carry ``Annotated[type, msgspec.Meta(description="…", ge=1)]``.

        Raises:
            PluginError: a parameter has no type, or the docstring is missing.
        """
        tool_name = name or run.__name__
        description = inspect.getdoc(run)
        if not description:
            raise PluginError(f"tool {tool_name!r} has no docstring", hint="the model chooses tools by it; write one")
        arguments = _arguments_struct(tool_name, run)
        return cls(
            name=tool_name,
            description=description,
            parameters=_parameters(arguments),
            run=run,
            arguments=arguments,
            effect=effect,
            timeout=timeout,
        )

    def schema(self) -> ToolSchema:
        """What the model is told."""
        return ToolSchema(name=self.name, description=self.description, parameters=self.parameters)


def _arguments_struct(name: str, run: Callable[..., object]) -> type[msgspec.Struct]:
    hints = get_type_hints(run, include_extras=True)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for parameter in inspect.signature(run).parameters.values():
        if parameter.name not in hints:
            raise PluginError(f"tool {name!r}: parameter {parameter.name!r} has no type annotation")
        if parameter.default is inspect.Parameter.empty:
            fields.append((parameter.name, hints[parameter.name]))
        else:
            fields.append((parameter.name, hints[parameter.name], parameter.default))
    return msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)


def _parameters(arguments: type[msgspec.Struct]) -> dict[str, Any]:
    (_,), components = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")
    schema: dict[str, Any] = components.pop(arguments.__name__)
    schema.pop("title", None)
    if components:
        schema["$defs"] = components
    return schema
