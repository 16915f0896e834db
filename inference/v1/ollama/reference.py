"""`docs/ollama.md`, from the code's own tables: `python manage.py shell -c "from
inference.v1.ollama.reference import write; write()"`."""

from __future__ import annotations

from pathlib import Path

from inference.v1.compatibility import CompatibleRequest, table
from inference.v1.ollama.schemas import (
    ChatIn,
    EmbedIn,
    GenerateIn,
    OneEmbeddingIn,
    OptionsIn,
    ShowIn,
)

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "ollama.md"
_TABLES: dict[str, type[CompatibleRequest]] = {
    "POST /api/chat": ChatIn,
    "POST /api/generate": GenerateIn,
    "`options`": OptionsIn,
    "POST /api/embed": EmbedIn,
    "POST /api/embeddings": OneEmbeddingIn,
    "POST /api/show": ShowIn,
}
_BEFORE = """\
# Ollama's API

Generated from the code's own tables (`inference/v1/ollama/reference.py`); a test compares them.

For programs that speak nothing else. It is at `http://127.0.0.1:8000/ollama`; for those that let you \
set only a host and a port, `HUB_OLLAMA_PORT=11434` puts it at the root of a port of its own on the \
same address, together with `/v1`. [clients.md](clients.md) says where each program wants it.

- **Names.** `NAME:latest` is what `NAME` means here: the alias `production`, else the newest ready \
version. `NAME:1.2.0` is a version, `NAME:alias` an alias, `base:NAME` a base model. The hub's own \
`NAME@1.2.0` is taken, too.
- **Keys** are those of `/v1`, as `Authorization: Bearer …`; on loopback none is needed.
- **Streams** are lines of JSON, and the default. Disconnecting stops the generation.
- **Durations** are nanoseconds. Waiting for a place among other requests counts as `load_duration`.
- **Errors** are `{"error": "one sentence"}`; in mid-stream, the last line.
- **Parameters** that change nothing, and those that are not in the tables, are named in the answer's \
header `x-hub-ignored`; `HUB_UNKNOWN_PARAMETERS=refuse` refuses the latter with 400.
- **Defaults** are the hub's: without `temperature` an answer is greedy and repeatable, and \
`num_predict` goes up to the context. `num_ctx` is not honoured: the context is as long as the \
model's own.
- **`think`** sets `enable_thinking` (and with a text `reasoning_effort`) of the chat template; thoughts \
come in `message.thinking`, or `thinking` of `/api/generate`.
- **`keep_alive`** 0 unloads the model once the answer is complete, if no other request uses it; a \
negative one pins it, as on the page System › Models in memory. Other values change nothing: \
`HUB_MODEL_IDLE_S` decides. Requests without messages or prompt load (or unload) the model and \
generate nothing. A key of the scope inference may neither pin nor unload.
- **`/api/show`** says by the chat template whether a model knows `tools` and `thinking`; `template` is \
the model's own, in Jinja. `/api/ps` lists a base and each adapter in memory, with its own share.
- **Not offered**: pulling, pushing, creating, copying and deleting (501). The hub has versions and \
data sets behind a model; use its pages, commands or API for them.
- `/api/version` is the release of Ollama whose API this is, not the hub's.
"""


def reference() -> str:
    """The document's text."""
    parts = [f"## {name}\n\n{table(kind)}\n" for name, kind in _TABLES.items()]
    return "\n".join([_BEFORE, *parts])


def write() -> None:
    DOCUMENT.write_text(reference())
