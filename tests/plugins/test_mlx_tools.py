"""Tool calls: how each family writes them, what is made of what it wrote, and that no other can be written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from assistant_mlx.chat.prompt import render, tagged
from assistant_mlx.chat.toolcalls import GUIDED, Dialect, dialect
from assistant_mlx.grammar.guide import Guide
from families import FAMILIES
from guidekit import CLOCK, TIMER, TOOLS, Small, accepts, ask, check, generated, puppet, sampler, script, small, told

from assistant import ChatRequest, Message, ModelError, ToolCall, ToolSchema

NATIVE = [family for family in FAMILIES if family not in ("plain", "thinking")]

NOTE = ToolSchema(
    name="note", description="Write a note.",
    parameters={
        "type": "object",
        "properties": {
            "text": {"type": "string"}, "size": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["text"], "additionalProperties": False,
    },
)

MINDS: dict[str, Small] = {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the models of this module are."""
    yield tmp_path_factory.mktemp("families")
    MINDS.clear()


def mind_of(folder: Path, family: str) -> Small:
    """The small model of a family, made once."""
    if family not in MINDS:
        MINDS[family] = small(folder / family, family)
    return MINDS[family]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_random_model_that_must_call_calls_well(folder: Path, family: str, seed: int) -> None:
    mind = mind_of(folder, family)
    request = ask(tools=TOOLS, tool_choice="required", temperature=1.0, max_tokens=300)
    answer = generated(mind, request, seed=seed)
    assert len(answer.calls) >= 1
    for call in answer.calls:
        check(call)
    assert (answer.text.strip(), answer.finish) == ("", "tool_calls")
    assert len({call.id for call in answer.calls}) == len(answer.calls)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tool_that_is_demanded_is_called_and_no_other(folder: Path, family: str) -> None:
    request = ask(tools=TOOLS, tool_choice="get_time", temperature=1.0, max_tokens=200)
    for call in generated(mind_of(folder, family), request, seed=3).calls:
        check(call)
        assert call.name == "get_time"


FORMS = {
    "plain": '<tool_call>{"name": "note", "arguments": {"text": "a", "size": 5, "tags": ["b"]}}</tool_call>',
    "json_tools": '<tool_call>\n{"name": "note", "arguments": {"text": "a", "size": 5, "tags": ["b"]}}\n</tool_call>',
    "qwen3_coder": "<tool_call>\n<function=note>\n<parameter=text>\na\n</parameter>\n<parameter=size>\n5\n"
                   '</parameter>\n<parameter=tags>\n["b"]\n</parameter>\n</function>\n</tool_call>',
    "glm47": "<tool_call>note\n<arg_key>text</arg_key>\n<arg_value>a</arg_value>\n<arg_key>size</arg_key>\n"
             '<arg_value>5</arg_value>\n<arg_key>tags</arg_key>\n<arg_value>["b"]</arg_value>\n</tool_call>',
    "minimax_m2": '<minimax:tool_call>\n<invoke name="note">\n<parameter name="text">a</parameter>\n'
                  '<parameter name="size">5</parameter>\n<parameter name="tags">["b"]</parameter>\n</invoke>\n'
                  "</minimax:tool_call>",
    "pythonic": '<|tool_call_start|>[note(text="a", size=5, tags=["b"])]<|tool_call_end|>',
    "llama3": '{"name": "note", "parameters": {"text": "a", "size": 5, "tags": ["b"]}}',
    "mistral": '[TOOL_CALLS] [{"name": "note", "arguments": {"text": "a", "size": 5, "tags": ["b"]}}]',
    "mistral_header": '[TOOL_CALLS]note[ARGS]{"text": "a", "size": 5, "tags": ["b"]}',
}


@pytest.mark.parametrize("family", FORMS)
def test_what_the_family_was_trained_to_write_is_admitted_and_read(folder: Path, family: str) -> None:
    mind, request = mind_of(folder, family), ask(tools=(NOTE,), tool_choice="required", max_tokens=200)
    assert accepts(mind, request, FORMS[family])
    answer = puppet(mind, request, script(mind, FORMS[family]))
    assert [(call.name, call.arguments, call.error) for call in answer.calls] == [
        ("note", {"text": "a", "size": 5, "tags": ["b"]}, "")
    ]
    for wrong in (FORMS[family].replace("note", "other"), FORMS[family].replace("5", "true"), FORMS[family][:-3]):
        assert not accepts(mind, request, wrong), wrong


