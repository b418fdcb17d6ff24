"""OpenAI's own client against a real daemon with the real starter model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from homes import Home, wait_for

QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
PERSON: Any = {
    "type": "json_schema",
    "json_schema": {
        "name": "person",
        "schema": {
            "type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
            "required": ["name", "age"], "additionalProperties": False,
        },
    },
}  # fmt: skip
WEATHER: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "weather", "description": "The weather in a city.",
            "parameters": {
                "type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"],
            },
        },
    }
]  # fmt: skip


@pytest.fixture
def client(starter_home: Home) -> Iterator[openai.OpenAI]:
    """A client of a daemon that listens on TCP."""
    starter_home.config('[server]\nlisten = "127.0.0.1:0"\n')
    assert starter_home.run("up").code == 0
    key = starter_home.run("config", "token").out.strip()
    with openai.OpenAI(base_url=starter_home.status()["api"], api_key=key, max_retries=0) as client:
        yield client


@pytest.mark.model
def test_the_starter_model_answers(client: openai.OpenAI, starter_home: Home) -> None:
    whole = client.chat.completions.create(model="starter", messages=QUESTION)
    content = whole.choices[0].message.content or ""
    assert "Paris" in content
    assert whole.usage is not None
    assert whole.usage.prompt_tokens > 10
    stream = client.chat.completions.create(model="starter", messages=QUESTION, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == content, "greedy, so the same"
    cut = client.chat.completions.create(model="starter", messages=QUESTION, max_tokens=2)
    assert cut.choices[0].finish_reason == "length"
    stopped = client.chat.completions.create(model="starter", messages=QUESTION, stop="Paris")
    assert stopped.choices[0].message.content == content.partition("Paris")[0]
    _schemas_and_tools(client)
    _goes_away_while_the_prompt_is_read(client, starter_home)


def _schemas_and_tools(client: openai.OpenAI) -> None:
    asked: list[Any] = [{"role": "user", "content": "Describe a person."}]
    answer = client.chat.completions.create(model="", messages=asked, response_format=PERSON, max_tokens=100)
    person = json.loads(answer.choices[0].message.content or "")
    assert (type(person["name"]), type(person["age"])) == (str, int)
    weather: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    called = client.chat.completions.create(
        model="", messages=weather, tools=WEATHER, tool_choice="required", parallel_tool_calls=False
    )
    (call,) = called.choices[0].message.tool_calls or []
    assert called.choices[0].finish_reason == "tool_calls"
    assert call.type == "function"
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")


def _goes_away_while_the_prompt_is_read(client: openai.OpenAI, home: Home) -> None:
    asked: list[Any] = [{"role": "user", "content": "word " * 6000}]
    with client.chat.completions.create(model="", messages=asked, stream=True) as stream:
        assert next(stream).choices[0].delta.content == ""
        assert any(lane["jobs"] for lane in home.status()["lanes"])
    wait_for(lambda: not any(lane["jobs"] for lane in home.status()["lanes"]))
