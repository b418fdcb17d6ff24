"""Training LoRA adapters."""
