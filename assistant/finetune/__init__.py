"""Teaching a language model from conversations: the data set, the training as a job, the adapters that come of it."""

from .records import AdapterInfo, ChatMessage, Example, FinetuneRequest
from .shelf import adapters, resolve_adapter

__all__ = ["AdapterInfo", "ChatMessage", "Example", "FinetuneRequest", "adapters", "resolve_adapter"]
