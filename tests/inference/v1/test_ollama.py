"""The real `ollama` client against real processes."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import ollama
import pytest

from tests.inference.openai_asking import ASK, CALL, CLOCK, WEATHER
from tests.inference.openai_asking import chat as openai_chat
from tests.inference.processes import Hub, wait_for

pytestmark = pytest.mark.any_database

SCHEMA: Any = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}


@pytest.fixture
def client(hub: Hub) -> Iterator[ollama.Client]:
    client = ollama.Client(host=f"{hub.url}/ollama")
    yield client
    client._client.close()


def post(hub: Hub, path: str, **body: Any) -> httpx.Response:
    asked = {"model": "calendar", "stream": False, **body}
    return httpx.post(f"{hub.url}/ollama/api/{path}", json=asked, timeout=60)


def test_a_chat_is_answered_as_over_v1(hub: Hub, client: ollama.Client) -> None:
    same = openai_chat(hub)
    answer = client.chat("calendar", ASK)
    assert answer.message.content == same.choices[0].message.content
    assert answer.message.role == "assistant"
    assert (answer.model, answer.done, answer.done_reason) == ("calendar", True, "stop")
    assert answer.prompt_eval_count == same.usage.prompt_tokens
    assert answer.eval_count == same.usage.completion_tokens
    row = hub.requests()[0]
    assert (row["api"], row["requested_model"]) == ("ollama", "calendar")


def test_durations_are_nanoseconds(client: ollama.Client) -> None:
    answer = client.chat("calendar", ASK)
    parts = (answer.load_duration, answer.prompt_eval_duration, answer.eval_duration)
    assert all(part > 0 for part in parts)
    assert abs(answer.total_duration - sum(parts)) < 1000
    assert 100_000 < answer.total_duration < 60_000_000_000


def test_a_stream_spells_the_same_answer(client: ollama.Client) -> None:
    whole = client.chat("calendar", ASK)
    parts = list(client.chat("calendar", ASK, stream=True))
    assert len(parts) > 3
    assert "".join(part.message.content for part in parts) == whole.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].eval_count == whole.eval_count
    assert parts[-1].done_reason == "stop"


def test_answers_come_as_a_stream_unless_told_otherwise(hub: Hub) -> None:
    body = {"model": "calendar", "messages": ASK}
    answer = httpx.post(f"{hub.url}/ollama/api/chat", json=body)
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[-1]["done"] is True
    assert lines[0]["created_at"].endswith("Z")


def test_a_prompt_is_a_chat_of_one_message(client: ollama.Client) -> None:
    said = ASK[0]["content"]
    assert (
        client.generate("calendar", said).response == client.chat("calendar", ASK).message.content
    )
    parts = list(client.generate("calendar", said, stream=True))
    assert "".join(part.response for part in parts) == client.generate("calendar", said).response
    system = client.generate("calendar", said, system="Answer in French.").response
    told = [{"role": "system", "content": "Answer in French."}, *ASK]
    assert system == client.chat("calendar", told).message.content


def test_a_raw_prompt_is_continued(hub: Hub, client: ollama.Client) -> None:
    text = "Once upon a time"
    same = hub.openai.completions.create(model="calendar", prompt=text, max_tokens=12)
    raw = client.generate("calendar", text, raw=True, options={"num_predict": 12})
    assert raw.response == same.choices[0].text
    assert post(hub, "generate", prompt=text, raw=True, system="x").status_code == 400


@pytest.mark.parametrize("name", ["calendar:latest", "calendar:0.2.0", "calendar@0.2.0"])
@pytest.mark.both_databases
def test_names_are_ollamas_or_the_hubs(client: ollama.Client, name: str) -> None:
    answer = client.chat(name, ASK)
    assert answer.model == name
    assert answer.message.content == client.chat("calendar", ASK).message.content


def test_a_base_and_another_version_answer_differently(client: ollama.Client) -> None:
    names = ("calendar:0.1.0", "calendar:0.2.0", "base:tiny", "base:tiny:latest")
    said = [client.chat(name, ASK).message.content for name in names]
    assert len(set(said)) == 3
    assert said[2] == said[3]


def test_options_are_kept(client: ollama.Client) -> None:
    cut = client.chat("calendar", ASK, options={"num_predict": 3})
    assert (cut.eval_count, cut.done_reason) == (3, "length")
    word = client.chat("calendar", ASK).message.content.split()[3]
    stopped = client.chat("calendar", ASK, options={"stop": [word]})
    assert word not in stopped.message.content

    def draw(seed: int) -> str:
        options = {"temperature": 1.0, "top_p": 0.95, "top_k": 40, "min_p": 0.01, "seed": seed}
        return str(client.chat("calendar", ASK, options=options).message.content)

    assert draw(1) == draw(1)
    assert len({draw(1), draw(2), draw(3)}) > 1


def test_the_options_reach_the_sampling(hub: Hub, client: ollama.Client) -> None:
    options = {
        "repeat_penalty": 1.2,
        "repeat_last_n": 32,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.25,
        "top_k": 7,
        "seed": -1,
    }
    client.chat("calendar", ASK, options=options)
    params = hub.requests()[0]["params"]
    assert params["repetition_penalty"] == 1.2
    assert params["repetition_context"] == 32
    assert params["presence_penalty"] == 0.5
    assert params["frequency_penalty"] == 0.25
    assert params["top_k"] == 7
    assert params["seed"] == 2**63 - 1
    assert params["temperature"] == 0


def test_what_changes_nothing_is_named(hub: Hub) -> None:
    options = {"num_ctx": 8192, "num_gpu": 1, "num_thread": None}
    answer = post(hub, "chat", messages=ASK, options=options, keep_alive="5m", truncate=True)
    assert answer.status_code == 200
    named = set(answer.headers["x-hub-ignored"].split(", "))
    assert named == {"options.num_ctx", "options.num_gpu", "keep_alive", "truncate"}
    assert "x-hub-ignored" not in post(hub, "chat", messages=ASK, options=None).headers


def test_thoughts_come_apart(client: ollama.Client) -> None:
    plain = client.chat("calendar", ASK)
    assert plain.message.thinking is None
    said = client.chat("calendar", ASK, think=True).message
    assert said.thinking
    assert said.content == plain.message.content
    parts = list(client.chat("calendar", ASK, think="high", stream=True))
    assert "".join(part.message.thinking or "" for part in parts) == said.thinking
    assert "".join(part.message.content for part in parts) == said.content
    assert client.generate("calendar", ASK[0]["content"], think=True).thinking == said.thinking
    history = [*ASK, said, {"role": "user", "content": "And on Saturday?"}]
    assert client.chat("calendar", history, think=False).message.content


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_are_called(client: ollama.Client, streamed: bool) -> None:
    tools = [CLOCK, WEATHER]
    if streamed:
        parts = list(client.chat("calendar", CALL, tools=tools, stream=True))
        calls = [call for part in parts for call in part.message.tool_calls or []]
        assert parts[-1].done
        assert not parts[-1].message.tool_calls
    else:
        calls = list(client.chat("calendar", CALL, tools=tools).message.tool_calls)
    assert [call.function.name for call in calls] == ["weather"]
    assert isinstance(calls[0].function.arguments, dict)


def test_a_result_is_read_under_the_tools_name_or_none(client: ollama.Client) -> None:
    called = client.chat("calendar", CALL, tools=[WEATHER]).message
    assert client.chat("calendar", CALL, tools=[WEATHER], format="json").message.tool_calls
    json.loads(client.chat("calendar", ASK, tools=[WEATHER], format="json").message.content or "")
    results = [{"tool_name": "weather"}, {}, {"tool_call_id": "call_1_0"}]
    answers = {
        client.chat(
            "calendar",
            [*CALL, called, {"role": "tool", "content": "12 degrees", **named}],
            tools=[WEATHER],
        ).message.content
        for named in results
    }
    assert len(answers) == 1
    assert "" not in answers


def test_functions_are_tools(client: ollama.Client) -> None:
    """As the client makes them of Python functions."""

    def weather(city: str) -> str:
        """The weather of a city.

        Args:
            city: its name
        """
        return city

    [call] = client.chat("calendar", CALL, tools=[weather]).message.tool_calls
    assert call.function.name == "weather"


def test_a_format_is_kept(client: ollama.Client) -> None:
    assert json.loads(client.chat("calendar", ASK, format=SCHEMA).message.content) == {"a": 1}
    assert isinstance(json.loads(client.chat("calendar", ASK, format="json").message.content), dict)
    assert json.loads(client.generate("calendar", "x", format=SCHEMA).response) == {"a": 1}


def test_logprobs_are_those_of_v1(hub: Hub) -> None:
    same = openai_chat(hub, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    ours = post(hub, "chat", messages=ASK, logprobs=True, top_logprobs=2).json()["logprobs"]
    assert [one["token"] for one in ours] == [one.token for one in same]
    assert [one["logprob"] for one in ours] == [one.logprob for one in same]
    assert len(ours[0]["top_logprobs"]) == 2


def test_texts_are_embedded(hub: Hub, client: ollama.Client) -> None:
    texts = ["Lunch with Ana", "Dentist"]
    same = hub.openai.embeddings.create(model="calendar", input=texts)
    made = client.embed("calendar", texts, truncate=True)
    assert made.embeddings[1] == pytest.approx(same.data[1].embedding, abs=1e-6)
    assert made.prompt_eval_count == same.usage.prompt_tokens
    assert client.embed("calendar", texts[0]).embeddings == made.embeddings[:1]
    assert client.embeddings("calendar", texts[0]).embedding == made.embeddings[0]
    assert client.embed("calendar", "").embeddings == []
    assert hub.requests()[0]["api"] == "ollama"


@pytest.mark.both_databases
def test_models_are_listed_and_described(client: ollama.Client) -> None:
    listed = {model.model: model for model in client.list().models}
    assert {"calendar:latest", "calendar:0.1.0", "calendar:0.2.0", "base:tiny"} <= listed.keys()
    latest = listed["calendar:latest"]
    assert latest.digest == listed["calendar:0.2.0"].digest != listed["calendar:0.1.0"].digest
    assert latest.size > 0
    assert latest.details.parent_model == "base:tiny"
    assert latest.details.format == "mlx"
    for name in listed:
        shown = client.show(name)
        kind = shown.modelinfo["general.architecture"]
        assert shown.modelinfo[f"{kind}.context_length"] > 0
        assert "completion" in shown.capabilities
        assert "FROM base:tiny" in shown.modelfile


def test_a_model_is_loaded_pinned_and_unloaded(hub: Hub, client: ollama.Client) -> None:
    def in_memory() -> dict[str, Any]:
        return {model.model: model for model in client.ps().models}

    loaded = client.generate("calendar:0.1.0")
    assert (loaded.done_reason, loaded.response) == ("load", "")
    assert {"base:tiny", "calendar:0.1.0"} <= in_memory().keys()
    assert client.chat("calendar", [], keep_alive=-1).done_reason == "load"
    assert in_memory()["base:tiny"].expires_at.year == 9999
    assert client.generate("calendar", keep_alive=0).done_reason == "unload"
    assert in_memory() == {}
    client.chat("calendar", ASK, keep_alive="0s")
    wait_for(lambda: in_memory() == {}, timeout=10)
    list(client.chat("calendar", ASK, keep_alive=0, stream=True))
    wait_for(lambda: in_memory() == {}, timeout=10)
    client.embed("calendar", "sea", keep_alive=-1)
    assert in_memory()["base:tiny"].expires_at.year == 9999
    client.embeddings("calendar", "sea", keep_alive=0)
    wait_for(lambda: in_memory() == {}, timeout=10)


def test_what_an_embedding_cannot_heed_is_named(hub: Hub) -> None:
    answer = post(hub, "embed", input="sea", options={"temperature": 1}, keep_alive="5m")
    named = set(answer.headers["x-hub-ignored"].split(", "))
    assert named == {"options.temperature", "keep_alive"}
    assert post(hub, "show", verbose=True).headers["x-hub-ignored"] == "verbose"


def test_a_key_that_only_generates_decides_nothing_about_memory(hub: Hub) -> None:
    def key(scope: str) -> dict[str, str]:
        body = {"name": f"ollama-{scope}", "scope": scope}
        text = httpx.post(f"{hub.url}/api/keys", json=body).raise_for_status().json()["text"]
        return {"Authorization": f"Bearer {text}"}

    def ask(headers: dict[str, str], **body: Any) -> httpx.Response:
        asked = {"model": "calendar", "stream": False, **body}
        url = f"{hub.url}/ollama/api/chat"
        return httpx.post(url, json=asked, headers=headers, timeout=60)

    generates, manages = key("inference"), key("manage")
    assert ask(generates).json()["done_reason"] == "load"
    for keep_alive in (0, -1):
        refused = ask(generates, keep_alive=keep_alive)
        assert refused.status_code == 403
        assert "scope" in refused.json()["error"]
        answer = ask(generates, keep_alive=keep_alive, messages=ASK)
        assert answer.status_code == 200
        assert answer.headers["x-hub-ignored"] == "keep_alive"
    shown = httpx.get(f"{hub.url}/ollama/api/ps", headers=generates).json()["models"]
    assert shown
    assert not shown[0]["expires_at"].startswith("9999")
    heeded = ask(manages, keep_alive=-1, messages=ASK)
    assert "x-hub-ignored" not in heeded.headers
    assert ask(manages, keep_alive=0).json()["done_reason"] == "unload"
    assert hub.requests()[0]["key"] == "ollama-manage"


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, "images"),
        ({"messages": ASK, "options": {"mirostat": 2}}, "mirostat"),
        ({"messages": ASK, "options": {"temperature": 3}}, "temperature"),
        ({"messages": ASK, "keep_alive": "soon"}, "keep_alive"),
        ({"messages": ASK, "top_logprobs": 2}, "logprobs"),
        ({"messages": ASK, "think": "very"}, "think"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(hub: Hub, body: Any, word: str) -> None:
    answer = post(hub, "chat", **body)
    assert answer.status_code == 400
    assert answer.json().keys() == {"error"}
    assert word in answer.json()["error"]


@pytest.mark.parametrize(
    "more", [{"suffix": "x"}, {"images": ["aGk="]}, {"template": "x"}, {"context": [1]}]
)
def test_what_a_prompt_cannot_have_is_refused_by_name(hub: Hub, more: Any) -> None:
    answer = post(hub, "generate", prompt="x", **more)
    assert answer.status_code == 400
    assert next(iter(more)) in answer.json()["error"]


def test_what_is_off_passes(hub: Hub) -> None:
    off: Any = {"suffix": "", "images": [], "template": "", "context": [], "format": None}
    options = {"mirostat": 0, "tfs_z": 1.0, "typical_p": 1.0, "top_p": 0, "num_predict": -1}
    assert post(hub, "generate", prompt="x", **off, options=options).status_code == 200


def test_errors_are_ollamas(hub: Hub, client: ollama.Client) -> None:
    for stream in (False, True):
        with pytest.raises(ollama.ResponseError) as caught:
            list(client.chat("nobody", ASK, stream=stream))
        assert caught.value.status_code == 404
        assert "nobody" in caught.value.error
    with pytest.raises(ollama.ResponseError) as caught:
        client.pull("llama3")
    assert caught.value.status_code == 501
    assert "import" in caught.value.error


def test_it_says_that_it_is_there(hub: Hub) -> None:
    for path in ("/ollama/", "/ollama/api/version", "/ollama/api/tags"):
        assert httpx.head(f"{hub.url}{path}").status_code == 200
    assert httpx.get(f"{hub.url}/ollama/").text == "Ollama is running"
    assert "version" in httpx.get(f"{hub.url}/ollama/api/version").json()


def test_a_body_needs_no_content_type(hub: Hub) -> None:
    """As `curl -d` sends it."""
    body = json.dumps({"model": "calendar", "messages": ASK, "stream": False}).encode()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    url = f"{hub.url}/ollama/api/chat"
    assert httpx.post(url, content=body, headers=form).status_code == 200
    for foreign in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = httpx.post(url, content=body, headers={**form, **foreign})
        assert answer.status_code == 403
        assert answer.json().keys() == {"error"}
