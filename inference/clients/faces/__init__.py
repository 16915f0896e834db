"""The APIs that agents speak: how each says a request, and how its answers and streams are read."""

from inference.clients.faces.chat import ChatCompletions
from inference.clients.faces.messages import Messages
from inference.clients.faces.ollama import Ollama
from inference.clients.faces.responses import Responses
from inference.clients.faces.speech import Face, Refusal, said_in_events

FACES: tuple[Face, ...] = (ChatCompletions(), Responses(), Messages(), Ollama())

__all__ = ["FACES", "Face", "Refusal", "said_in_events"]
