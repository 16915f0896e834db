"""Models as Ollama's clients see them: what a folder says of them, and who may keep them in memory."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from inference.models import ApiToken
from inference.v1.ollama import catalog
from registry.models import BaseModel
from tests.inference.builders import make_base, make_version

THINKS = "{% if enable_thinking %}<think>{% endif %}{{ messages }}"


def folder(path: Path, **files: Any) -> Path:
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (path / name.replace("__", ".")).write_text(text)
    return path


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("template", "capable"),
    [
        ("{{ messages }}", ["completion"]),
        ("{% if tools %}{{ tools }}{% endif %}", ["completion", "tools"]),
        (THINKS, ["completion", "thinking"]),
        ("[THINK] {{ messages }}", ["completion", "thinking"]),
        ("<seed:think> {{ messages }}", ["completion", "thinking"]),
        (f"{{{{ tools }}}}{THINKS}", ["completion", "tools", "thinking"]),
        ("", ["completion"]),
    ],
)
def test_the_template_tells_what_a_model_can(template: str, capable: list[str]) -> None:
    assert catalog.capabilities(template) == capable


@pytest.mark.any_database
def test_the_template_is_found_wherever_it_is(tmp_path: Path) -> None:
    assert catalog.chat_template(tmp_path) == ""
    folder(tmp_path, tokenizer_config__json={"chat_template": "one"})
    assert catalog.chat_template(tmp_path) == "one"
    several = [{"name": "tool_use", "template": "two"}, {"name": "default", "template": "three"}]
    folder(tmp_path, tokenizer_config__json={"chat_template": several})
    assert catalog.chat_template(tmp_path) == "three"
    folder(tmp_path, chat_template__jinja="four")
    assert catalog.chat_template(tmp_path) == "four"


@pytest.mark.any_database
@pytest.mark.parametrize("damaged", ["[1]", "{", '{"chat_template": 3}', "[" * 100_000])
def test_a_damaged_file_tells_nothing(tmp_path: Path, damaged: str) -> None:
    folder(tmp_path, tokenizer_config__json=damaged)
    assert catalog.chat_template(tmp_path) == ""


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("count", "short"), [(0, "0"), (4_200, "4.2K"), (135e6, "135.0M"), (7.6e9, "7.6B")]
)
def test_parameters_are_counted_in_words(count: float, short: str) -> None:
    assert catalog._short(int(count)) == short


@pytest.mark.django_db
def test_a_model_is_described_by_its_own_files(storage: Path) -> None:
    base = make_base()
    base.architecture, base.context_length, base.parameters = "llama", 2048, 135_000_000
    base.quantization = "4-bit"
    base.save()
    make_version(base)
    path = storage / base.path
    path.chmod(0o700)
    config = path / "config.json"
    if config.exists():
        config.chmod(0o600)
    folder(path, config__json={"hidden_size": 576, "num_hidden_layers": 30})
    shown = catalog.show("calendar:0.1.0")
    assert shown["details"]["parent_model"] == "base:tiny"
    assert shown["details"]["parameter_size"] == "135.0M"
    assert shown["details"]["quantization_level"] == "4-bit"
    assert shown["model_info"]["llama.context_length"] == 2048
    assert shown["model_info"]["llama.embedding_length"] == 576
    assert shown["model_info"]["llama.block_count"] == 30
    assert "ADAPTER calendar@0.1.0" in shown["modelfile"]
    assert "ADAPTER" not in catalog.show("base:tiny")["modelfile"]


@pytest.mark.django_db
def test_the_list_takes_three_queries_more_than_the_names(
    storage: Path, django_assert_max_num_queries: Any
) -> None:
    base = make_base()
    for number in range(4):
        make_version(base, name=f"model{number}", version="0.1.0")
    with django_assert_max_num_queries(10):
        listed = catalog.tags()
    assert [one["name"] for one in listed][:2] == ["model0:latest", "model0:0.1.0"]
    assert BaseModel.objects.count() == 1


@pytest.mark.django_db
def test_beyond_loopback_a_key_is_needed(settings: Any) -> None:
    settings.IS_LOOPBACK = False
    settings.ALLOWED_HOSTS = ["testserver"]
    _, text = ApiToken.issue("ollama", ApiToken.Scope.INFERENCE)
    client = Client()
    refused = client.get("/ollama/api/tags")
    assert refused.status_code == 401
    assert refused.json().keys() == {"error"}
    assert client.get("/ollama/api/tags", HTTP_AUTHORIZATION=f"Bearer {text}").status_code == 200
    missing = client.post(
        "/ollama/elsewhere", content_type="application/json", HTTP_AUTHORIZATION=f"Bearer {text}"
    )
    assert missing.status_code == 404
    assert isinstance(missing.json()["error"], str)
