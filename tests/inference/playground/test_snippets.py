"""A request as curl and as Python asks exactly the same."""

import ast
import inspect
import json
import re
import shlex
import subprocess
from typing import Any

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from inference.native.schemas import InferenceIn
from inference.playground.programs import anthropic
from inference.playground.snippets import EXTRA, chat_body, curl, python
from inference.v1.anthropic.schemas import MessagesIn
from inference.v1.openai.schemas import ChatCompletionIn
from registry.errors import Invalid
from tests.characters import CHARACTERS

pytestmark = pytest.mark.any_database
ORIGIN = "http://127.0.0.1:8000"
HARD = """It's "quoted", $HOME `id` $(id) \\n !! %s {x} 日本 🐱
'''\"\"\"\ttab\x0bodd\u2028\x85end\\"""
FULL: dict[str, Any] = {
    "temperature": 0.7,
    "top_p": 0.9,
    "top_k": 40,
    "min_p": 0.05,
    "seed": 2**53 - 1,
    "stop": ["\n", "it's"],
    "repetition_penalty": 1.1,
    "presence_penalty": -0.5,
    "frequency_penalty": 0.5,
    "logprobs": True,
    "top_logprobs": 5,
    "max_tokens": 64,
    "thinking_budget": 100,
    "template": {"enable_thinking": True},
}


def asked(text: str = HARD, **fields: Any) -> InferenceIn:
    messages = [{"role": "system", "content": text}, {"role": "user", "content": text}]
    return InferenceIn.model_validate({"model": "calendar@0.1.0", "messages": messages, **fields})


def sent_by_curl(command: str) -> dict[str, Any]:
    words = shlex.split(command.replace("\\\n", ""))
    assert words[:3] == ["curl", "-N", f"{ORIGIN}/v1/chat/completions"]
    return dict(json.loads(words[words.index("-d") + 1]))


def sent_by_python(program: str) -> dict[str, Any]:
    """The arguments of the call, with what the client adds from `extra_body`."""
    compile(program, "snippet", "exec")
    calls = [node for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Call)]
    create = next(c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "create")
    body = {word.arg: ast.literal_eval(word.value) for word in create.keywords}
    return {str(name): value for name, value in body.items() if name != "extra_body"} | dict(
        body.get("extra_body", {})
    )


@pytest.mark.parametrize("fields", [{}, FULL])
def test_both_send_what_the_playground_sends(fields: dict[str, Any]) -> None:
    request = asked(**fields)
    body = chat_body(request)
    assert sent_by_curl(curl(body, ORIGIN, keyed=False)) == body
    assert sent_by_python(python(body, ORIGIN, keyed=False)) == body
    read = ChatCompletionIn.model_validate(body)
    read.refuse_unsupported()
    assert read.stream is True
    wanted = request.sampling()
    made = read.sampling()
    assert made == wanted
    assert read.template() == request.template


@given(st.text(CHARACTERS, min_size=1, max_size=60))
def test_any_text_survives_quoting(text: str) -> None:
    body = chat_body(asked(text))
    assert sent_by_curl(curl(body, ORIGIN, keyed=False)) == body
    assert sent_by_python(python(body, ORIGIN, keyed=False)) == body


def test_a_real_shell_reads_the_command_alike() -> None:
    body = chat_body(asked(**FULL))
    command = curl(body, ORIGIN, keyed=True)
    script = f'curl() {{ printf "%s\\0" "$@"; }}\nHUB_API_KEY=hub-secret\n{command}\n'
    ran = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    words = ran.stdout.decode().split("\0")
    assert "Authorization: Bearer hub-secret" in words
    assert json.loads(words[words.index("-d") + 1]) == body


def test_what_openai_lacks_goes_into_the_extra_body() -> None:
    program = python(chat_body(asked(**FULL)), ORIGIN, keyed=False)
    create = program[program.index("extra_body") :]
    assert all(f'"{name}"' in create for name in EXTRA if name in FULL)


def test_what_anthropic_lacks_is_said() -> None:
    from anthropic import Anthropic

    body = chat_body(asked(**FULL))
    program = anthropic(body, ORIGIN, keyed=False)
    assert "# Anthropic's API has no min_p, seed, repetition_penalty," in program
    sent = sent_by_python(program)
    assert (sent["temperature"], sent["stop_sequences"]) == (0.7, ["\n", "it's"])
    MessagesIn.model_validate(sent).refuse_unsupported()
    create = inspect.signature(Anthropic(api_key="none").messages.create).parameters
    assert set(re.findall(r"^    (\w+)=", program, re.MULTILINE)) <= set(create)
    hot = anthropic(chat_body(asked(temperature=1.5)), ORIGIN, keyed=False)
    assert "# Anthropic's API has no temperature above 1." in hot
    assert "temperature" not in sent_by_python(hot)


def test_a_key_is_read_from_the_environment() -> None:
    body = chat_body(asked("Hello"))
    assert '-H "Authorization: Bearer $HUB_API_KEY"' in curl(body, ORIGIN, keyed=True)
    assert "Authorization" not in curl(body, ORIGIN, keyed=False)
    assert 'api_key=os.environ["HUB_API_KEY"]' in python(body, ORIGIN, keyed=True)


def test_a_schema_becomes_a_response_format() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    body = chat_body(asked("Hello", json_schema=schema))
    assert ChatCompletionIn.model_validate(body).sampling() == asked(json_schema=schema).sampling()


def test_what_has_no_word_there_is_said() -> None:
    with pytest.raises(Invalid, match="native API"):
        chat_body(asked("Hello", regex="[0-9]+"))


def test_the_api_answers_with_this_hubs_address(client: Client) -> None:
    body = {"model": "calendar", "prompt": "It's noon", "max_tokens": 9}
    answer = client.post("/api/playground/code", body, content_type="application/json").json()
    assert sent_by_python(answer["python"])["messages"] == [
        {"role": "user", "content": "It's noon"}
    ]
    assert set(answer) == {"curl", "python", "anthropic", "javascript"}
    assert sent_by_python(answer["anthropic"])["max_tokens"] == 9
    assert '"content": "It\'s noon"' in answer["javascript"]
    assert '"stream"' not in answer["javascript"]
    assert answer["curl"].startswith("curl -N http://testserver/v1/chat/completions")
    wrong = client.post("/api/playground/code", {"model": "x"}, content_type="application/json")
    assert wrong.status_code == 422
