"""Trains, from nothing and on a CPU, a Whisper that knows some spoken commands, in mlx-whisper's own format.

    python tests/train_whisper.py tests/data/whisper-tiny-commands

It needs torch and mlx-whisper, prints what it hears of voices and speeds that it was not trained on, and ends with the
same weights whenever it runs on the same kind of machine.

Of the vocabulary only the words that occur are trained; the others get a constant low score through a dimension that
is kept for this, so nearly all of the file is the same few bytes again and again.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from mlx_whisper.tokenizer import get_tokenizer
from whisper_network import (
    CONTEXT,
    HEADS,
    LAYERS,
    MELS,
    TEXT_CONTEXT,
    WIDTH,
    Network,
    Tensor,
    log_mel,
    parameters,
)
from whisper_speech import (
    HELD_OUT_SPEEDS,
    HELD_OUT_VARIANTS,
    LANGUAGES,
    NUMBERS,
    RATE,
    SPEEDS,
    TEMPLATES,
    VARIANTS,
    Saying,
    Wave,
    noise,
    recorded,
    say,
    saying,
    sayings,
)

VOCABULARY = 51865
UNUSED = -30.0
"""The score of tokens that are never said."""
GRID = 0.2
"""Seconds between the time stamps that are used."""
BATCH, PEAK_RATE = 32, 3e-3


@dataclass
class Clip:
    """A recording and what is to be written for it; local numbers of tokens."""

    mel: Tensor
    tokens: list[int]
    text: str
    sound: Wave
    """Empty where only the features are needed."""


class Words:
    """The tokens that occur, numbered from 0."""

    def __init__(self) -> None:
        self.whisper = get_tokenizer(True, num_languages=99, language="en", task="transcribe")
        special = [self.whisper.sot, self.whisper.sot_sequence[1], self.whisper.transcribe, self.whisper.no_speech]
        stamps = [self.whisper.timestamp_begin + round(one * GRID * 50) for one in range(round(12 / GRID))]
        text: dict[int, None] = {}
        for template in (one for _, one in TEMPLATES):
            for addressed in (False, True):
                for pieces in range(template.count("|") + 1):
                    plain = template.format(n="", unit="", single="")
                    text |= dict.fromkeys(self.encode(saying(plain, addressed=addressed, pieces=pieces).text))
        rest = f"{' '.join(NUMBERS)} second minute hour seconds minutes hours"
        for one in rest.split():
            for end in ("", "?", "."):
                text |= dict.fromkeys(self.encode(f"so {one}{end}"))
        self.ids = [*special, self.whisper.eot, *stamps, *text]
        self.local = {token: number for number, token in enumerate(self.ids)}
        self.first_text = len(special) + 1 + len(stamps)

    def encode(self, text: str) -> list[int]:
        """Whisper's tokens of a text, which begins with a space there."""
        return [int(token) for token in self.whisper.encode(f" {' '.join(text.split())}")]

    def target(self, text: str, start: float, end: float) -> list[int]:
        """The whole sequence that the decoder reads and writes; without text, that nobody speaks."""
        stamp = [self.whisper.timestamp_begin + round(GRID * 50) * round(at / GRID) for at in (min(start, 1.0), end)]
        said = [stamp[0], *self.encode(text), stamp[1]] if text else [self.whisper.timestamp_begin]
        return [self.local[token] for token in (*self.whisper.sot_sequence, *said, self.whisper.eot)]


def clips(count: int, rng: np.random.Generator, known: Words, variants: tuple[str, ...], speeds: tuple[int, ...],
          takes: int = 0) -> list[Clip]:
    """Recordings of ``count`` sayings in ``takes`` rooms each, an eighth of them of nobody speaking.

    Args:
        takes: 0 for one recording of which the sound is kept too.
    """
    found = []
    stream = sayings(rng)
    for number in range(count):
        if number % 8 == 7:
            sounds, what = np.zeros(0, np.float32), Saying((), "")
        else:
            what = next(stream)
            name = f"{rng.choice(LANGUAGES)}+{rng.choice(variants)}".rstrip("+")
            pitch = float(rng.uniform(0.93, 1.07)) if rng.random() < 0.5 else 1.0
            sounds = say(what, name, int(rng.choice(speeds)), rng, pitch)
        for _ in range(max(takes, 1)):
            clip = _take(what, sounds, rng, known)
            found.append(replace(clip, sound=np.zeros(0, np.float32)) if takes else clip)
    return found


