"""LoRA adapters, put on the model and taken off it while it stays loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from assistant import ModelError


class Adapters:
    """The adapter that the model carries now; one at a time."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._identities: dict[str, str] = {}
        self.current = ""
        """Its folder; empty when the model is as it was loaded."""

    def check(self, folder: str) -> None:
        """Look whether the folder holds an adapter.

        Raises:
            ModelError: it does not, or one of a kind that cannot be taken off again.
        """
        if not folder:
            return
        config, weights = Path(folder) / "adapter_config.json", Path(folder) / "adapters.safetensors"
        hint = "`assistant finetune` makes adapters; mlx_lm.lora's work too"
        try:
            kind = json.loads(config.read_text(encoding="utf-8")).get("fine_tune_type", "lora")
            size = weights.stat()
        except (OSError, ValueError, AttributeError) as error:
            raise ModelError(f"{folder} is no adapter: {error}", hint=hint) from error
        if kind != "lora":
            raise ModelError(f"the adapter in {folder} is of the kind {kind!r}; only lora can be swapped", hint=hint)
        self._identities[folder] = f"{folder} {size.st_mtime_ns} {size.st_size}"

    def identity(self, folder: str) -> str:
        """What tells the adapter from any other, also from an older one in the same folder."""
        return self._identities.get(folder, "")

    def switch(self, folder: str) -> None:
        """Make the model carry this adapter, or none.

        Raises:
            ModelError: it was made for another model; the model then carries none.
        """
        self._take_off()
        if not folder:
            return
        from mlx_lm.tuner.utils import load_adapters

        try:
            load_adapters(self._model, folder)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            self._take_off()
            raise ModelError(
                f"the adapter in {folder} does not fit the model: {str(error).splitlines()[0]}",
                hint="an adapter works with the model it was made for",
            ) from error
        self._model.eval()
        self.current = folder

    def _take_off(self) -> None:
        """What ``mlx_lm.tuner.utils.remove_lora_layers`` does, for every kind of LoRA layer."""
        from mlx.utils import tree_unflatten
        from mlx_lm.tuner.lora import LoRAEmbedding, LoRALinear, LoRASwitchLinear

        self.current = ""
        plain = [
            (name, module.embedding if isinstance(module, LoRAEmbedding) else module.linear)
            for name, module in self._model.named_modules()
            if isinstance(module, LoRALinear | LoRAEmbedding | LoRASwitchLinear)
        ]
        if plain:
            self._model.update_modules(tree_unflatten(plain))
