"""Training a LoRA adapter with mlx-lm's trainer, in short pieces that can be stopped, and resumed from the disk.

The folder of an adapter holds ``adapter_config.json`` and ``adapters.safetensors``, as ``mlx_lm.lora`` writes them and
``mlx_lm`` reads them, and ``training.safetensors``: the adapter, the optimizer and the iteration of one moment.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from assistant import EngineFailed, FinetuneJob, FinetuneStep
from assistant_mlx import fit, loading

from . import examples
from .checkpoint import Checkpoint, read, write, write_config

if TYPE_CHECKING:
    from assistant_mlx import Settings

PIECE_SECONDS = 2.0
"""A ``next()`` trains for about so long, and a cancel waits for as much; one iteration at least."""
MAX_PIECE = 256
"""Iterations in a piece."""
SAVE_SECONDS = 20.0
"""Work that a killed process loses at most, and the piece it was in."""
VALIDATIONS = 5
"""How often the validation loss is computed on the way, besides once before and once after."""
MAX_VALIDATION = 50
"""Examples that are looked at for it."""
SCALE = 20.0
"""What the adapter's product is multiplied by; mlx-lm's own default (``mlx_lm/lora.py``, CONFIG_DEFAULTS)."""


def finetune(job: FinetuneJob, settings: Settings) -> Iterator[FinetuneStep]:
    """Train; a ``next()`` loads, validates one example, or trains for some two seconds. Closing it saves first.

    The outcome depends neither on how often it was interrupted nor on how long the pieces are.

    Raises:
        ModelTooLarge: the model does not fit the memory; nothing was loaded.
        ModelError: the model or its data cannot be used.
        EngineFailed: MLX cannot be imported, a step failed, the loss is no number, or what is on the disk was trained
            with something else.
    """
    model = Path(job.model)
    fit.check(model, msgspec.structs.replace(settings, context=job.max_tokens))
    loaded = loading.load(model, settings.dequantize)
    yield FinetuneStep(iteration=0, iterations=job.iterations)
    training = Training(job, loaded)
    yield from training.run()


@dataclass
class Training:
    """A model that is being trained."""

    job: FinetuneJob
    loaded: loading.Loaded
    iteration: int = 0
    saved: int = -1
    """The iteration that is on the disk."""
    saved_at: float = 0.0
    piece: int = 1
    """Iterations of the next one."""
    optimizer: Any = field(init=False)

    def __post_init__(self) -> None:
        """Put the adapter on the model, as new or as it was last saved."""
        job, model = self.job, self.loaded.model
        data = Path(job.data)
        self._train = examples.read(self.loaded.tokenizer, data / "train.jsonl", job.max_tokens)
        self._valid = examples.read(self.loaded.tokenizer, data / "valid.jsonl", job.max_tokens)[:MAX_VALIDATION]
        if not self._train:
            raise EngineFailed(f"{data} holds nothing that fits into {job.max_tokens} tokens", hint="allow more tokens")
        mx = importlib.import_module("mlx.core")
        layers = len(model.layers) if job.layers < 0 else min(job.layers, len(model.layers))
        parameters = {"rank": job.rank, "dropout": 0.0, "scale": SCALE}
        mx.random.seed(job.seed)
        model.freeze()
        with loading._surroundings():
            utils = importlib.import_module("mlx_lm.tuner.utils")
            self.optimizer = importlib.import_module("mlx.optimizers").Adam(learning_rate=job.learning_rate)
        utils.linear_to_lora_layers(model, layers, parameters)
        mx.eval(model.parameters())
        self.optimizer.init(model.trainable_parameters())
        self._mark = _fingerprint(job, layers)
        folder = Path(job.adapter)
        folder.mkdir(parents=True, exist_ok=True)
        if found := read(folder, self._mark):
            self._restore(found)
        write_config(folder, job, layers, parameters)
        self.saved_at = time.monotonic()

    def run(self) -> Iterator[FinetuneStep]:
        """Train to the end, or until the iterator is closed."""
        job = self.job
        every = max(10, math.ceil(job.iterations / (VALIDATIONS + 1)))
        try:
            yield self._step()
            if self.iteration == 0:
                yield from self._validate()
            while self.iteration < job.iterations:
                until = min(job.iterations, (self.iteration // every + 1) * every)
                yield self._learn(min(self.piece, until - self.iteration))
                if self.iteration == until:
                    yield from self._validate()
            self._save()
            yield self._step(saved=True)
        except GeneratorExit:
            self._save()
            raise

    def _learn(self, iterations: int) -> FinetuneStep:
        began = time.monotonic()
        groups = _groups(self._train, self.job, self.iteration, iterations)
        loss, speed = _train(self, groups)
        if not math.isfinite(loss):
            raise EngineFailed(
                f"the training diverged: after iteration {self.iteration} the loss is {loss}",
                hint=f"use a lower learning rate than {self.job.learning_rate:g}; what was saved before is kept",
            )
        self.iteration += iterations
        seconds = time.monotonic() - began
        if seconds < PIECE_SECONDS / 2:
            self.piece = min(MAX_PIECE, max(self.piece, 2 * iterations))
        elif seconds > PIECE_SECONDS:
            self.piece = max(1, self.piece // 2)
        due = self.saved < 0 or time.monotonic() - self.saved_at > SAVE_SECONDS
        if due:
            self._save()
        return self._step(train_loss=loss, tokens_per_second=speed, saved=due)

    def _validate(self) -> Iterator[FinetuneStep]:
        total = tokens = 0.0
        for example in self._valid:
            total += _evaluate(self, example) * example.answer_tokens
            tokens += example.answer_tokens
            yield self._step()
        if tokens:
            yield self._step(valid_loss=total / tokens)

    def _step(self, **figures: Any) -> FinetuneStep:
        return FinetuneStep(iteration=self.iteration, iterations=self.job.iterations, **figures)

    def _save(self) -> None:
        if self.iteration > self.saved:
            flatten = importlib.import_module("mlx.utils").tree_flatten
            adapter, optimizer = flatten(self.loaded.model.trainable_parameters()), flatten(self.optimizer.state)
            write(Path(self.job.adapter), Checkpoint(self.iteration, self._mark, dict(adapter), dict(optimizer)))
            self.saved, self.saved_at = self.iteration, time.monotonic()

    def _restore(self, found: Checkpoint) -> None:
        unflatten = importlib.import_module("mlx.utils").tree_unflatten
        self.loaded.model.load_weights(list(found.adapter.items()), strict=False)
        self.optimizer.state = unflatten(list(found.optimizer.items()))
        self.optimizer.learning_rate = self.job.learning_rate
        self.iteration = self.saved = found.iteration


class _Report:
    """Takes mlx-lm's figures."""

    loss = math.nan
    speed = 0.0

    def on_train_loss_report(self, figures: dict[str, float]) -> None:
        """At the end of every piece."""
        self.loss, self.speed = figures["train_loss"], figures["tokens_per_second"]