@pytest.mark.parametrize("family", ["function_gemma", "gemma4"])
def test_forms_that_can_hold_only_plain_values_leave_others_out(folder: Path, family: str) -> None:
    mind, request = mind_of(folder, family), ask(tools=(NOTE,), tool_choice="required", max_tokens=200)
    start, end = mind.tokenizer.tool_call_start, mind.tokenizer.tool_call_end
    quote = "<escape>" if family == "function_gemma" else '<|"|>'
    answer = puppet(mind, request, script(mind, f"{start}call:note{{text:{quote}a, b{quote},size:5}}{end}"))
    assert [(call.name, call.arguments) for call in answer.calls] == [("note", {"text": "a, b", "size": 5})]
    nested = msg(NOTE, "tags")
    with pytest.raises(ModelError, match="cannot express"):
        generated(mind, ask(tools=(nested,), tool_choice="required"))
    free = ask(tools=(nested,))
    assert mind.grammars.processors(free, dialect(mind.tokenizer, "auto", free), [1]) == []


def msg(tool: ToolSchema, *required: str) -> ToolSchema:
    """The tool, needing other arguments."""
    parameters = tool.parameters | {"required": [*required]}
    return ToolSchema(name=tool.name, description=tool.description, parameters=parameters)


RAW = "<b>two\nlines</b> \"quoted\" {x} 'y' </p> & null"


@pytest.mark.parametrize("family", ["qwen3_coder", "glm47", "minimax_m2"])
def test_strings_without_quotes_are_what_they_are(folder: Path, family: str) -> None:
    mind, request = mind_of(folder, family), ask(tools=(NOTE,), tool_choice="required", max_tokens=400)
    form = FORMS[family]
    old = {"qwen3_coder": "\na\n", "glm47": ">a<", "minimax_m2": ">a<"}[family]
    answer = puppet(mind, request, script(mind, form.replace(old, old.replace("a", RAW))))
    assert [call.arguments["text"] for call in answer.calls] == [RAW]
    early = form.replace(old, old.replace("a", f"x{mind.tokenizer.tool_call_end}y"))
    assert not accepts(mind, request, early)


@pytest.mark.parametrize("family", sorted(set(NATIVE) - {"kimi_k2"}))
def test_a_call_within_free_text_keeps_to_the_grammar_whenever_it_begins(folder: Path, family: str) -> None:
    mind = mind_of(folder, family)
    request = ask(tools=TOOLS, temperature=1.0, max_tokens=120)
    marker = "<|python_tag|>" if family == "llama3" else mind.tokenizer.tool_call_start
    trigger = mind.tokenizer.convert_tokens_to_ids(marker)
    for place in (1, 2, 7):
        answer = generated(mind, request, seed=place, before=[_insert(trigger, place)])
        assert answer.tokens[place - 1] == trigger
        whole = [call for call in answer.calls if family != "mistral" or "cut off" not in call.error]
        assert len(answer.calls) - 1 <= len(whole) >= 1
        for call in whole:
            check(call)
        assert answer.finish == "tool_calls"


def _insert(token: int, place: int) -> Any:
    """A processor that makes ``token`` the answer's ``place``-th, and ends it with the first call."""
    import mlx.core as mx

    counted = [0]

    def insert(tokens: mx.array, logits: mx.array) -> mx.array:
        counted[0] += 1
        if counted[0] == place:
            return mx.where(mx.arange(logits.shape[-1]) == token, logits, mx.array(-float("inf")))
        return mx.where(mx.arange(logits.shape[-1]) == token, mx.array(-float("inf")), logits)

    return insert


def test_free_text_stays_as_it_was(folder: Path) -> None:
    for family in ("json_tools", "mistral", "glm47"):
        mind = mind_of(folder, family)
        guided = generated(mind, ask(tools=TOOLS, max_tokens=40))
        way = dialect(mind.tokenizer, "auto", ask(tools=TOOLS))
        prompt = render(mind.tokenizer, ask(tools=TOOLS), way).tokens
        import mlx.core as mx
        from mlx_lm.generate import generate_step

        free = [token for token, _ in generate_step(mx.array(prompt), mind.model, max_tokens=40)]
        assert guided.tokens == free[: len(guided.tokens)]