def _take(what: Saying, sound: Wave, rng: np.random.Generator, known: Words) -> Clip:
    lead, tail = float(rng.uniform(0, 0.6)), float(rng.uniform(0.05, 0.6))
    if not what.text:
        level = 10 ** (rng.uniform(-65, -15) / 20)
        wave = noise(int(rng.uniform(0.5, 4) * RATE), rng) * np.float32(level)
        wave = np.asarray(np.round(np.clip(wave, -1, 1) * 32767) / 32768, np.float32)
    else:
        wave = recorded(sound, rng, lead, tail)
    return Clip(log_mel(wave).half(), known.target(what.text, lead, lead + len(sound) / RATE), what.text, wave)


def batched(chosen: list[Clip]) -> tuple[Tensor, Tensor, Tensor]:
    """Features, the lengths of these in positions, and tokens, filled up with -100."""
    frames = max(len(one.mel) for one in chosen)
    frames += frames % 2
    mel = torch.zeros(len(chosen), frames, MELS)
    tokens = torch.full((len(chosen), max(len(one.tokens) for one in chosen)), -100)
    for row, one in enumerate(chosen):
        mel[row, : len(one.mel)] = one.mel.float()
        tokens[row, : len(one.tokens)] = torch.tensor(one.tokens)
    return mel, torch.tensor([(len(one.mel) + 1) // 2 for one in chosen]), tokens


def loss_of(network: Network, chosen: list[Clip], known: Words, rng: np.random.Generator) -> Tensor:
    """Cross-entropy of the transcripts, plus what the words cost when they are to be found in their order."""
    mel, lengths, tokens = batched(chosen)
    spoken = torch.arange(mel.shape[1])[None] < 2 * lengths[:, None]
    shift = torch.from_numpy(rng.normal(0, 0.1, (len(chosen), 1, 1))).float()
    tilt = torch.from_numpy(rng.normal(0, 0.1, (len(chosen), 1, 1))).float() * torch.linspace(-1, 1, MELS)
    mel = (mel + (shift + tilt + 0.03 * torch.randn_like(mel)) * spoken[..., None])
    features, counts = network.encode(mel, int(rng.integers(1 << 20)))
    targets = tokens[:, 1:].clone()
    silent = tokens[:, 4] == known.local[known.whisper.eot]
    targets[silent, 0] = known.local[known.whisper.no_speech]
    scores = network.decode(tokens[:, :-1].clamp(min=0), features, counts)
    written = F.cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=-100)
    said = [[token for token in one.tokens if token >= known.first_text] for one in chosen]
    on_the_way = network.words_on_the_way(features[:, : mel.shape[1] // 2]).transpose(0, 1)
    found = F.ctc_loss(
        on_the_way, torch.tensor([token for one in said for token in one]), lengths, torch.tensor([*map(len, said)]),
        blank=on_the_way.shape[2] - 1, zero_infinity=True,
    )  # fmt: skip
    return written + 0.3 * found


def train(known: Words, data: list[Clip], steps: int, rng: np.random.Generator) -> dict[str, Tensor]:
    """The weights after so many steps of ``BATCH`` clips of about one length."""
    weights = parameters(len(known.ids))
    for value in weights.values():
        value.requires_grad_(True)
    network = Network(weights)
    flat = [value for name, value in weights.items() if value.ndim < 2 or "embedding" in name]
    full = [value for name, value in weights.items() if not (value.ndim < 2 or "embedding" in name)]
    optimizer = torch.optim.AdamW(
        [{"params": full, "weight_decay": 0.02}, {"params": flat, "weight_decay": 0.0}], lr=PEAK_RATE, betas=(0.9, 0.98)
    )
    by_length = sorted(data, key=lambda one: len(one.mel))
    begun, mean = time.monotonic(), 0.0
    for step in range(steps):
        rate = min(step / 150, 0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * max(rate, 0.01)
        centre = int(rng.integers(len(by_length)))
        low = max(0, min(centre - 4 * BATCH, len(by_length) - 8 * BATCH))
        near = by_length[low : low + 8 * BATCH]
        loss = loss_of(network, [near[one] for one in rng.choice(len(near), BATCH, replace=False)], known, rng)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*weights.values()], 1.0)
        optimizer.step()
        mean += (loss.item() - mean) / min(step + 1, 100)
        if step % 100 == 99:
            print(f"step {step + 1}: loss {mean:.3f}, {time.monotonic() - begun:.0f} s", flush=True)  # noqa: T201
    return {name: value.detach() for name, value in weights.items()}


def save(weights: dict[str, Tensor], known: Words, folder: Path) -> None:
    """Write config.json and weights.safetensors, 16-bit floats, with the whole vocabulary."""
    import mlx.core as mx

    spoken = torch.ones(WIDTH)
    spoken[-1] = 0.0
    embedding = torch.zeros(VOCABULARY, WIDTH)
    embedding[:, -1] = UNUSED
    embedding[known.ids] = weights["decoder.token_embedding.weight"] * spoken
    whole = {**weights, "decoder.token_embedding.weight": embedding}
    whole["decoder.ln.weight"] = whole["decoder.ln.weight"] * spoken
    whole["decoder.ln.bias"] = whole["decoder.ln.bias"] * spoken + (1 - spoken)
    folder.mkdir(parents=True, exist_ok=True)
    stored = {name: mx.array(value.numpy()).astype(mx.float16) for name, value in whole.items() if "ctc" not in name}
    mx.save_safetensors(str(folder / "weights.safetensors"), stored)
    config = {
        "model_type": "whisper", "n_mels": MELS, "n_audio_ctx": CONTEXT, "n_audio_state": WIDTH, "n_audio_head": HEADS,
        "n_audio_layer": LAYERS, "n_vocab": VOCABULARY, "n_text_ctx": TEXT_CONTEXT, "n_text_state": WIDTH,
        "n_text_head": HEADS, "n_text_layer": LAYERS,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def check(folder: Path, held_out: list[Clip]) -> None:
    """Print how much of it the engine, with mlx-whisper, hears exactly."""
    from assistant_whisper.engine import Whisper

    engine = Whisper()
    engine.load(folder)
    right = {True: [0, 0], False: [0, 0]}
    for one in held_out:
        utterance = engine.open("en", ())
        utterance.feed((one.sound * 32768).astype("<i2").tobytes())
        text = utterance.finish().text
        right[bool(one.text)][0] += text == one.text
        right[bool(one.text)][1] += 1
        if text != one.text:
            print(f"  {one.text!r} was heard as {text!r}")  # noqa: T201
    for speech, (good, every) in right.items():
        print(f"{'speech' if speech else 'no speech'}, voices and speeds held out: {good} of {every}")  # noqa: T201


def main() -> None:
    """Train, save, check."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--sayings", type=int, default=5000)
    options.add_argument("--takes", type=int, default=2)
    options.add_argument("--steps", type=int, default=4500)
    options.add_argument("--held-out", type=int, default=160)
    options.add_argument("--threads", type=int, default=1)
    chosen = options.parse_args(sys.argv[1:])
    torch.manual_seed(1)
    torch.set_num_threads(chosen.threads)
    torch.use_deterministic_algorithms(True)
    known = Words()
    begun = time.monotonic()
    data = clips(chosen.sayings, np.random.default_rng(1), known, VARIANTS, SPEEDS, chosen.takes)
    print(f"{len(data)} clips, {len(known.ids)} tokens, {time.monotonic() - begun:.0f} s", flush=True)  # noqa: T201
    save(train(known, data, chosen.steps, np.random.default_rng(2)), known, chosen.folder)
    check(chosen.folder, clips(chosen.held_out, np.random.default_rng(3), known, HELD_OUT_VARIANTS, HELD_OUT_SPEEDS))


if __name__ == "__main__":
    main()
