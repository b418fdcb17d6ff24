"""Answers that are kept to a form: JSON of a schema, masks, budgets of reasoning, and what becomes of trouble."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from assistant_mlx import Settings
from assistant_mlx.chat.prompt import render
from assistant_mlx.chat.toolcalls import Dialect
from assistant_mlx.engine import MlxLanguageModel
from assistant_mlx.grammar.grammars import KEPT
from assistant_mlx.grammar.guide import Ban, Guide
from assistant_mlx.grammar.masks import Masks
from families import random_model
from guidekit import Small, Told, accepts, ask, best, generated, puppet, sampler, script, small, told

from assistant import ModelError

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """A model without tools or reasoning."""
    return small(tmp_path_factory.mktemp("plain"), "plain")


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """A model that reasons."""
    return small(tmp_path_factory.mktemp("thinker"), "thinking")


@pytest.mark.parametrize("seed", range(4))
def test_a_random_model_answers_json_of_the_schema(plain: Small, seed: int) -> None:
    answer = generated(plain, ask(schema=PERSON, temperature=1.0, max_tokens=200), seed=seed)
    person = json.loads(answer.text)
    assert set(person) <= {"name", "age", "tags"}
    assert isinstance(person["name"], str)
    assert len(person["name"]) <= 8
    assert person["age"] in range(151)
    assert set(person.get("tags", [])) <= {"a", "b"}
    assert answer.finish == "stop"


@pytest.mark.parametrize("schema", [{}, {"type": "object"}])
def test_no_schema_in_particular_is_any_object(plain: Small, schema: dict[str, Any]) -> None:
    request = ask(schema=schema)
    assert accepts(plain, request, '{"a": [1, {"b": null}], "c": "d"}')
    assert accepts(plain, request, '{"a":1,"b":2}')
    for other in ("[1]", "1", '"a"', "", "text", '{"a": 1} ', '{"a": 1}{}', '{ "a": 1}', '{"a": '):
        assert not accepts(plain, request, other), other


def test_the_answer_ends_only_when_it_is_whole(plain: Small) -> None:
    end = plain.tokenizer.eos_token_id
    answer = puppet(plain, ask(schema=PERSON, max_tokens=120), lambda written: [end])
    person = json.loads(answer.text)
    assert {"name", "age"} <= set(person)
    wish = script(plain, '{"name": "Ada", "age": 36} and more')
    assert json.loads(puppet(plain, ask(schema=PERSON), wish).text) == {"name": "Ada", "age": 36}


def test_an_answer_that_runs_out_of_tokens_is_closed_and_says_so(plain: Small) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}}}, "required": ["a"]}
    letters = [plain.tokenizer.convert_tokens_to_ids(letter) for letter in "etaoinshrdlucmfwypvbgkjqxz"]

    def ramble(written: list[int]) -> list[int]:
        return [letters[(len(written) ** 2 + len(written) // 7) % 26]]

    answer = puppet(plain, ask(schema=schema, max_tokens=100), ramble)
    assert len(json.loads(answer.text)["a"][0]) > 30
    assert [processor.shortened for processor in answer.processors] == [True]
    again = puppet(plain, ask(schema=schema, max_tokens=1000), lambda written: [letters[0]])
    assert len(again.tokens) < 150, "a model that repeats itself is brought to an end"
    assert not again.processors[0].shortened
    assert set(json.loads(again.text)["a"][0]) == {"e"}


@pytest.mark.parametrize(("schema", "why"), [
    ({"type": "array", "uniqueItems": True}, "uniqueItems"),
    ({"not": {"type": "string"}}, "not"),
    ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
    ({"type": "string", "format": "unheard-of"}, "unheard-of"),
    ({"type": "string", "minLength": 3, "maxLength": 1}, "minLength"),
    ({"$ref": "#/$defs/nowhere"}, "nowhere"),
    ({"type": "person"}, "person"),
])
def test_a_schema_that_cannot_be_enforced_is_refused(plain: Small, schema: dict[str, Any], why: str) -> None:
    for _ in range(2):
        with pytest.raises(ModelError, match=why) as refused:
            generated(plain, ask(schema=schema))
        assert "simplify" in refused.value.hint


def test_nothing_is_in_the_way_of_a_free_answer(plain: Small, thinker: Small) -> None:
    for mind in (plain, thinker):
        assert list(mind.grammars.processors(ask(), Dialect(), [1, 2, 3])) == []


def test_a_neighbour_in_the_batch_is_not_disturbed(plain: Small) -> None:
    from mlx_lm.generate import BatchGenerator

    free, ruled = ask("free", max_tokens=60), ask("ruled", schema=PERSON, temperature=1.0, max_tokens=200)
    prompts = [render(plain.tokenizer, request, Dialect()).tokens for request in (free, ruled)]

    def run(count: int) -> Iterator[Told]:
        processors = [[], plain.grammars.processors(ruled, Dialect(), prompts[1])][:count]
        batch = BatchGenerator(plain.model, stop_tokens=[[plain.tokenizer.eos_token_id]])
        uids = batch.insert(
            prompts[:count], max_tokens=[60, 200][:count], samplers=[None, sampler(1.0, 5)][:count],
            logits_processors=processors,
        )
        tokens: dict[int, list[int]] = {uid: [] for uid in uids}
        live = set(uids)
        while live:
            for response in batch.next()[1]:
                tokens[response.uid].append(response.token)
                live -= {response.uid} if response.finish_reason else set()
        batch.close()
        for uid, request, prompt in zip(uids, (free, ruled), prompts, strict=False):
            yield told(plain, request, Dialect(), prompt, tokens[uid])

    (alone,), (beside, constrained) = run(1), run(2)
    assert beside == alone
    assert json.loads(constrained.text)["age"] in range(151)


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_the_mask_is_the_matchers(plain: Small, kind: str) -> None:
    import mlx.core as mx

    plain.grammars.processors(ask(schema=PERSON), Dialect(), [1])
    lark = 'start: "{" /[ab]+/ "}"\n'
    matcher = plain.grammars._matcher(lark)
    dtype = getattr(mx, kind)
    for width in (plain.width, plain.width + 100, plain.width - 50):
        row = Masks(plain.width).row(matcher, mx.zeros((1, width), dtype))
        bits = matcher.compute_bitmask()
        allowed = {token for token in range(min(width, plain.width)) if bits[token // 8] >> token % 8 & 1}
        assert row.shape == (1, width)
        assert row.dtype == dtype
        scores: Any = row.astype(mx.float32)[0].tolist()
        assert {token for token, score in enumerate(scores) if score == 0} == allowed
        assert set(scores) == {0.0, -float("inf")}


def test_compiled_grammars_are_kept_and_not_without_end(plain: Small) -> None:
    grammars = plain.grammars
    for number in range(KEPT + 10):
        for wanted in (number, 0):
            assert grammars.processors(ask(schema={"const": wanted}), Dialect(), [1])
    assert len(grammars._matchers) == KEPT
    assert sum('"const": 0,' in lark for lark in grammars._matchers) == 1


def test_a_token_that_leaves_the_grammar_fails_the_request_and_raises_nothing(plain: Small) -> None:
    import mlx.core as mx

    (guide,) = plain.grammars.processors(ask(schema=PERSON), Dialect(), [1])
    scores = mx.zeros((1, plain.width))
    assert guide(mx.array([1]), scores)[0].tolist() != scores[0].tolist()
    assert not guide.failed
    after = guide(mx.array([1, plain.tokenizer.convert_tokens_to_ids("x")]), scores)
    assert "left the grammar" in guide.failed
    assert after[0].tolist() == scores[0].tolist()
    assert guide(mx.array([1, 2, 3]), scores)[0].tolist() == scores[0].tolist()


def test_a_ban_is_a_ban() -> None:
    import mlx.core as mx

    assert Ban([1, 3])(mx.array([0]), mx.ones((1, 5))).tolist() == [[1, -float("inf"), 1, -float("inf"), 1]]


OPENED = "Let me see. It is five."


def test_reasoning_comes_first_and_the_json_follows(thinker: Small) -> None:
    wish = script(thinker, '<think>{"not": "yet"}</think>\n\n{"name": "Ada", "age": 36}')
    answer = puppet(thinker, ask(schema=PERSON, max_tokens=100), wish)
    assert answer.reasoning == '{"not": "yet"}'
    assert json.loads(answer.text) == {"name": "Ada", "age": 36}
    straight = puppet(thinker, ask(schema=PERSON), script(thinker, '{"name": "Ada", "age": 36}'))
    assert (straight.reasoning, json.loads(straight.text)["age"]) == ("", 36)


def test_reasoning_may_not_end_the_answer_before_the_json(thinker: Small) -> None:
    end, opens = thinker.tokenizer.eos_token_id, thinker.tokenizer.think_start_id
    answer = puppet(
        thinker, ask(schema=PERSON, max_tokens=150, reasoning_budget=5), lambda written: [opens] * (not written) + [end]
    )
    assert answer.reasoning
    assert json.loads(answer.text)


@pytest.mark.parametrize("budget", [1, 4, 9])
def test_reasoning_ends_at_its_budget(thinker: Small, budget: int) -> None:
    tokens = thinker.tokenizer.encode(OPENED, add_special_tokens=False)
    wish = script(thinker, "<think>" + OPENED + "</think>Five.")
    answer = puppet(thinker, ask(reasoning_budget=budget, max_tokens=40), wish)
    assert len(tokens) > 9
    assert answer.reasoning == thinker.tokenizer.decode(tokens[:budget])
    assert answer.tokens[budget + 1] == thinker.tokenizer.think_end_id
    assert "<" not in answer.text
    whole = puppet(thinker, ask(reasoning_budget=50, max_tokens=40), wish)
    assert (whole.reasoning, whole.text) == (OPENED, "Five.")


def test_no_reasoning_at_all(thinker: Small) -> None:
    wish = script(thinker, "<think>hm</think>Five.")
    request = ask(reasoning_budget=0, max_tokens=40)
    tokens = render(thinker.tokenizer, request, Dialect()).tokens
    assert thinker.tokenizer.decode(tokens).endswith("<think>\n\n</think>\n\n"), "the template was told"
    assert puppet(thinker, request, script(thinker, "Five.")).text == "Five."
    (guide,) = thinker.grammars.processors(request, Dialect(), [1, 2])
    assert isinstance(guide, Guide)
    unaware = _guided(thinker, guide, wish, 8)
    assert unaware[:2] == [thinker.tokenizer.think_start_id, thinker.tokenizer.think_end_id]


def test_reasoning_that_the_prompt_opened_counts_from_there(thinker: Small) -> None:
    opens = [1, thinker.tokenizer.think_start_id]
    for budget in (0, 3):
        (guide,) = thinker.grammars.processors(ask(reasoning_budget=budget), Dialect(), opens)
        assert isinstance(guide, Guide)
        assert _guided(thinker, guide, script(thinker, OPENED), budget + 1)[-1] == thinker.tokenizer.think_end_id


def test_reasoning_that_max_tokens_ends_is_still_reasoning(thinker: Small) -> None:
    answer = puppet(thinker, ask(max_tokens=4, reasoning_budget=50), script(thinker, "<think>" + OPENED))
    assert answer.text == ""
    assert OPENED.startswith(answer.reasoning)
    assert answer.reasoning
    assert answer.finish == "length"


def _guided(mind: Small, guide: Guide, wish: Any, count: int) -> list[int]:
    import mlx.core as mx

    written: list[int] = []
    for _ in range(count):
        scores = mx.zeros((1, mind.width))
        scores[0, mx.array([*wish(written)][:1])] = 1.0
        written.append(best(guide(mx.array([0, *written]), scores)))
    return written


def test_the_engine_says_that_an_answer_was_cut_short(tmp_path: Path) -> None:
    engine = MlxLanguageModel(Settings())
    engine.load(random_model(tmp_path, "plain"))
    items = {"type": "array", "items": {"const": "abc"}, "minItems": 8}
    *deltas, last = engine.generate(ask(schema=items, max_tokens=64))
    assert json.loads("".join(delta.text for delta in deltas)) == ["abc"] * 8
    assert 32 < last.output_tokens < 64
    assert last.finish_reason == "length"
    *_, whole = engine.generate(ask(schema=items | {"maxItems": 8}, max_tokens=400))
    assert whole.finish_reason == "stop"
    with pytest.raises(ModelError, match="uniqueItems"):
        next(engine.generate(ask(schema=items | {"uniqueItems": True})))
    assert [delta for delta in engine.generate(ask(max_tokens=3)) if delta.finish_reason]
    engine.close()


@pytest.mark.model
def test_the_starter_answers_json(starter_model: Path) -> None:
    engine = MlxLanguageModel(Settings())
    engine.load(starter_model)
    schema = {
        "type": "object", "properties": {"city": {"type": "string"}, "capital": {"type": "boolean"}},
        "required": ["city", "capital"], "additionalProperties": False,
    }
    request = ask("Is Paris a capital? Answer in JSON.", schema=schema, max_tokens=60)
    answer = json.loads("".join(delta.text for delta in engine.generate(request)))
    assert isinstance(answer["city"], str)
    assert isinstance(answer["capital"], bool)
    engine.close()