def test_calls_and_free_text_share_a_batch(folder: Path) -> None:
    from mlx_lm.generate import BatchGenerator

    mind = mind_of(folder, "json_tools")
    request = ask(tools=TOOLS, max_tokens=60)
    way = dialect(mind.tokenizer, "auto", request)
    prompt = render(mind.tokenizer, request, way).tokens
    trigger = mind.tokenizer.convert_tokens_to_ids("<tool_call>")

    def run(*, calling: bool) -> list[list[int]]:
        mine = [_insert(trigger, 4), *mind.grammars.processors(request, way, prompt)]
        batch = BatchGenerator(mind.model, stop_tokens=[[mind.tokenizer.eos_token_id]])
        lists = [[], mine] if calling else [[]]
        uids = batch.insert(
            [prompt] * len(lists), max_tokens=[60] * len(lists), samplers=[None, sampler(1.0, 9)][: len(lists)],
            logits_processors=lists,
        )
        written: dict[int, list[int]] = {uid: [] for uid in uids}
        live = set(uids)
        while live:
            for response in batch.next()[1]:
                written[response.uid].append(response.token)
                live -= {response.uid} if response.finish_reason else set()
        batch.close()
        return [*written.values()]

    (alone,), (beside, calls) = run(calling=False), run(calling=True)
    assert beside == alone
    answer = told(mind, request, way, prompt, calls)
    check(answer.calls[0])


def test_a_marker_that_straddles_tokens_begins_a_call(folder: Path) -> None:
    mind = mind_of(folder, "plain")
    request = ask(tools=TOOLS, max_tokens=200)
    wish = 'I will. <tool_call>{"name": "nonsense", "arguments": {"minutes": 5}}</tool_call>'
    answer = puppet(mind, request, script(mind, wish), setting="on")
    assert answer.text == "I will. "
    check(answer.calls[0])
    assert puppet(mind, request, script(mind, "Just <tool talk."), setting="on").text == "Just <tool talk."


def test_the_end_marker_within_a_string_is_no_end(folder: Path) -> None:
    mind, request = mind_of(folder, "plain"), ask(tools=(NOTE,), tool_choice="note", max_tokens=200)
    text = 'say \\"</tool_call>\\" twice'
    answer = puppet(mind, request, script(mind, FORMS["plain"].replace('"a"', f'"{text}"')))
    assert [call.arguments["text"] for call in answer.calls] == ['say "</tool_call>" twice']


def test_a_model_that_calls_without_end_is_brought_to_one(folder: Path) -> None:
    mind = mind_of(folder, "plain")
    request = ask(tools=TOOLS, tool_choice="required", max_tokens=400)
    clock = '<tool_call>{"name": "get_time", "arguments": {"zone": "UTC"}}</tool_call>'
    answer = puppet(mind, request, script(mind, clock * 8))
    assert len(answer.calls) == 2, "the same once more, and no third"
    timers = "".join(clock.replace("get_time", "set_timer").replace('"zone": "UTC"', f'"minutes": {number}')
                     for number in range(1, 9))
    short = puppet(mind, ask(tools=TOOLS, tool_choice="required", max_tokens=200), script(mind, timers))
    assert 1 <= len(short.calls) < 8
    for call in short.calls:
        check(call)


def test_a_choice_between_calls_and_a_schema(folder: Path) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    for family in ("plain", "json_tools", "qwen3_coder", "llama3", "mistral"):
        mind, request = mind_of(folder, family), ask(tools=(NOTE,), schema=schema, max_tokens=150)
        call = {"llama3": "<|python_tag|>" + FORMS["llama3"]}.get(family, FORMS[family])
        answer = puppet(mind, request, script(mind, '{"a": 3}'), setting="on")
        assert (answer.text, answer.calls) == ('{"a": 3}', [])
        answer = puppet(mind, request, script(mind, call), setting="on")
        assert [call.name for call in answer.calls] == ["note"]
        assert not accepts(mind, request, "Hello", setting="on")


