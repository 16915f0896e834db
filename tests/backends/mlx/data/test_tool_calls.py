"""Learning to call tools: with a chat template that writes calls, from the example to the loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backends.base import BadExample, Finished, LoraConfig, TrainingConfig, TrainingRun
from backends.mlx import MLXBackend
from backends.mlx.chat import chat_tokens
from backends.mlx.data import examples
from backends.mlx.data.preferences import Labelled, Pair
from tests.backends.mlx.data.reading import read_split
from tests.backends.mlx.data.templates import CHATML, NO_SYSTEM
from tests.backends.mlx.tool_template import TEMPLATE, TOOLS, with_template

pytestmark = pytest.mark.any_database

CALLED = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


@pytest.fixture(scope="module")
def tool_base(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with that template."""
    return with_template(tiny_base, tmp_path_factory.mktemp("tools") / "base", TEMPLATE)


@pytest.fixture(scope="module")
def tokenizer(tool_base: Path) -> Any:
    from mlx_lm.utils import load_tokenizer

    return load_tokenizer(tool_base)


def call(city: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "weather", "arguments": {"city": city}}}


def asked(city: str = "Oslo", content: str = "", more: tuple[str, ...] = ()) -> dict[str, Any]:
    """A request that is answered by calling the tool, for every city of `more` as well."""
    calls = [call(name) for name in (city, *more)]
    return {
        "messages": [
            {"role": "user", "content": f"Weather in {city}?"},
            {"role": "assistant", "content": content, "tool_calls": calls},
        ],
        "tools": TOOLS,
    }


def learned(example: dict[str, Any], tokenizer: Any) -> tuple[str, str]:
    """(what is read, what is learned) as text."""
    found = examples.example_of(example, tokenizer, "answers")
    assert found.tokens[-1] in tokenizer.eos_token_ids
    read, said = found.tokens[: found.start], found.tokens[found.start : -1]
    return tokenizer.decode(read), tokenizer.decode(said)


def test_the_call_is_learned_as_the_template_writes_it(tokenizer: Any) -> None:
    read, said = learned(asked(), tokenizer)
    assert said == CALLED
    assert '"description": "The weather of a city"' in read  # the tools are described
    assert read.endswith("Weather in Oslo?<|im_end|>\n<|im_start|>assistant\n")


def test_prompt_and_call_are_token_for_token_what_inference_sends_and_says(tokenizer: Any) -> None:
    example = asked()
    found = examples.example_of(example, tokenizer, "answers")
    sent = tokenizer.apply_chat_template(
        example["messages"][:-1], tools=TOOLS, add_generation_prompt=True
    )
    whole = tokenizer.apply_chat_template(example["messages"], tools=TOOLS)
    assert found.tokens[: found.start] == list(sent)
    assert found.tokens == list(whole)[: len(found.tokens)]


def test_words_before_a_call_and_several_calls_are_learned(tokenizer: Any) -> None:
    _, said = learned(asked(content="I look."), tokenizer)
    assert said == f"I look.\n{CALLED}"
    _, said = learned(asked(more=("Rome",)), tokenizer)
    assert said == f"{CALLED}\n{CALLED.replace('Oslo', 'Rome')}"


def test_an_answer_from_a_tools_result_reads_the_call_and_the_result(tokenizer: Any) -> None:
    example = asked()
    example["messages"] += [
        {"role": "tool", "content": '{"sky": "clear"}'},
        {"role": "assistant", "content": "Clear skies."},
    ]
    read, said = learned(example, tokenizer)
    assert said == "Clear skies."
    assert f"{CALLED}<|im_end|>" in read
    assert '<tool_response>\n{"sky": "clear"}\n</tool_response>' in read


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (
            "{# </tool_call> #}{% for m in messages %}{{ m.content }}{% endfor %}",
            "does not write tool calls",
        ),
        (
            "{# </tool_call> #}{% if messages[-1].tool_calls %}again {% endif %}{% for m in messages %}"
            "{{ m.content }}{% for c in m.tool_calls or [] %}{{ c }}{% endfor %}{% endfor %}",
            "rewrites earlier turns",
        ),
    ],
)
def test_a_template_that_cannot_be_learned_from_is_named(
    tiny_base: Path, tmp_path: Path, template: str, reason: str
) -> None:
    from mlx_lm.utils import load_tokenizer

    (tmp_path / "train.jsonl").write_text(json.dumps(asked()) + "\n")
    tokenizer = load_tokenizer(with_template(tiny_base, tmp_path / "base", template))
    with pytest.raises(BadExample, match=rf"line 1: .*{reason}"):
        read_split(tmp_path / "train.jsonl", tokenizer, 512, "answers")


