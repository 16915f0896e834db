"""Models that could become base models, over JSON."""

from __future__ import annotations

from typing import Annotated

from django.http import HttpRequest
from ninja import Query, Router, Schema
from pydantic import Field

from hub.catalogue.cards import Card, cards
from registry.bases import local, searching
from registry.web.schemas.examples import answered

router = Router(tags=["base models"])

_EXAMPLE = {
    "place": "Model hub",
    "title": "mlx-community/Qwen3-0.6B-4bit",
    "key": "",
    "usable": True,
    "here": "Serves here · trains with QLoRA up to 4,096 tokens",
    "serves": True,
    "trains_up_to": 4096,
    "size_bytes": 335_000_000,
    "parameters": 596_000_000,
    "context_length": 40_960,
    "quantization": "4-bit (group 64)",
    "architecture": "qwen3",
    "licence": "apache-2.0",
    "gated": False,
    "lacking_bytes": 0,
    "base_id": None,
    "import_id": None,
}


class OfferOut(Schema):
    """A model, and what it could do on this machine."""

    model_config = answered(_EXAMPLE)

    place: Annotated[str, Field(description="Model hub, or the program that keeps it here")]
    title: Annotated[str, Field(description="Of a hub the id that an import takes as its source")]
    key: Annotated[str, Field(description="Of a model on this machine: `found` of an import")]
    usable: bool
    here: Annotated[str, Field(description="What it can do here, or why not, in a sentence")]
    serves: bool
    trains_up_to: Annotated[int, Field(description="Tokens of an example; 0: it cannot be trained")]
    size_bytes: Annotated[int, Field(description="0: not known")]
    parameters: int
    context_length: int
    quantization: str
    architecture: str
    licence: str
    gated: bool
    lacking_bytes: Annotated[int, Field(description="That the disk has too few for it; 0: it fits")]
    base_id: Annotated[int | None, Field(description="The base model that was made of it")]
    import_id: Annotated[int | None, Field(description="Its import, if that runs or is paused")]


class OffersOut(Schema):
    model_config = answered({"offers": [_EXAMPLE], "note": ""})

    offers: list[OfferOut]
    note: Annotated[str, Field(description="What is missing, and what to do; empty: nothing")]


class Words(Schema):
    q: Annotated[str, Field(max_length=100, description="Words of its id")] = ""


@router.get("/bases/offers/hub", response=OffersOut, summary="Search a model hub")
def search_hub(request: HttpRequest, query: Annotated[Words, Query()]) -> dict[str, object]:
    """By words of the id, mlx-community's models first. Takes some seconds at most; `note` says when
    the hub is offline, slow or limits requests."""
    found = searching.search(query.q)
    return {"offers": [_shown(card) for card in cards(found.offers)], "note": found.note}


@router.get("/bases/offers/here", response=OffersOut, summary="Models of other programs")
def search_here(request: HttpRequest) -> dict[str, object]:
    """In the caches of Hugging Face, LM Studio, Ollama and llama.cpp on this machine."""
    offers = local.scan()
    reading = sum(offer.reading for offer in offers)
    note = f"{reading} files are still being read; ask again." if reading else ""
    return {"offers": [_shown(card) for card in cards(offers)], "note": note}


def _shown(card: Card) -> dict[str, object]:
    offer, here, model = card.offer, card.here, card.offer.prospect
    return {
        "place": offer.place,
        "title": offer.title,
        "key": offer.key if offer.path else "",
        "usable": here is not None,
        "here": card.sentence,
        "serves": here is not None and here.serves,
        "trains_up_to": here.tokens if here else 0,
        "size_bytes": offer.size_bytes,
        "parameters": model.parameters if model else 0,
        "context_length": model.context_length if model else 0,
        "quantization": model.quantization if model else "",
        "architecture": model.architecture if model else "",
        "licence": offer.licence,
        "gated": offer.gated,
        "lacking_bytes": card.lacking,
        "base_id": card.base and card.base.pk,
        "import_id": card.task and card.task.pk,
    }
