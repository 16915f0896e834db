"""`docs/openai.md`, from the code's own tables: `python manage.py shell -c "from
inference.v1.reference import write; write()"`."""

from __future__ import annotations

from pathlib import Path

from inference.v1.anthropic.schemas import CountIn, MessagesIn
from inference.v1.compatibility import CompatibleRequest, table
from inference.v1.openai.schemas import ChatCompletionIn, CompletionIn, EmbeddingIn

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "openai.md"
_ENDPOINTS: dict[str, type[CompatibleRequest]] = {
    "POST /v1/chat/completions": ChatCompletionIn,
    "POST /v1/completions": CompletionIn,
    "POST /v1/embeddings": EmbeddingIn,
    "POST /v1/messages": MessagesIn,
    "POST /v1/messages/count_tokens": CountIn,
}
_BEFORE = """\
# The compatible APIs

Made from the code's own tables (`inference/v1/reference.py`); a test compares.

Point a client's `base_url` at the hub: `http://127.0.0.1:8000/v1` for `openai`, \
`http://127.0.0.1:8000` for `anthropic`. On loopback any key does; beyond it send an API token as \
`Authorization: Bearer …` or `x-api-key`. `model` is any name that `GET /v1/models` lists, also \
those of single versions and aliases, and `base:NAME` is a base model alone.

- What is not in the tables is refused with 400: a misspelt parameter never passes silently.
- Errors have the form of the API that was asked: OpenAI's `{"error": {"message", "type", "param", \
"code"}}`, or Anthropic's. A prompt that is too long is told both lengths (OpenAI's code \
`context_length_exceeded`); a full queue is 429 and missing memory or engine 503, both with \
`Retry-After`; a request that outlives its deadline is 504. An error in mid-stream is the \
stream's last event.
- Usage tells how many tokens of the prompt were in the prefix cache \
(`prompt_tokens_details.cached_tokens`, `cache_read_input_tokens`).
- A client that goes away stops its generation.
- `GET /v1/models` answers in Anthropic's form when `anthropic-version` is sent.
- A tool call that the model writes and that cannot be read is an error, never a text: 400 \
`tool_use_failed` (in Anthropic's form `invalid_request_error`), as Groq has it, with all that \
the model wrote in `failed_generation` beside the message; in a stream as its last event. Not 500, \
because clients send those again by themselves. A call that the limit of tokens cuts is no error: \
the finish reason is `length` (`max_tokens`) and its beginning is in the text.
"""


def reference() -> str:
    """The document's text."""
    parts = [f"## {name}\n\n{table(kind)}\n" for name, kind in _ENDPOINTS.items()]
    return "\n".join([_BEFORE, *parts])


def write() -> None:
    DOCUMENT.write_text(reference())
