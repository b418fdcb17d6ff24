"""What the fields of a chat completion request become, and which are refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from assistant.config import LlmSettings
from assistant.engines import ChatRequest, ToolCall
from assistant.server.openai.asking import read
from assistant.server.openai.failures import Refused

TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {"city": {}}}}}
    for name in ("weather", "time")
]


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def asked(body: dict[str, Any], settings: LlmSettings | None = None) -> ChatRequest:
    return read(msgspec.json.encode({"messages": user("hi"), **body}), settings or LlmSettings()).request


def test_what_is_left_open_is_as_configured() -> None:
    settings = LlmSettings(max_tokens=77, temperature=0.3, top_p=0.8, top_k=5, min_p=0.1, reasoning_budget=9)
    request = asked({}, settings)
    assert (request.max_tokens, request.temperature, request.top_p, request.top_k) == (77, 0.3, 0.8, 5)
    assert (request.min_p, request.reasoning_budget, request.tool_choice, request.schema) == (0.1, 9, "auto", None)
    assert asked({}).reasoning_budget is None
    assert asked({"temperature": 0, "top_k": 0, "min_p": 0}, settings).temperature == 0.0


def test_every_field_arrives() -> None:
    request = asked({
        "max_tokens": 5, "max_completion_tokens": 6, "temperature": 1, "top_p": 0.5, "top_k": 3, "min_p": 0.2,
        "seed": 7, "repetition_penalty": 1.2, "stop": ["a", "b"], "tools": TOOLS, "tool_choice": "required",
        "reasoning_effort": "low", "response_format": {"type": "json_object"},
    })  # fmt: skip
    assert request == ChatRequest(
        messages=request.messages, tools=request.tools, max_tokens=6, temperature=1.0, top_p=0.5, top_k=3, min_p=0.2,
        repetition_penalty=1.2, seed=7, stop=("a", "b"), tool_choice="required", schema={"type": "object"},
        reasoning_budget=1024,
    )  # fmt: skip
    assert [tool.name for tool in request.tools] == ["weather", "time"]
    assert request.tools[0].parameters == {"type": "object", "properties": {"city": {}}}


def test_messages() -> None:
    request = asked({"messages": [
        {"role": "developer", "content": "be brief", "name": "boss"},
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "weather", "arguments": ""}}]},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "rain"}]},
    ]})  # fmt: skip
    assert [(said.role, said.content) for said in request.messages] == [
        ("system", "be brief"), ("user", "one\ntwo"), ("assistant", ""), ("tool", "rain"),
    ]  # fmt: skip
    assert request.messages[2].tool_calls == (ToolCall(id="c", name="weather", arguments={}),)


@pytest.mark.parametrize(
    ("body", "field", "expected"),
    [
        ({"stop": "end"}, "stop", ("end",)),
        ({"top_p": 0, "temperature": 1}, "temperature", 0.0),
        ({"reasoning_effort": "none"}, "reasoning_budget", 0),
        ({"reasoning_effort": "xhigh"}, "reasoning_budget", None),
        ({"reasoning_budget": 12, "reasoning_effort": "high"}, "reasoning_budget", 12),
        ({"reasoning_budget": -1}, "reasoning_budget", None),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "reasoning_budget", 0),
        ({"tools": TOOLS, "tool_choice": "none"}, "tool_choice", "none"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "time"}}}, "tool_choice", "time"),
        ({"response_format": {"type": "text"}}, "schema", None),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": [1]}}}},
         "schema", {"enum": [1]}),
        ({"max_tokens": 10**9}, "max_tokens", 1_000_000),
        ({"n": 1, "logprobs": False, "logit_bias": {}, "presence_penalty": 0, "user": "me", "metadata": {},
          "store": True, "temperature": None, "tools": None, "functions": None}, "temperature", 0.0),
        ({"a_field_of_tomorrow": [1]}, "stop", ()),
    ],
)  # fmt: skip
def test_a_field_becomes(body: dict[str, Any], field: str, expected: object) -> None:
    assert getattr(asked(body), field) == expected


TOOL: dict[str, Any] = TOOLS[0]
CALL = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{"}}


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({"messages": []}, "messages", "none"),
        ({"messages": [{"role": "function", "content": ""}]}, "messages[0].role", "function"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "int"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
         "messages[0].content[0].type", "image_url"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
         "messages[0].content[0].type", "text only"),
        ({"messages": [{"role": "assistant", "tool_calls": [CALL]}]},
         "messages[0].tool_calls[0].function.arguments", "JSON"),
        ({"messages": [{"role": "user", "content": "", "tool_calls": [CALL]}]}, "messages[0].tool_calls", "assistant"),
        ({"messages": [{"role": "tool", "tool_call_id": "x", "content": ""}]}, "messages[0].tool_call_id", "'x'"),
        ({"n": 2}, "n", "n times"),
        ({"logprobs": True}, "logprobs", "not supported"),
        ({"top_logprobs": 5}, "top_logprobs", "not supported"),
        ({"logit_bias": {"5": -100}}, "logit_bias", "not supported"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "repetition_penalty"),
        ({"modalities": ["text", "audio"]}, "modalities", "not supported"),
        ({"audio": {"voice": "x"}}, "audio", "not supported"),
        ({"functions": [{"name": "f"}]}, "functions", "use tools"),
        ({"guided_json": {}}, "guided_json", "response_format"),
        ({"response_format": {"type": "grammar"}}, "response_format.type", "json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
         "response_format.json_schema.schema", "missing"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": []}}},
         "response_format.json_schema.schema", "array"),
        ({"temperature": 3}, "temperature", "2"),
        ({"temperature": True}, "temperature", "bool"),
        ({"max_tokens": 0}, "max_tokens", "1"),
        ({"stop": ["x"] * 17}, "stop", "16"),
        ({"stop": ""}, "stop", "empty"),
        ({"reasoning_effort": "huge"}, "reasoning_effort", "huge"),
        ({"chat_template_kwargs": {"other": 1}}, "chat_template_kwargs", "other"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "web_search"),
        ({"tools": [TOOL, TOOL]}, "tools[1].function.name", "twice"),
        ({"tools": [{"type": "function", "function": {"name": "auto"}}]}, "tools[0].function.name", "auto"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", ""),
        ({"tool_choice": "required"}, "tool_choice", "no tools"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "nosuch"}}},
         "tool_choice", "weather"),
        ({"tool_choice": "sometimes"}, "tool_choice", "sometimes"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_what_would_not_be_done_is_refused(body: dict[str, Any], param: str, says: str) -> None:
    with pytest.raises(Refused) as caught:
        asked(body)
    assert (caught.value.param, caught.value.status) == (param, 400)
    assert says in str(caught.value)
    assert param in caught.value.message


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'"text"'])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(Refused, match="JSON"):
        read(body, LlmSettings())
