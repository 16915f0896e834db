"""Whether the prompts of training and of serving are the same tokens, on real tokenizers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backends.base import TemplateMismatch, Thoughts
from backends.mlx import MLXBackend
from backends.mlx.evals import parity
from tests.backends.mlx.data.templates import CHATML, FIELD_ONLY, OPENS, QWEN3

pytestmark = pytest.mark.any_database

TOOLS = [{"type": "function", "function": {"name": "clock", "parameters": {}}}]
# Writes every part of a message that a template may read.
WRITES_ALL = (
    "{% if tools %}<tools>{{ tools | tojson }}</tools>{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}{% if m.name %} ({{ m.name }}){% endif %}\n"
    "{{ m.content }}{% if m.mood %} [{{ m.mood }}]{% endif %}"
    "{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def said(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def make_data(folder: Path, *examples: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "train.jsonl").write_text("".join(json.dumps(e) + "\n" for e in examples))
    return folder


@pytest.fixture
def base(tiny_base: Path, tmp_path: Path) -> Path:
    """A copy whose tokenizer files a test may change."""
    return Path(shutil.copytree(tiny_base, tmp_path / "base"))


def with_template(base: Path, template: str, **more: Any) -> Path:
    path = base / "tokenizer_config.json"
    config = json.loads(path.read_text()) | {"chat_template": template, **more}
    path.write_text(json.dumps(config))
    return base


@pytest.mark.parametrize("mode", ["kept", "dropped", "masked"])
@pytest.mark.parametrize("template", [CHATML, QWEN3, OPENS, FIELD_ONLY])
def test_thoughts_are_asked_for_as_they_are_trained(
    base: Path, tmp_path: Path, template: str, mode: Thoughts
) -> None:
    thought = {"role": "assistant", "content": "Nine.", "reasoning_content": "Let me look."}
    within = said("assistant", "<think>\nLet me look.\n</think>\n\nNine.")
    chats = [{"messages": [ASKED, one, ASKED, one]} for one in (thought, within)]
    MLXBackend().check_template(
        with_template(base, template), make_data(tmp_path / "data", *chats), 8, mode
    )


ASKED, ANSWERED = said("user", "What time is it?"), said("assistant", "Nine.")


@pytest.mark.parametrize(
    "example",
    [
        {"messages": [ASKED, ANSWERED]},
        {"messages": [said("system", "Be brief."), ASKED, ANSWERED, ASKED, ANSWERED]},
        {"prompt": "What time is it?", "completion": "Nine."},
        {"prompt": "What time is it?", "chosen": "Nine.", "rejected": "Late."},
        {"text": "Once upon a time"},
        {
            "messages": [
                ASKED,
                said("assistant", "", tool_calls=[{"id": "1", "function": {"name": "clock"}}]),
                said("tool", "9:00", tool_call_id="1", name="clock"),
                ANSWERED,
            ],
            "tools": TOOLS,
        },
    ],
    ids=["chat", "system and turns", "completion", "preference", "text", "tools"],
)
@pytest.mark.parametrize("template", [None, WRITES_ALL], ids=["own", "writes all"])
def test_what_is_trained_is_what_is_asked(
    base: Path, tmp_path: Path, example: dict[str, Any], template: str | None
) -> None:
    if template:
        with_template(base, template)
    MLXBackend().check_template(base, make_data(tmp_path / "data", example), 8)


@pytest.mark.parametrize(
    ("messages", "shown"),
    [
        ([said("user", "Hi", mood="glad"), ANSWERED], "' ['"),
        ([said("user", "Hi", name="ana"), ANSWERED], "' ('"),
        ([said("developer", "Be brief."), ASKED, ANSWERED], "'sy'"),  # of system
    ],
    ids=["a field of one's own", "a name", "a developer"],
)
def test_what_an_endpoint_does_not_carry_is_shown_in_words(
    base: Path, tmp_path: Path, messages: list[dict[str, Any]], shown: str
) -> None:
    data = make_data(tmp_path / "data", {"messages": [ASKED, ANSWERED]}, {"messages": messages})
    with pytest.raises(TemplateMismatch, match="line 2: token") as caught:
        MLXBackend().check_template(with_template(base, WRITES_ALL), data, 8)
    assert shown in str(caught.value)


def test_what_comes_before_an_earlier_answer_is_compared_too(base: Path, tmp_path: Path) -> None:
    """A mood, which an endpoint does not carry, decides what is written before the first answer, and
    nothing of what is written before the last one."""
    # The template engine drops a line end after a block.
    template = WRITES_ALL.replace("{% endif %}\n{{ m", "{% endif %}{{ '\\n' }}{{ m")
    first = "{% if m.mood and messages | length < 2 %}"
    data = make_data(
        tmp_path / "data",
        {"messages": [said("user", "Hi", mood="glad"), ANSWERED, ASKED, ANSWERED]},
    )
    # Training writes the mood before the first answer only when that is asked for: not learned.
    MLXBackend().check_template(
        with_template(base, template.replace("{% if m.mood %}", first)), data, 8
    )
    without = template.replace("{% if m.mood %}", first.replace("m.mood", "not m.mood"))
    with pytest.raises(TemplateMismatch, match="line 1: token"):
        MLXBackend().check_template(with_template(base, without), data, 8)


def test_without_a_template_completions_are_compared_as_plain_text(
    base: Path, tmp_path: Path
) -> None:
    path = base / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config.pop("chat_template", None)
    path.write_text(json.dumps(config))
    (base / "chat_template.jinja").unlink(missing_ok=True)
    rows = ({"prompt": "Two plus two is", "completion": " four."}, {"messages": [ASKED, ANSWERED]})
    MLXBackend().check_template(base, make_data(tmp_path / "data", *rows), 8)


def test_a_template_that_prints_the_time_is_found(base: Path, tmp_path: Path) -> None:
    """Rendered twice, it gives two prompts."""
    template = "{{ strftime_now('%f') }}" + WRITES_ALL
    data = make_data(tmp_path / "data", {"messages": [ASKED, ANSWERED]})
    with pytest.raises(TemplateMismatch, match="token"):
        MLXBackend().check_template(with_template(base, template), data, 8)


def test_a_prompt_that_only_training_renders_is_found(base: Path, tmp_path: Path) -> None:
    refuses = "{% if messages[0].kind is not defined %}{{ raise_exception('no kind') }}{% endif %}"
    data = make_data(tmp_path / "data", {"messages": [{**ASKED, "kind": "short"}, ANSWERED]})
    with pytest.raises(TemplateMismatch, match=r"cannot be sent.*no kind"):
        MLXBackend().check_template(with_template(base, refuses + WRITES_ALL), data, 8)


def test_only_a_sample_is_rendered(base: Path, tmp_path: Path) -> None:
    rows = [{"messages": [ASKED, ANSWERED]}] * 9
    odd = {"messages": [said("user", "Hi", mood="glad"), ANSWERED]}
    data = make_data(tmp_path / "data", *rows, odd)
    with_template(base, WRITES_ALL)
    MLXBackend().check_template(base, data, 5)
    with pytest.raises(TemplateMismatch, match="line 10"):
        MLXBackend().check_template(base, data, 10)


def test_what_has_passed_is_checked_again_when_something_is_other(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    checked: list[Path] = []
    check = parity._check_splits

    def counting(base: Path, data: Path, sample: int, thoughts: Thoughts) -> None:
        checked.append(data)
        check(base, data, sample, thoughts)

    monkeypatch.setattr(parity, "_check_splits", counting)
    with_template(base, WRITES_ALL)
    data = make_data(tmp_path / "data", {"messages": [ASKED, ANSWERED]})
    for _ in range(2):
        MLXBackend().check_template(base, data, 8, cache=kept)
    assert len(checked) == 1
    assert [path.name.partition("-")[0] for path in kept.iterdir()] == ["parity"]
    make_data(data, {"messages": [said("user", "Hi", mood="glad"), ANSWERED]})
    for _ in range(2):  # what has not passed is not kept
        with pytest.raises(TemplateMismatch):
            MLXBackend().check_template(base, data, 8, cache=kept)
    make_data(data, {"messages": [ASKED, ANSWERED]})
    with_template(base, WRITES_ALL + "{# another #}")
    MLXBackend().check_template(base, data, 8, cache=kept)
    assert len(checked) == 4
    MLXBackend().check_template(base, data, 8, "masked", kept)
    assert len(checked) == 5
    (tmp_path / "file").touch()
    MLXBackend().check_template(base, data, 8, cache=tmp_path / "file")  # which cannot be written
    assert len(checked) == 6


def test_a_hostile_template_ends_its_process_with_the_reason(
    base: Path, tiny_base: Path, tmp_path: Path
) -> None:
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    with_template(base, loops + WRITES_ALL)
    data = make_data(tmp_path / "data", {"messages": [ASKED, ANSWERED]})
    code = (
        "import sys, django; django.setup()\n"
        "from pathlib import Path\n"
        "from backends.mlx import MLXBackend\n"
        "from training.attempt import template\n"
        "check = lambda base: MLXBackend().check_template(Path(base), Path(sys.argv[2]), 8)\n"
        "check(sys.argv[3])  # so that the time is the template's, not that of imports\n"
        "with template.deadline(1, lambda: print('no end', flush=True)):\n"
        "    check(sys.argv[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(base), str(data), str(tiny_base)],
        cwd=Path(__file__).parents[4],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "no end\n")
