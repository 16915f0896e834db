"""`docs/openai.md`, from the code's own tables: `python manage.py shell -c "from
inference.v1.reference import write; write()"`."""

from __future__ import annotations

from pathlib import Path

from inference.v1.anthropic.schemas import CountIn, MessagesIn
from inference.v1.compatibility import CompatibleRequest, table
from inference.v1.openai.schemas import ChatCompletionIn, CompletionIn, EmbeddingIn
from inference.v1.rerank import RerankIn
from inference.v1.responses.schemas import ResponseIn

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "openai.md"
_ENDPOINTS: dict[str, type[CompatibleRequest]] = {
    "POST /v1/chat/completions": ChatCompletionIn,
    "POST /v1/responses": ResponseIn,
    "POST /v1/completions": CompletionIn,
    "POST /v1/embeddings": EmbeddingIn,
    "POST /v1/rerank": RerankIn,
    "POST /v1/messages": MessagesIn,
    "POST /v1/messages/count_tokens": CountIn,
}
_BEFORE = """\
# The compatible APIs

Generated from the code's own tables (`inference/v1/reference.py`); a test compares them.

Point a client's `base_url` at the hub: `http://127.0.0.1:8000/v1` for `openai`, \
`http://127.0.0.1:8000` for `anthropic`. On loopback any key works; from other machines send an API key as \
`Authorization: Bearer …` or `x-api-key`. `model` is any name that `GET /v1/models` lists, \
including single versions and aliases; `base:NAME` is a base model alone.

- A parameter that is not in the tables, or is listed as ignored with a header, changes nothing, and \
the answer's header `x-hub-ignored` names it, a misspelled one with the name that was probably meant: \
`x-hub-ignored: verbosity, tempreature;did-you-mean=temperature`. With \
`HUB_UNKNOWN_PARAMETERS=refuse` such a request is refused with 400.
- A chat without `max_tokens` continues until the model ends it, the context is full or the deadline \
(`HUB_REQUEST_DEADLINE_S`) passes.
- Errors have the form of the API that you call: OpenAI's `{"error": {"message", "type", "param", \
"code"}}`, or Anthropic's. The error for a prompt that is too long names both lengths \
(OpenAI's code `context_length_exceeded`). A full queue is 429, and a lack of memory or of the \
engine 503, both with `Retry-After`; a missed deadline is 504. An error in mid-stream is the \
last event of the stream.
- Usage reports how many tokens of the prompt were in the prefix cache \
(`prompt_tokens_details.cached_tokens`, `cache_read_input_tokens`).
- Disconnecting stops the generation.
- System and developer turns may stand anywhere: those at the start are one, a later one becomes a \
part of the user's turn beside it.
- `/v1/responses` passes over the tools that OpenAI runs (web search, code, MCP, …) and their items, \
because agents send them unasked, and names them in the header `x-hub-ignored`. It is stateless: \
`previous_response_id` is refused. For clients that send an `item_reference` in place of an \
earlier answer (Vercel's AI SDK), the items of the last answers stay in the memory of the web \
process, up to 16 million characters, unless `store` is false. A stream that fails ends with `error` and `response.failed`.
- Codex: `~/.codex/config.toml` with `model = "NAME"`, `model_provider = "hub"` and \
`[model_providers.hub]` with `name = "hub"`, `base_url = "http://127.0.0.1:8000/v1"`, \
`wire_api = "responses"`. Set `model_context_window` to the model's context, which Codex cannot \
ask for; its first prompt has some 10,000 tokens.
- lm-eval scores a model through `/v1/completions`: `lm_eval --model local-completions --model_args \
model=calendar,base_url=http://127.0.0.1:8000/v1/completions,tokenizer=FOLDER --batch_size 16`, \
where FOLDER is the base model's, below `storage/base`.
- LangChain's `OpenAIEmbeddings` sends OpenAI's token numbers by default: set \
`check_embedding_ctx_length=False`, or install tiktoken beside the hub.
- Embeddings are worth most from a model that was made for them: import one as a base model and send \
`base:NAME`. Taken are BERT, RoBERTa and XLM-RoBERTa (all-MiniLM, bge, e5, gte, …) and causal models such as \
Qwen3-Embedding, in a folder with the files of sentence-transformers: `modules.json` and \
`1_Pooling/config.json` decide whether a vector is the state of the first token, of the last one or the mean of \
all, and whether it has unit length; without them an encoder takes the mean. A conversion for MLX that lost \
`1_Pooling` is read as a model that writes: copy both from the original. Such a base model is for embeddings \
only: it is refused for chats and for training. Any other model answers with the mean of its last hidden \
states, at unit length, which was never trained to mean anything: enough to try a program, not to find \
documents. `GET /v1/models` says of each model what its vectors are (`embeddings`, `embeddings_only`, `reranking_only`).
- Many embedding models expect words before a text. Those in its `config_sentence_transformers.json` are \
chosen by `prompt_name` (Qwen3-Embedding: `query`, and `document`, which is empty); one that it names as its default is \
always used. Others say it in their description alone: put `query: ` and `passage: ` before the texts of e5, \
and bge's sentence before questions, yourself. A text that is longer than the model reads is refused, not cut.
- `/v1/rerank` puts texts into the order in which they answer a query, each with a `relevance_score` from \
0 to 1, as Cohere's and Jina's do: `cohere.Client(base_url="http://127.0.0.1:8000")`, or \
`cohere.ClientV2(base_url="http://127.0.0.1:8000/v1")`. Import a reranker as a base model and send \
`base:NAME`. Taken are BERT, RoBERTa and XLM-RoBERTa with a head of one label (ms-marco-MiniLM, \
bge-reranker-v2-m3, …), which do nothing else and whose score is the head's after a sigmoid, and causal ones such \
as Qwen3-Reranker, which are asked in its words, and whose score is how likely they say yes of yes and \
no. Any other model that writes is asked the same, which it was never trained to answer. Each text is read \
together with the query: rank what a search found, not a library.
- `GET /v1/models` answers in Anthropic's form when `anthropic-version` is sent. It reports the \
context length: `max_model_len`, or Anthropic's `max_input_tokens`.
- Answers carry their ID in the hub's log as `x-request-id` and `request-id`.
- A tool call that the model writes but that cannot be parsed is an error, never a text: 400 \
`tool_use_failed` (`invalid_request_error` in Anthropic's form), as at Groq, with everything the \
model wrote in `failed_generation` beside the message; in a stream it is the last event. It is not \
500, because clients retry those automatically. A call cut short by the token limit is not an \
error: the finish reason is `length` (`max_tokens`) and the start of the call is in the text.
- In a stream a tool call comes as the model writes it, its name first and then its arguments piece by \
piece, letter for letter as in an answer that does not stream: where arguments are written as JSON (Hermes and Qwen, \
Mistral, Kimi K2, and in words), and where they stand one by one (Qwen3-Coder, GLM and Laguna, LongCat, MiniMax, \
MiniCPM, Kimi K3, Muse Spark, Gemma and FunctionGemma); there a text comes as it is written and any other value \
with its end. In LFM2's notation the call comes whole at the end, and so does one that is written in another \
order or form than usual, and the input of a custom tool. Pieces are sent before the whole call is known: if it \
turns out to be broken, the error follows them, and if it is cut off, the reason `length` and the start of the call as text; a client must not run a call \
before the stream says `tool_calls` (`tool_use`, `response.completed`).
- A custom tool, over `/v1/chat/completions` and `/v1/responses`, is for the model a function with one text, \
`input`. Its grammar stands in its description, and is enforced. A regex is enforced as it is (in Rust's syntax), and \
a Lark grammar as the regex that says the same; one whose rules refer to themselves is refused with `tool_choice` \
required or the tool's name and beside a format, and described alone with `auto`.
- An earlier call whose arguments were cut off is taken back as the text that it was, and so is its \
result.
- Thoughts come apart from the answer (`reasoning_content`, reasoning items, thinking blocks) where a model \
marks them as most do, `<think>`…`</think>`, whether it or its template writes the first mark, and in the other \
notations that mlx-lm reads (LongCat, Gemma 4, …), and in those of Magistral and Ministral, Seed, Kimi-VL and \
gpt-oss. A schema holds after them, and \
a budget ends them.
- Tools work with every chat template. One that knows no tools, or writes calls in a way that the hub \
cannot read, gets them in words, as Hermes and Qwen have them: the system message ends with the JSON \
of every tool within `<tools></tools>`; a call is \
`<tool_call>{"name": …, "arguments": {…}}</tool_call>` in the answer, also in earlier ones; a result \
is `<tool_response>…</tool_response>` in the user's turn. How well a model keeps to that is another \
matter: `strict` has each call enforced, and `tool_choice` `required` (`any`) that there is one.
- An enforced call has the name of a tool, all parameters that are required, in the order of the schema (of \
their names, where Gemma's templates sort them), and each value of its type, written as the model's template \
writes it. In tags a text has no quotes: its `enum`, `pattern`, lengths and common formats (date, time, \
date-time, uuid, email, hostname, ipv4, uri) hold all the same, but it cannot be the word null or contain the tag \
that ends it. Parameters that the schema does not name are not written, and FunctionGemma has no way to write \
lists and objects.
- `strict` tools are enforced with `tool_choice` `auto`, too, over `/v1/chat/completions`, `/v1/responses` (where, as \
at OpenAI, a tool is strict unless it says `false`) and `/v1/messages`; so is the grammar of a custom tool. Text and \
thoughts are free, and are what they would be without it; where the model begins a call with the notation's mark, it \
is held to the name of one of the tools, which need not all be strict, to a schema, and to the end mark, as often as it \
calls. OpenAI's limits on such schemas (`additionalProperties` false, everything required) do not hold here. Where a \
strict tool's schema cannot be enforced, its calls are read as the model writes them, and the header `x-hub-ignored` \
names `tools.NAME.strict`: of that tool alone where arguments are JSON, of all strict ones where they stand one by one. \
With `auto` and no strict tool nothing is enforced.
- A chat has one system message, at its start. A later system or developer message joins the user's \
turn before it, else the one after it, else it is a user's turn of its own; where a template takes no \
system message at all, it begins the user's first turn.
"""


def reference() -> str:
    """The document's text."""
    parts = [f"## {name}\n\n{table(kind)}\n" for name, kind in _ENDPOINTS.items()]
    return "\n".join([_BEFORE, *parts])


def write() -> None:
    DOCUMENT.write_text(reference())