def test_none_is_none_and_leaves_the_prompt_as_it_is(folder: Path) -> None:
    for family in ("plain", "json_tools", "mistral", "llama3"):
        mind = mind_of(folder, family)
        may, may_not = ask(tools=TOOLS), ask(tools=TOOLS, tool_choice="none", max_tokens=60)
        ways = [dialect(mind.tokenizer, "on", request) for request in (may, may_not)]
        prompts = [render(mind.tokenizer, request, way) for request, way in zip((may, may_not), ways, strict=True)]
        assert prompts[0] == prompts[1]
        form = FORMS["json_tools"] if family == "llama3" else FORMS[family]
        answer = puppet(mind, may_not, script(mind, f"No. {form}"), setting="on")
        assert not answer.calls
        assert answer.text.startswith("No. ")
        assert mind.tokenizer.tool_call_start not in (answer.text, "") or family == "llama3"


def test_llama_may_answer_in_words_or_with_a_bare_call(folder: Path) -> None:
    mind, request = mind_of(folder, "llama3"), ask(tools=TOOLS, max_tokens=120)
    assert puppet(mind, request, script(mind, "It is {five}.")).text == "It is {five}."
    bare = puppet(mind, request, script(mind, '{"name": "nonsense", "parameters": {"zone": 1}}'))
    assert bare.text == ""
    check(bare.calls[0])
    tagged_call = puppet(mind, request, script(mind, 'Well. <|python_tag|>{"name": "x"}'))
    assert tagged_call.text == "Well. "
    check(tagged_call.calls[0])


def test_who_gets_which_dialect(folder: Path) -> None:
    for family in FAMILIES:
        tokenizer = mind_of(folder, family).tokenizer
        style = {"plain": "", "thinking": "json_tools"}.get(family, family)
        auto = dialect(tokenizer, "auto", ask(tools=TOOLS))
        assert (auto.style, auto.native, auto.calls) == (style, bool(style), bool(style))
        assert dialect(tokenizer, "on", ask(tools=TOOLS)).style == (style or "own")
        off = dialect(tokenizer, "off", ask(tools=TOOLS))
        assert (off.calls, off.tools, off.native) == (False, (), bool(style))
        demanded = dialect(tokenizer, "auto", ask(tools=TOOLS, tool_choice="set_timer"))
        assert demanded.style == (style if style in GUIDED else "own")
        assert [tool.name for tool in demanded.callable] == ["set_timer"]
        assert [tool.name for tool in demanded.tools] == ["get_time", "set_timer"]


def test_what_cannot_be_demanded(folder: Path) -> None:
    tokenizer = mind_of(folder, "json_tools").tokenizer
    for setting, options, why in (
        ("off", {"tools": TOOLS, "tool_choice": "required"}, "switched off"),
        ("auto", {"tools": TOOLS, "tool_choice": "other"}, "no tool named 'other'"),
        ("auto", {"tool_choice": "required"}, "there are no tools"),
    ):
        with pytest.raises(ModelError, match=why) as refused:
            dialect(tokenizer, setting, ask(**options))
        assert refused.value.hint


CALL = ToolCall(id="call-1", name="get_time", arguments={"zone": "UTC"})
OTHER = ToolCall(id="call-2", name="set_timer", arguments={"minutes": 5})
HISTORY = (
    Message(role="system", content="Be brief."), Message(role="user", content="What time is it?"),
    Message(role="assistant", content="", tool_calls=(CALL, OTHER)),
    Message(role="tool", content="five", tool_call_id="call-1"),
    Message(role="tool", content="set", tool_call_id="call-2"),
    Message(role="assistant", content="Five."), Message(role="user", content="And now?"),
)


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_are_deterministic_and_tell_where_they_stay_the_same(folder: Path, family: str) -> None:
    mind = mind_of(folder, family)
    request = ChatRequest(messages=HISTORY, tools=TOOLS)
    way = dialect(mind.tokenizer, "on", request)
    prompt = render(mind.tokenizer, request, way)
    backwards = ChatRequest(messages=HISTORY, tools=(CLOCK, TIMER))
    assert render(mind.tokenizer, backwards, dialect(mind.tokenizer, "on", backwards)) == prompt
    text = mind.tokenizer.decode(prompt.tokens)
    for word in ("Be brief.", "What time is it?", "five", "Five.", "And now?", "get_time", "Tell the time."):
        assert word in text, word
    shared, *later = prompt.boundaries
    assert 0 <= shared < len(prompt.tokens)
    other = ChatRequest(messages=(HISTORY[0], Message(role="user", content="Hello")), tools=TOOLS)
    assert render(mind.tokenizer, other, way).tokens[:shared] == prompt.tokens[:shared]
    further = (*HISTORY, Message(role="assistant", content="Six."), Message(role="user", content="Thanks"))
    following = render(mind.tokenizer, ChatRequest(messages=further, tools=TOOLS), way)
    for boundary in later:
        assert shared < boundary < len(prompt.tokens)
        assert following.tokens[:boundary] == prompt.tokens[:boundary]
    if not family.startswith("mistral"):
        ending = len(mind.tokenizer.encode("<think>\n\n</think>\n\n")) if family == "json_tools" else 0
        assert later[0] >= len(prompt.tokens) - 1 - ending