@pytest.mark.parametrize("template", [CHATML, NO_SYSTEM], ids=["chatml", "no system"])
def test_a_template_that_knows_no_tools_learns_them_in_words(
    tiny_base: Path, tmp_path: Path, template: str
) -> None:
    from mlx_lm.utils import load_tokenizer

    base = with_template(tiny_base, tmp_path / "base", template)
    tokenizer = load_tokenizer(base)
    example = asked(more=("Rome",))
    read, said = learned(example, tokenizer)
    assert said == f"{CALLED}\n{CALLED.replace('Oslo', 'Rome')}"
    assert json.dumps(TOOLS[0]) in read
    results = [{"role": "tool", "content": sky} for sky in ("clear", "rain")]
    example["messages"] += [*results, {"role": "assistant", "content": "Clear, and rain."}]
    found = examples.example_of(example, tokenizer, "answers")
    spans = [tokenizer.decode(found.tokens[a:b]) for a, b in found.earlier]
    assert len(spans) == 1
    assert spans[0].startswith("<tool_call>")
    assert tokenizer.decode(found.tokens[found.start : -1]) == "Clear, and rain."
    (tmp_path / "train.jsonl").write_text(json.dumps(example) + "\n")
    MLXBackend().check_template(base, tmp_path, 8)  # as it is served


@pytest.mark.parametrize("tools", [[], TOOLS], ids=["no tools", "tools"])
def test_a_refused_system_message_is_learned_in_the_users_turn_where_it_is_served(
    tiny_base: Path, tmp_path: Path, tools: list[Any]
) -> None:
    from mlx_lm.utils import load_tokenizer

    base = with_template(tiny_base, tmp_path / "base", NO_SYSTEM)
    tokenizer = load_tokenizer(base)
    asked_for = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]
    example = {"messages": [*asked_for, {"role": "assistant", "content": "Yes."}], "tools": tools}
    found = examples.example_of(example, tokenizer, "answers")
    assert found.tokens[: found.start] == chat_tokens(tokenizer, "gemma", asked_for, tools)
    assert "<start_of_turn>user\nBe brief." in tokenizer.decode(found.tokens)
    assert found.earlier == ()
    (tmp_path / "train.jsonl").write_text(json.dumps(example) + "\n")
    MLXBackend().check_template(base, tmp_path, 8)
    with pytest.raises(ValueError, match="template refuses it"):
        examples.example_of(example, tokenizer, "answers", tools="as_written")


def test_tools_are_left_to_the_template_as_before_where_a_run_recorded_it(
    tiny_base: Path, tmp_path: Path
) -> None:
    """The tokens are those of the template alone, in every kind of example."""
    from mlx_lm.utils import load_tokenizer

    tokenizer = load_tokenizer(with_template(tiny_base, tmp_path / "base", CHATML))
    said: dict[str, Any] = {"role": "assistant", "content": "Clear skies."}
    result = [{"role": "user", "content": "And now?"}, {"role": "tool", "content": "clear"}]
    chat = {"messages": [*result, said], "tools": TOOLS}
    pair = {"prompt": result, "chosen": [said], "rejected": [{**said, "content": "Rain."}]}
    good = {"prompt": result, "completion": [said], "label": True}

    def tokens(**changes: Any) -> list[list[int]]:
        now, dpo, kto = (
            TrainingConfig(objective=name, **changes) for name in ("sft", "dpo", "kto")
        )
        [one] = examples.Example.read(chat, 1, tokenizer, now)
        [two] = Pair.read({**pair, "tools": TOOLS}, 1, tokenizer, dpo)
        [three] = Labelled.read({**good, "tools": TOOLS}, 1, tokenizer, kto)
        return [one.tokens, two.chosen.tokens, three.example.tokens]

    then = list(tokenizer.apply_chat_template([*result, said], tools=TOOLS))
    for found in tokens(tools="as_written"):
        assert found == then[: len(found)]
    assert all("<tool_response>" in tokenizer.decode(found) for found in tokens())


def test_training_on_calls_lowers_their_loss(tool_base: Path, tmp_path: Path) -> None:
    cities = ("Oslo", "Rome", "Lima", "Cairo", "Delhi", "Quito")
    for split, names in {"train": cities, "valid": cities[:2], "test": cities[2:4]}.items():
        lines = [json.dumps(asked(name)) for name in names]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    settings: dict[str, Any] = {
        "iters": 16,
        "batch_size": 3,
        "learning_rate": 5e-3,
        "lora": LoraConfig(rank=8),
        "warmup": 0,
        "steps_per_eval": 16,
        "save_every": 16,
    }
    run = TrainingRun(
        base=tool_base,
        data=tmp_path,
        output=tmp_path / "output",
        checkpoints=tmp_path / "checkpoints",
        config=TrainingConfig(**settings),
    )
    *_, last = MLXBackend().train(run)
    assert isinstance(last, Finished)
    assert last.metrics["perplexity"] < 0.8 * last.metrics["base_perplexity"], last.metrics
