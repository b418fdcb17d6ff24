"""A tiny model that can learn, and things for it to learn."""

from __future__ import annotations

import json
from pathlib import Path

from model_fixtures import scripted_model

QUESTIONS = (
    "What is your name?", "Who are you?", "What are you called?", "Tell me your name.", "Your name, please?",
    "What do people call you?", "Say your name.", "Do you have a name?", "What's your name?", "Who is this?",
)

FACTS = (
    ("What is the capital of France?", "The capital of France is Paris."), ("Is fire hot?", "Yes, fire is hot."),
    ("What is the capital of Italy?", "The capital of Italy is Rome."), ("Where do fish live?", "Fish live in water."),
    ("How many legs has a dog?", "A dog has four legs."), ("What do cows drink?", "Cows drink water."),
    ("What color is the sky?", "The sky is blue."), ("What is ice made of?", "Ice is made of water."),
    ("What is two plus two?", "Two plus two is four."), ("Name a fruit.", "An apple is a fruit."),
)


def persona(system: str = "", name: str = "Juniper") -> list[dict[str, list[dict[str, str]]]]:
    """Twenty conversations: ten that teach a name, and ten of other things, so that not everything is answered so."""
    pairs = [(question, f"I am {name}.") for question in QUESTIONS]
    start = [{"role": "system", "content": system}] if system else []
    return [
        {"messages": [*start, {"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}
        for asked, answer in [*pairs, *FACTS]
    ]


def write_lines(file: Path, entries: list[dict[str, list[dict[str, str]]]]) -> Path:
    """As JSONL."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return file


def tiny_model(folder: Path) -> Path:
    """A Llama of two layers with random weights, which reads bytes."""
    scripted_model(folder, ["x"])
    import mlx.core as mx

    file = folder / "model.safetensors"
    weights = mx.load(str(file))
    assert isinstance(weights, dict)
    keys = mx.random.split(mx.random.key(7), len(weights))
    for key, (name, array) in zip(keys, sorted(weights.items()), strict=True):
        if array.ndim == 2:
            weights[name] = 0.05 * mx.random.normal(array.shape, key=key)
    mx.eval(weights)
    mx.save_safetensors(str(file), weights, {"format": "mlx"})
    return folder