def test_results_follow_their_calls_where_only_one_may_be_written(folder: Path) -> None:
    mind = mind_of(folder, "llama3")
    request = ChatRequest(messages=HISTORY, tools=TOOLS)
    text = mind.tokenizer.decode(render(mind.tokenizer, request, dialect(mind.tokenizer, "auto", request)).tokens)
    places = [text.index(part) for part in ('"get_time", "parameters"', '"five"', '"set_timer", "parameters"', '"set"')]
    assert places == sorted(places)


def test_the_own_form_shows_tools_calls_and_results() -> None:
    way = Dialect("own", tools=(CLOCK,), choice="auto", specs=[{"function": {"name": "get_time"}}])
    system, user, call, results, *_ = tagged(HISTORY, way)
    assert system["content"].startswith("Be brief.\n\n# Tools\n")
    assert '{"name": "get_time"}' in system["content"]
    assert user == {"role": "user", "content": "What time is it?"}
    assert call["content"].splitlines() == [
        '<tool_call>{"name": "get_time", "arguments": {"zone": "UTC"}}</tool_call>',
        '<tool_call>{"name": "set_timer", "arguments": {"minutes": 5}}</tool_call>',
    ]
    assert results == {
        "role": "user",
        "content": "<tool_response>\nfive\n</tool_response>\n<tool_response>\nset\n</tool_response>",
    }
    assert tagged([HISTORY[1]], way)[0]["role"] == "system"
    assert tagged(HISTORY, Dialect("own"))[0] == {"role": "system", "content": "Be brief."}


def test_the_tools_of_a_guide_need_not_be_enforceable(folder: Path) -> None:
    odd = ToolSchema(name="odd", description="x", parameters={"properties": {"a": {"pattern": "(?=x)"}}})
    mind = mind_of(folder, "json_tools")
    (guide,) = mind.grammars.processors(ask(tools=(odd,)), dialect(mind.tokenizer, "auto", ask(tools=(odd,))), [1])
    assert isinstance(guide, Guide)
    assert accepts(mind, ask(tools=(odd,), tool_choice="odd"),
                   '<tool_call>{"name": "odd", "arguments": {"a": "anything"}}</tool_call>')


PROMPTS = ["What time is it in Berlin?", "Set a timer for ten minutes.", "zzz 17 ???", "Tell me a joke.",
           "Who was Ada Lovelace?", "{\"name\": \"</tool_call>"]


@pytest.mark.model
def test_the_starter_with_tools_on_calls_well_whatever_is_said(starter_model: Path) -> None:
    from assistant_mlx import Settings
    from assistant_mlx.engine import MlxLanguageModel

    engine = MlxLanguageModel(Settings(tools="on"))
    engine.load(starter_model)
    requests = [ask(prompt, tools=TOOLS, tool_choice="required", max_tokens=64) for prompt in PROMPTS]
    live = [engine.generate(request) for request in requests]
    calls: list[list[ToolCall]] = [[] for _ in live]
    finish = [""] * len(live)
    while any(not end for end in finish):
        for index, generator in enumerate(live):
            if not finish[index]:
                delta = next(generator)
                finish[index] = delta.finish_reason
                calls[index] += [delta.tool_call] if delta.tool_call else []
    for made in calls:
        assert made
        for call in made:
            check(call)
    assert set(finish) == {"tool_calls"}
    assert json.dumps([call.arguments for made in calls for call in made])
    engine.close()
