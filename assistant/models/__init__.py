"""Models: what they are called, which are here, and fetching the others."""

from .registry import Models

__all__ = ["Models"]
