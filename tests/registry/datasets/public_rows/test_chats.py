"""Chats, in lists of messages, lists of turns and transcripts."""

from __future__ import annotations

import pytest

from registry.datasets.dialects.canonical import canonical
from registry.datasets.dialects.parts import Unused
from tests.registry.datasets.public_rows.rows import (
    CHAT,
    SYSTEM,
    Taken,
    chat,
    check_taken,
    gpt,
    human,
    said,
    user,
)

TAKEN: dict[str, Taken] = {
    "ultrachat_200k": (
        {"prompt": "q", "prompt_id": "1", "messages": [user("q"), said("a")]},
        "chat",
        CHAT,
        ["prompt", "prompt_id"],
    ),
    "no_robots": (
        {
            "prompt": "q",
            "prompt_id": "1",
            "messages": [SYSTEM, user("q"), said("a")],
            "category": "Chat",
        },
        "chat",
        chat(SYSTEM, user("q"), said("a")),
        ["category", "prompt", "prompt_id"],
    ),
    "openorca": (
        {"id": "niv.1", "system_prompt": "s", "question": "q", "response": "a"},
        "chat",
        chat(SYSTEM, user("q"), said("a")),
        ["id"],
    ),
    "slim-orca": (
        {
            "conversations": [
                {"from": "system", "value": "s", "weight": None},
                human("q", weight=0),
                gpt("a", weight=1),
            ]
        },
        "chat",
        chat(SYSTEM, {**user("q"), "weight": 0}, said("a", weight=1)),
        [],
    ),
    "sharegpt": (
        {"id": "x_0", "conversations": [human("q"), gpt("a", markdown=None, text=None)]},
        "chat",
        CHAT,
        ["id"],
    ),
    "openhermes": (
        {
            "conversations": [human("q"), gpt("a")],
            "source": "x",
            "system_prompt": None,
            "custom_instruction": None,
            "model": "m",
        },
        "chat",
        CHAT,
        ["model", "source"],
    ),
    "wizardlm": ({"idx": "1", "conversations": [human("q"), gpt("a")]}, "chat", CHAT, ["idx"]),
    "lima": (
        {"conversations": ["q", "a", "q2", "a2"], "source": "stackexchange"},
        "chat",
        chat(user("q"), said("a"), user("q2"), said("a2")),
        ["source"],
    ),
    "capybara": (
        {
            "source": "x",
            "conversation": [{"input": "q", "output": "a"}, {"input": "r", "output": "b"}],
        },
        "chat",
        chat(user("q"), said("a"), user("r"), said("b")),
        ["source"],
    ),
    "lmsys-chat": (
        {"conversation_id": "1", "model": "m", "conversation": [user("q"), said("a")], "turn": 1},
        "chat",
        CHAT,
        ["conversation_id", "model", "turn"],
    ),
    "wildchat": (
        {"conversation": [{**user("q"), "country": "PE"}, {**said("a"), "toxic": False}]},
        "chat",
        chat({**user("q"), "country": "PE"}, {**said("a"), "toxic": False}),
        ["conversation.country", "conversation.toxic"],
    ),
    "openassistant-guanaco": (
        {"text": "### Human: q### Assistant: a### Human: q2### Assistant: a2"},
        "chat",
        chat(user("q"), said("a"), user("q2"), said("a2")),
        [],
    ),
    "glaive without functions": (
        {"system": "SYSTEM: s\n", "chat": "USER: q\n\n\nASSISTANT: a <|endoftext|>"},
        "chat",
        chat(SYSTEM, user("q"), said("a")),
        [],
    ),
    "medical-o1": (
        {"Question": "q", "Complex_CoT": "hm", "Response": "a"},
        "chat",
        chat(user("q"), said("a", reasoning_content="hm")),
        [],
    ),
    "thoughts in two forms": (
        {"question": "q", "reasoning": "hm", "thinking": [1], "answer": "a"},
        "chat",
        chat(user("q"), said("a", reasoning_content="hm")),
        ["thinking"],
    ),
    "a system prompt with capitals": (
        {"System": "s", "User": "q", "Assistant": "a"},
        "chat",
        chat(SYSTEM, user("q"), said("a")),
        [],
    ),
    "thoughts with capitals": (
        {"Problem": "q", "CoT": "hm", "Answer": "a"},
        "chat",
        chat(user("q"), said("a", reasoning_content="hm")),
        [],
    ),
    "a chat with a capital beside it": (
        {**CHAT, "System": "s"},
        "chat",
        chat(SYSTEM, user("q"), said("a")),
        [],
    ),
    "axolotl's turns": (
        {
            "conversations": [
                human("q", train=False),
                gpt("a", train=False),
                human("r", train=True),
                gpt("b", train=True),
            ]
        },
        "chat",
        chat(
            {**user("q"), "train": False},
            said("a", weight=0),
            {**user("r"), "train": True},
            said("b", weight=1),
        ),
        ["conversations.train"],
    ),
    "axolotl's messages": (
        chat(user("q"), said("a", training=False), user("r"), said("b", train_detail=None)),
        "chat",
        chat(user("q"), said("a", weight=0), user("r"), said("b")),
        [],
    ),
    "oasst as chats": (
        {"conversation": [{"role": "prompter", "text": "q"}, {"role": "assistant", "text": "a"}]},
        "chat",
        CHAT,
        [],
    ),
    "vicuna": (
        {
            "conversation": [
                {"speaker": "human", "text": "q"},
                {"speaker": "assistant", "text": "a"},
            ]
        },
        "chat",
        CHAT,
        [],
    ),
    "cohere": (
        chat({"role": "User", "content": "q"}, {"role": "Chatbot", "content": "a"}),
        "chat",
        CHAT,
        [],
    ),
    "bedrock": (
        {
            "system": [{"text": "s"}],
            "messages": [
                {"role": "user", "content": [{"text": "q"}]},
                {"role": "assistant", "content": [{"text": "a"}]},
            ],
        },
        "chat",
        chat(SYSTEM, user("q"), said("a")),
        [],
    ),
    "gemini": (
        {
            "systemInstruction": {"role": "system", "parts": [{"text": "s"}]},
            "contents": [
                {"role": "user", "parts": [{"text": "q"}]},
                {"role": "model", "parts": [{"text": "a"}, {"text": "!"}]},
            ],
        },
        "chat",
        chat(SYSTEM, user("q"), said("a!")),
        [],
    ),
    "gemini's thoughts": (
        {
            "contents": [
                {"role": "user", "parts": [{"text": "q"}]},
                {"role": "model", "parts": [{"text": "hm", "thought": True}, {"text": "a"}]},
            ]
        },
        "chat",
        chat(user("q"), said("a", reasoning_content="hm")),
        [],
    ),
    "openai's refusals": (
        {
            "messages": [user("q"), {"role": "assistant", "content": None, "refusal": "No."}],
            "parallel_tool_calls": False,
        },
        "chat",
        chat(user("q"), said("No.")),
        ["parallel_tool_calls"],
    ),
    "a refusal as a part": (
        chat(user("q"), {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}),
        "chat",
        chat(user("q"), said("No.")),
        [],
    ),
    "a number that says nothing of a chat": ({**CHAT, "label": 0}, "chat", CHAT, ["label"]),
    "a number that a spreadsheet has beside a chat": (
        {**CHAT, "label": "1"},
        "chat",
        CHAT,
        ["label"],
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_row_is_taken_for_what_it_means(name: str) -> None:
    check_taken(TAKEN[name])


@pytest.mark.parametrize(
    "text",
    [
        "User: a name. Password: another.",
        "System: Windows",
        "Human: a species",
        "### Assistant: none asked",
        "Once upon a time\n\nHuman: q\n\nAssistant: a",
    ],
)
def test_a_text_that_only_looks_like_a_chat_stays_a_text(text: str) -> None:
    assert canonical({"text": text}, {}, Unused())[1] == "text"


def test_a_transcript_is_a_plain_text_when_a_person_says_so() -> None:
    row = TAKEN["openassistant-guanaco"][0]
    assert canonical(row, {"text": "text"}, Unused())[1:] == ("text", row)
    assert canonical(row, {"messages": "text"}, Unused())[1] == "chat"
