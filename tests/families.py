"""Small models in the manner of the well-known families: their chat templates, shortened, and their marker tokens, over
a real byte-level BPE and random weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

MESSAGES = (
    "{%- for message in messages %}{%- if message.role == 'tool' %}{{- '<|im_start|>user\n<tool_response>\n' + "
    "message.content + '\n</tool_response><|im_end|>\n' }}{%- else %}{{- '<|im_start|>' + message.role + '\n' + "
    "message.content }}%CALLS%{{- '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}%OPEN%{%- endif %}"
)

TOOLS = "{%- if tools %}{{- '<|im_start|>system\n# Tools\n' }}{%- for tool in tools %}{{- tool | tojson + '\n' }}" \
    "{%- endfor %}{{- '%HOW%<|im_end|>\n' }}{%- endif %}"


def _chatml(how: str, calls: str, opens: str = "") -> str:
    each = "{%- for tool_call in message.tool_calls or [] %}" + calls + "{%- endfor %}"
    return TOOLS.replace("%HOW%", how) + MESSAGES.replace("%CALLS%", each).replace("%OPEN%", opens)


QWEN = _chatml(
    "<tool_call>\n{name, arguments}\n</tool_call>",
    "{{- '\n<tool_call>\n{\"name\": \"' + tool_call.function.name + '\", \"arguments\": ' }}"
    "{{- tool_call.function.arguments | tojson }}{{- '}\n</tool_call>' }}{# tool_call.name #}",
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}",
)
"""Qwen 2.5 and 3; the latter thinks."""

QWEN_CODER = _chatml(
    "<tool_call>\n<function=NAME>\n<parameter=KEY>\nVALUE\n</parameter>\n</function>\n</tool_call>",
    "{{- '\n<tool_call>\n<function=' + tool_call.function.name + '>\n' }}{%- for key, value in "
    "tool_call.function.arguments | items %}{{- '<parameter=' + key + '>\n' }}{{- value if value is string else "
    "value | tojson }}{{- '\n</parameter>\n' }}{%- endfor %}{{- '</function>\n</tool_call>' }}",
)

GLM = _chatml(
    "<tool_call>NAME\n<arg_key>KEY</arg_key>\n<arg_value>VALUE</arg_value>\n</tool_call>",
    "{{- '\n<tool_call>' + tool_call.function.name + '\n' }}{%- for key, value in tool_call.function.arguments | items "
    "%}{{- '<arg_key>' + key + '</arg_key>\n<arg_value>' }}{{- value if value is string else value | tojson }}"
    "{{- '</arg_value>\n' }}{%- endfor %}{{- '</tool_call>' }}",
)

MINIMAX = _chatml(
    "<minimax:tool_call>", "{{- '<minimax:tool_call>\n<invoke name=\"' + tool_call.function.name + '\">...' }}"
)

LFM = _chatml("<|tool_call_start|>[name(key=value)]<|tool_call_end|>", "{{- '<|tool_call_start|>' }}")

FUNCTION_GEMMA = _chatml("<start_function_call>call:name{}<end_function_call>", "{{- '<start_function_call>' }}")

GEMMA = _chatml("<|tool_call>call:name{}<tool_call|>", "{{- '<|tool_call>' }}")

KIMI = _chatml("<|tool_calls_section_begin|>", "{{- '<|tool_calls_section_begin|>' }}")

LLAMA = (
    "{%- set ns = namespace(first=true) %}{{- bos_token }}{%- if messages[0].role == 'system' %}"
    "{%- set system = messages[0].content | trim %}{%- set messages = messages[1:] %}{%- else %}{%- set system = '' %}"
    "{%- endif %}{{- '<|start_header_id|>system<|end_header_id|>\n\n' }}{%- if tools %}{{- 'Environment: ipython\n' }}"
    "{%- endif %}{{- system + '<|eot_id|>' }}{%- if tools %}{%- set user = messages[0].content | trim %}"
    "{%- set messages = messages[1:] %}{{- '<|start_header_id|>user<|end_header_id|>\n\nRespond in the format "
    "{\"name\": function name, \"parameters\": dictionary of argument name and its value}.\n\n' }}"
    "{%- for tool in tools %}{{- tool | tojson + '\n\n' }}{%- endfor %}{{- user + '<|eot_id|>' }}{%- endif %}"
    "{%- for message in messages %}{%- if message.tool_calls %}{%- if message.tool_calls | length != 1 %}"
    "{{- raise_exception('This model only supports single tool-calls at once!') }}{%- endif %}"
    "{%- set tool_call = message.tool_calls[0].function %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{{- '{\"name\": \"' + tool_call.name + '\", ' }}{{- '\"parameters\": ' }}{{- tool_call.arguments | tojson }}"
    "{{- '}<|eot_id|>' }}{%- elif message.role == 'tool' %}{{- '<|start_header_id|>ipython<|end_header_id|>\n\n' }}"
    "{{- message.content | tojson + '<|eot_id|>' }}{%- else %}{{- '<|start_header_id|>' + message.role + "
    "'<|end_header_id|>\n\n' + message.content | trim + '<|eot_id|>' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)

MISTRAL = (
    "{{- bos_token }}{%- for message in messages %}{%- if message.role == 'user' %}"
    "{%- if tools and loop.last %}{{- '[AVAILABLE_TOOLS] ' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}{%- endif %}"
    "{{- '[INST] ' + message.content + '[/INST]' }}"
    "{%- elif message.role == 'assistant' and message.tool_calls %}{{- '[TOOL_CALLS] [' }}"
    "{%- for tool_call in message.tool_calls %}{%- if tool_call.id | length != 9 %}"
    "{{- raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}{%- endif %}"
    "{{- tool_call.function | tojson }}{{- ', ' if not loop.last else ']' + eos_token }}{%- endfor %}"
    "{%- elif message.role == 'assistant' %}{{- ' ' + message.content + eos_token }}"
    "{%- elif message.role == 'tool' %}{%- if message.tool_call_id | length != 9 %}"
    "{{- raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}{%- endif %}"
    "{{- '[TOOL_RESULTS] {\"content\": ' + message.content + '}[/TOOL_RESULTS]' }}"
    "{%- else %}{{- raise_exception('Only user and assistant roles are supported!') }}{%- endif %}{%- endfor %}"
)

MISTRAL_NEW = MISTRAL.replace(
    "{{- tool_call.function | tojson }}",
    "{{- tool_call.function.name + '[ARGS]' + tool_call.function.arguments | tojson }}",
)


class Family(NamedTuple):
    """A chat template and the tokens it needs."""

    template: str
    special: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    """Tokens of their own that are text nevertheless."""
    bos: str = "<|im_start|>"
    eos: str = "<|im_end|>"


CALL = ("<tool_call>", "</tool_call>")
THINK = ("<think>", "</think>")
HEADERS = ("<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>")
INST = ("[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
        "[/TOOL_RESULTS]")

FAMILIES: dict[str, Family] = {
    "plain": Family(MESSAGES.replace("%CALLS%", "").replace("%OPEN%", "")),
    "json_tools": Family(QWEN, added=CALL),
    "thinking": Family(QWEN, added=(*CALL, *THINK)),
    "qwen3_coder": Family(QWEN_CODER, added=CALL),
    "glm47": Family(GLM, special=CALL),
    "minimax_m2": Family(MINIMAX, special=("<minimax:tool_call>", "</minimax:tool_call>")),
    "pythonic": Family(LFM, special=("<|tool_call_start|>", "<|tool_call_end|>")),
    "function_gemma": Family(
        FUNCTION_GEMMA, special=("<start_function_call>", "<end_function_call>", "<escape>")
    ),
    "gemma4": Family(GEMMA, special=("<|tool_call>", "<tool_call|>", '<|"|>')),
    "kimi_k2": Family(KIMI, special=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>")),
    "llama3": Family(LLAMA, special=HEADERS, bos="<|begin_of_text|>", eos="<|eot_id|>"),
    "mistral": Family(MISTRAL, special=INST, bos="<s>", eos="</s>"),
    "mistral_header": Family(MISTRAL_NEW, special=(*INST, "[ARGS]"), bos="<s>", eos="</s>"),
}

CORPUS = [
    'The quick brown fox jumps over the lazy dog. {"name": "get_time", "arguments": {"city": "Paris"}}',
    '{"name": "set_timer", "parameters": {"minutes": 10, "label": "tea"}} true false null 0 1 2 3 4 5 6 7 8 9',
    "The tool answered: it is five o'clock in Paris, and the timer is set. Hello, how are you? <tool_call></tool_call>",
] * 3


def random_model(folder: Path, family: str, *, seed: int = 0) -> Path:
    """A Llama checkpoint of random weights, whose logits are wider than its vocabulary."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.models import llama

    width = _write_tokenizer(folder, FAMILIES[family]) + 37
    config: dict[str, Any] = {
        "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "rms_norm_eps": 1e-5, "vocab_size": width,
        "max_position_embeddings": 4096, "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
    mx.random.seed(seed)
    model = llama.Model(llama.ModelArgs.from_dict(config))
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())), {"format": "mlx"})
    return folder


def _write_tokenizer(folder: Path, family: Family) -> int:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    special = dict.fromkeys([family.bos, family.eos, "<|im_start|>", "<|im_end|>", *family.special])
    tokenizer.add_special_tokens(_tokens([*special], AddedToken, special=True))
    tokenizer.add_tokens(_tokens(family.added, AddedToken, special=False))
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": family.bos, "eos_token": family.eos,
        "clean_up_tokenization_spaces": False, "chat_template": family.template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return int(tokenizer.get_vocab_size(with_added_tokens=True))


def _tokens(texts: Sequence[str], kind: Any, *, special: bool) -> list[Any]:
    return [kind(text, special=special, normalized=False) for text in texts]