class _NoDisplay:
    """Stands in for mlx-lm's progress bars, which would go to the log."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> _NoDisplay:
        return self

    def __exit__(self, *_: object) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def _train(training: Training, groups: list[list[examples.Example]]) -> tuple[float, float]:
    """Mean loss, and answer tokens per second."""
    trainer, report = _trainer(), _Report()
    scratch = Path(training.job.adapter) / "piece.safetensors"
    settings = trainer.TrainingArgs(
        batch_size=len(groups[0]), iters=len(groups), steps_per_report=len(groups), steps_per_save=len(groups) + 1,
        max_seq_length=training.job.max_tokens, adapter_file=str(scratch),
    )
    with _failing(training), _compiling(training.loaded.on_gpu):
        trainer.train(
            training.loaded.model, training.optimizer, groups, args=settings, iterate_batches=_batches,
            training_callback=report,
        )
    scratch.unlink(missing_ok=True)
    return report.loss, report.speed


def _evaluate(training: Training, example: examples.Example) -> float:
    limit = training.job.max_tokens
    with _failing(training), _compiling(training.loaded.on_gpu):
        loss: float = _trainer().evaluate(
            training.loaded.model, [[example]], 1, -1, max_seq_length=limit, iterate_batches=_batches
        )
    return loss


def _batches(dataset: list[list[examples.Example]], max_seq_length: int, **_: Any) -> Iterator[tuple[Any, Any]]:
    """Each group as mlx-lm's padded batch; its span ends one token too late, on the padding."""
    mx = importlib.import_module("mlx.core")
    for group in dataset:
        pairs = [(example.tokens, example.prompt_tokens) for example in group]
        for tokens, spans in _trainer().iterate_batches(pairs, len(pairs), max_seq_length):
            yield tokens, spans - mx.array([[0, 1]])


def _groups(
    found: list[examples.Example], job: FinetuneJob, first: int, count: int
) -> list[list[examples.Example]]:
    """The batches of ``count`` iterations from ``first`` on: every example once an epoch, those of like length
    together, in an order that only the seed and the epoch decide."""
    numpy = importlib.import_module("numpy")
    size = min(job.batch_size, len(found))
    ordered = sorted(found, key=lambda example: len(example.tokens))
    starts = [*range(0, len(ordered) - size + 1, size)]
    if starts[-1] + size < len(ordered):
        starts.append(len(ordered) - size)
    groups: list[list[examples.Example]] = []
    orders: dict[int, Any] = {}
    for iteration in range(first, first + count):
        epoch, place = divmod(iteration, len(starts))
        if epoch not in orders:
            orders[epoch] = numpy.random.default_rng([job.seed, epoch]).permutation(len(starts))
        start = starts[int(orders[epoch][place])]
        groups.append(ordered[start : start + size])
    return groups


def _fingerprint(job: FinetuneJob, layers: int) -> str:
    """What must be the same for a training to be resumed."""
    digest = hashlib.sha256()
    for file in (Path(job.model) / "config.json", Path(job.data) / "train.jsonl"):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    digest.update(json.dumps([job.batch_size, layers, job.rank, job.max_tokens, job.seed]).encode())
    return digest.hexdigest()


def _trainer() -> Any:
    with loading._surroundings():
        trainer = importlib.import_module("mlx_lm.tuner.trainer")
    # It wires the whole working set of the GPU and draws progress bars; see loading.py for the former.
    trainer.maybe_set_recommended_wired_limit = lambda: None  # type: ignore[attr-defined]
    trainer.TrainUI = _NoDisplay  # type: ignore[attr-defined]
    return trainer


@contextmanager
def _compiling(on_gpu: bool) -> Iterator[None]:
    """On a CPU, MLX would have a C++ compiler build each fused kernel: half a minute for nothing gained."""
    mx = importlib.import_module("mlx.core")
    if not on_gpu:
        mx.disable_compile()
    try:
        yield
    finally:
        if not on_gpu:
            mx.enable_compile()


@contextmanager
def _failing(training: Training) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, MemoryError) as error:
        raise EngineFailed(
            f"the training failed after iteration {training.iteration}: {error}",
            hint="if it is for memory: fewer layers, a smaller batch or rank, or shorter examples; then resume it",
        ) from error
