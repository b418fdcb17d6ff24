"""Tools from functions: what the model is told, and what is refused."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import pytest

from assistant import PluginError, Tool


async def weather(
    city: Annotated[str, msgspec.Meta(description="Where.")],
    days: Annotated[int, msgspec.Meta(ge=1, le=7)] = 1,
    unit: Literal["celsius", "fahrenheit"] = "celsius",
) -> str:
    """Tell the weather.

    Of one city.
    """
    return f"{city} {days} {unit}"


class Point(msgspec.Struct):
    x: float


def walk(points: list[Point], home: Point | None = None) -> str:
    """Walk along points."""
    return f"{len(points)} {home}"


def test_the_name_the_docstring_and_the_signature_are_the_schema() -> None:
    schema = Tool.of(weather).schema()
    assert schema.name == "weather"
    assert schema.description == "Tell the weather.\n\nOf one city."
    assert schema.parameters["type"] == "object"
    assert schema.parameters["required"] == ["city"]
    assert schema.parameters["additionalProperties"] is False
    assert schema.parameters["properties"]["city"] == {"type": "string", "description": "Where."}
    assert schema.parameters["properties"]["days"] == {"type": "integer", "minimum": 1, "maximum": 7, "default": 1}
    assert schema.parameters["properties"]["unit"]["enum"] == ["celsius", "fahrenheit"]


def test_structs_within_are_in_the_schema() -> None:
    parameters = Tool.of(walk).parameters
    assert parameters["properties"]["points"]["items"] == {"$ref": "#/$defs/Point"}
    assert parameters["$defs"]["Point"]["properties"]["x"] == {"type": "number"}


def test_the_schema_is_json() -> None:
    parameters = Tool.of(walk).parameters
    assert msgspec.json.decode(msgspec.json.encode(parameters)) == parameters


def test_arguments_are_checked_by_a_struct() -> None:
    arguments = Tool.of(weather).arguments
    checked = msgspec.convert({"city": "Rome", "days": 2}, arguments)
    assert msgspec.structs.asdict(checked) == {"city": "Rome", "days": 2, "unit": "celsius"}
    for wrong in ({}, {"city": 1}, {"city": "Rome", "days": 8}, {"city": "Rome", "more": 1}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, arguments)


def test_a_tool_without_parameters() -> None:
    def ping() -> str:
        """Answer."""
        return "pong"

    tool = Tool.of(ping)
    assert tool.parameters["properties"] == {}
    assert tool.run() == "pong"


def test_a_method_is_a_tool_without_self() -> None:
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def add(self, by: int = 1) -> str:
            """Count."""
            self.count += by
            return str(self.count)

    counter = Counter()
    tool = Tool.of(counter.add)
    assert list(tool.parameters["properties"]) == ["by"]
    assert tool.run(by=2) == "2"
    assert counter.count == 2


def test_name_effect_and_timeout_can_be_given() -> None:
    tool = Tool.of(weather, name="forecast", effect="execute", timeout=2.5)
    assert (tool.name, tool.effect, tool.timeout) == ("forecast", "execute", 2.5)
    assert Tool.of(weather).effect == "read"


def test_a_tool_needs_a_docstring() -> None:
    def silent(x: int) -> str:
        return str(x)

    with pytest.raises(PluginError, match="'silent' has no docstring"):
        Tool.of(silent)


def test_every_parameter_needs_a_type() -> None:
    def vague(x) -> str:  # type: ignore[no-untyped-def]
        """Do something."""
        return str(x)

    with pytest.raises(PluginError, match="parameter 'x' has no type annotation"):
        Tool.of(vague)
