"""`/v1/rerank`: texts in the order in which they answer a query, as Cohere's and Jina's clients ask.

`docs/openai.md` says what happens to each parameter.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from django.http import HttpRequest, HttpResponse, JsonResponse
from ninja import Router
from pydantic import Field, field_validator

from backends.base import Question
from inference.gateway import generation
from inference.gateway.generation import Ranking
from inference.gateway.request import Caller, answered_by
from inference.models import InferenceRequest
from inference.v1.compatibility import CompatibleRequest, ModelName, Refused, Text

router = Router()
MAX_DOCUMENTS = 1000
_WHOLE = "a text is never cut: one that is too long is refused"


class RerankIn(CompatibleRequest):
    """A query, and the texts to rank by it."""

    IGNORED: ClassVar = {
        "user": "labels the request",
        "priority": "keys take turns",
    }
    UNHEEDED: ClassVar = {
        "max_tokens_per_doc": Refused(_WHOLE),
        "max_chunks_per_doc": Refused(_WHOLE),
        "truncation": Refused(_WHOLE, (False,)),
    }
    REFUSED: ClassVar = {
        "rank_fields": Refused("write what counts into the texts", ([],)),
        "return_embeddings": Refused("a reranker makes no vectors", (False,)),
    }

    model: ModelName
    query: Annotated[Text, Field(min_length=1)]
    documents: Annotated[
        list[Text],
        Field(
            min_length=1,
            max_length=MAX_DOCUMENTS,
            description=f'up to {MAX_DOCUMENTS} texts, or objects with a `"text"`',
        ),
    ]
    top_n: Annotated[
        int | None, Field(ge=1, description="how many of the best to return; all by default")
    ] = None
    return_documents: Annotated[
        bool | None, Field(description="whether each result has its text; false by default")
    ] = None
    instruction: Annotated[
        Text | None,
        Field(
            description="not Cohere's; of what kind the texts should be, for models that were trained to "
            "read it, such as Qwen3-Reranker, whose own is the default; with an encoder ignored and "
            "named in `x-hub-ignored`"
        ),
    ] = None

    @field_validator("documents", mode="before")
    @classmethod
    def _texts(cls, sent: Any) -> Any:
        """Texts of objects; what has none is refused as what it is."""
        if not isinstance(sent, list):
            return sent
        return [one["text"] if isinstance(one, dict) and "text" in one else one for one in sent]


def body(made: Ranking, payload: RerankIn) -> dict[str, Any]:
    """The best first; of equals the one that was sent first."""
    order = sorted(range(len(made.scores)), key=lambda n: (-made.scores[n], n))
    results: list[dict[str, Any]] = []
    for n in order[: payload.top_n]:
        result: dict[str, Any] = {"index": n, "relevance_score": made.scores[n]}
        if payload.return_documents:
            result["document"] = {"text": payload.documents[n]}
        results.append(result)
    read = made.prompt_tokens
    return {
        "id": f"rerank-{made.request_id}",
        "model": answered_by(made.served),
        "results": results,
        "usage": {"prompt_tokens": read, "total_tokens": read},  # as Jina says it, and Cohere
        "meta": {
            "api_version": {"version": "1"},
            "tokens": {"input_tokens": read, "output_tokens": 0},
        },
    }


async def _rerank(request: HttpRequest, payload: RerankIn) -> HttpResponse:
    payload.refuse_unsupported()
    caller = Caller.of(request, InferenceRequest.Api.OPENAI)
    question = Question(payload.query, payload.instruction or "")
    made = await generation.rank(payload.model, question, payload.documents, caller)
    unread = ["instruction"] if payload.instruction and made.served.base.reranks else []
    return payload.told(JsonResponse(body(made, payload)), *unread)


@router.post("/rerank", summary="Texts in the order in which they answer a query")
async def rerank(request: HttpRequest, payload: RerankIn) -> HttpResponse:
    return await _rerank(request, payload)


@router.post("/v2/rerank", summary="The same, where Cohere's ClientV2 asks")
async def rerank_v2(request: HttpRequest, payload: RerankIn) -> HttpResponse:
    """It adds `/v2` to the address that it is given."""
    return await _rerank(request, payload)
