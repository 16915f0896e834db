"""The document of the compatible APIs says what the code does."""

import pytest
from django.utils.module_loading import import_string

from inference.v1.anthropic.schemas import MessagesIn
from inference.v1.compatibility import CompatibleRequest
from inference.v1.openai.schemas import ChatCompletionIn, CompletionIn, EmbeddingIn
from inference.v1.reference import DOCUMENT, reference
from inference.v1.responses.schemas import ResponseIn

pytestmark = pytest.mark.any_database


def test_the_document_is_the_codes_own_table() -> None:
    assert DOCUMENT.read_text() == reference(), "write it again with inference.v1.reference.write()"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "theirs"),
    [
        (ChatCompletionIn, "chat.completion_create_params.CompletionCreateParamsBase"),
        (CompletionIn, "completion_create_params.CompletionCreateParamsBase"),
        (EmbeddingIn, "embedding_create_params.EmbeddingCreateParams"),
        (ResponseIn, "responses.response_create_params.ResponseCreateParamsBase"),
    ],
)
def test_every_parameter_of_the_openai_client_is_decided(
    kind: type[CompatibleRequest], theirs: str
) -> None:
    decided = {*kind.model_fields, *kind.IGNORED, *kind.REFUSED, *kind.UNHEEDED}
    assert set(import_string(f"openai.types.{theirs}").__annotations__) <= decided


@pytest.mark.slow
def test_every_parameter_of_the_anthropic_client_is_decided() -> None:
    from anthropic.types import message_create_params

    decided = {*MessagesIn.model_fields, *MessagesIn.IGNORED, *MessagesIn.REFUSED}
    assert set(message_create_params.MessageCreateParamsBase.__annotations__) <= decided


@pytest.mark.parametrize(
    "kind", [ChatCompletionIn, CompletionIn, EmbeddingIn, MessagesIn, ResponseIn]
)
def test_a_parameter_is_decided_once(kind: type[CompatibleRequest]) -> None:
    names = [*kind.model_fields, *kind.IGNORED, *kind.REFUSED, *kind.UNHEEDED]
    assert len(names) == len(set(names))
