"""One turn, from text or audio to the stored answer.

``runner`` leads it: it listens (speech to text), tries the intents, else lets the model answer, and speaks.
``conversing`` is the model's part, ``calling`` runs tools, ``prompting`` makes of the history what the model reads,
``state`` is what they share.
"""

from .runner import TurnRunner
from .state import Parts, Turn

__all__ = ["Parts", "Turn", "TurnRunner"]
