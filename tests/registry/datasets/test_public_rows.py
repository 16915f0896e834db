"""Rows as popular public data sets have them: taken for what they mean, with every column that is
not used named, or refused in a sentence. None is learned as something else unsaid."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from registry.datasets.dialects.canonical import canonical
from registry.datasets.dialects.parts import Unused
from registry.datasets.files.values import BadLine

type Row = dict[str, Any]


def user(text: str) -> Row:
    return {"role": "user", "content": text}


def said(text: str, **more: Any) -> Row:
    return {"role": "assistant", "content": text, **more}


def human(text: str, /, **more: Any) -> Row:
    return {"from": "human", "value": text, **more}


def gpt(text: str, /, **more: Any) -> Row:
    return {"from": "gpt", "value": text, **more}


def pair(prompt: str, completion: str) -> Row:
    return {"prompt": prompt, "completion": completion}


def chat(*messages: Row) -> Row:
    return {"messages": list(messages)}


def call(number: int, name: str, **arguments: Any) -> Row:
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{number}", "type": "function", "function": function}


SYSTEM = {"role": "system", "content": "s"}
CHAT = chat(user("q"), said("a"))
RATE = {
    "name": "get_rate",
    "description": "Get the exchange rate",
    "parameters": {"type": "object", "properties": {"base": {"type": "string"}}},
}
SEARCH = {
    "name": "search",
    "description": "d",
    "parameters": {"at": {"type": "str", "default": ""}},
}

TAKEN: dict[str, tuple[Row, str, Row, list[str]]] = {
    "dolly-15k": (
        {"instruction": "q", "context": "c", "response": "a", "category": "closed_qa"},
        "completions",
        pair("q\n\nc", "a"),
        ["category"],
    ),
    "alpaca": (
        {"instruction": "q", "input": "", "output": "a", "text": "Below is … q … a"},
        "completions",
        pair("q", "a"),
        ["text"],
    ),
    "code_alpaca": (
        {"output": "a", "input": "c", "instruction": "q"},
        "completions",
        pair("q\n\nc", "a"),
        [],
    ),
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
    "ultrafeedback_binarized": (
        {
            "prompt": "q",
            "prompt_id": "1",
            "chosen": [user("q"), said("a")],
            "rejected": [user("q"), said("b")],
            "messages": [user("q"), said("a")],
            "score_chosen": 9.0,
            "score_rejected": 3.0,
        },
        "preference",
        {"prompt": [user("q")], "chosen": [said("a")], "rejected": [said("b")]},
        ["messages", "prompt_id", "score_chosen", "score_rejected"],
    ),
    "orpo-dpo-mix": (
        {
            "source": "x",
            "prompt": "q2",
            "question": "q2",
            "chosen": [user("q"), said("a"), user("q2"), said("c")],
            "rejected": [user("q"), said("a"), user("q2"), said("d")],
        },
        "preference",
        {
            "prompt": [user("q"), said("a"), user("q2")],
            "chosen": [said("c")],
            "rejected": [said("d")],
        },
        ["question", "source"],
    ),
    "hh-rlhf": (
        {
            "chosen": "\n\nHuman: q\n\nAssistant: a\n\nHuman: q2\n\nof two\n\nAssistant: c",
            "rejected": "\n\nHuman: q\n\nAssistant: a\n\nHuman: q2\n\nof two\n\nAssistant: d",
        },
        "preference",
        {
            "prompt": [user("q"), said("a"), user("q2\n\nof two")],
            "chosen": [said("c")],
            "rejected": [said("d")],
        },
        [],
    ),
    "rm-static": (
        {
            "prompt": "\n\nHuman: q\n\nAssistant:",
            "response": " a",
            "chosen": " a",
            "rejected": " b",
        },
        "preference",
        {"prompt": [user("q")], "chosen": " a", "rejected": " b"},
        ["response"],
    ),
    "answers of several turns": (
        {
            "prompt": [user("q")],
            "chosen": [said("a"), user("r"), said("b")],
            "rejected": [said("a"), user("r"), said("c")],
        },
        "preference",
        {
            "prompt": [user("q")],
            "chosen": [said("a"), user("r"), said("b")],
            "rejected": [said("a"), user("r"), said("c")],
        },
        [],
    ),
    "orca_dpo_pairs": (
        {"system": "s", "question": "q", "chosen": "a", "rejected": "b"},
        "preference",
        {"prompt": [SYSTEM, user("q")], "chosen": "a", "rejected": "b"},
        [],
    ),
    "distilabel-orca-dpo": (
        {"system": "s", "input": "q", "chosen": "a", "rejected": "b", "rating": [9, 2]},
        "preference",
        {"prompt": [SYSTEM, user("q")], "chosen": "a", "rejected": "b"},
        ["rating"],
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
    "gsm8k": (
        {"question": "q", "answer": "1 + 1 = <<1+1=2>>2\n#### 2"},
        "completions",
        pair("q", "1 + 1 = <<1+1=2>>2\n#### 2"),
        [],
    ),
    "squad": (
        {
            "id": "57",
            "title": "Peru",
            "context": "c",
            "question": "q",
            "answers": {"text": ["a"], "answer_start": [3]},
        },
        "completions",
        pair("q\n\nc", "a"),
        ["answers.answer_start", "id", "title"],
    ),
    "squad's validation": (
        {"context": "c", "question": "q", "answers": {"text": ["a", "a", "the a"]}},
        "completions",
        pair("q\n\nc", "a"),
        ["answers.text after the first"],
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
    "glaive-function-calling": (
        {
            "system": "SYSTEM: You have functions. Use them if required -\n"
            + json.dumps(RATE, indent=2),
            "chat": "USER: q\n\n\nASSISTANT: <functioncall> "
            '{"name": "get_rate", "arguments": \'{"base": "USD"}\'} <|endoftext|>\n\n\n'
            'FUNCTION RESPONSE: {"rate": 0.8}\n\n\nASSISTANT: a <|endoftext|>\n\n\n',
        },
        "tools",
        {
            "messages": [
                {"role": "system", "content": "You have functions. Use them if required -"},
                user("q"),
                said("", tool_calls=[call(1, "get_rate", base="USD")]),
                {
                    "role": "tool",
                    "content": '{"rate": 0.8}',
                    "tool_call_id": "call_1",
                    "name": "get_rate",
                },
                said("a"),
            ],
            "tools": [{"type": "function", "function": RATE}],
        },
        [],
    ),
    "glaive without functions": (
        {"system": "SYSTEM: s\n", "chat": "USER: q\n\n\nASSISTANT: a <|endoftext|>"},
        "chat",
        chat(SYSTEM, user("q"), said("a")),
        [],
    ),
    "xlam-function-calling": (
        {
            "id": 3,
            "query": "q",
            "answers": json.dumps([{"name": "search", "arguments": {"at": "Lima"}}] * 2),
            "tools": json.dumps([SEARCH]),
        },
        "tools",
        {
            "messages": [
                user("q"),
                said("", tool_calls=[call(n, "search", at="Lima") for n in (1, 2)]),
            ],
            "tools": [
                {
                    "type": "function",
                    "function": {
                        **SEARCH,
                        "parameters": {"type": "object", "properties": SEARCH["parameters"]},
                    },
                }
            ],
        },
        ["id"],
    ),
    "toolace": (
        {
            "system": "s",
            "conversations": [
                {"from": "user", "value": "q"},
                {"from": "assistant", "value": '[Search(at="Lima")]'},
                {"from": "tool", "value": "[]"},
                {"from": "assistant", "value": "a"},
            ],
        },
        "tools",
        chat(
            SYSTEM,
            user("q"),
            said('[Search(at="Lima")]'),
            {"role": "tool", "content": "[]"},
            said("a"),
        ),
        [],
    ),
    "metamath": (
        {"type": "MATH", "query": "q", "original_question": "o", "response": "a"},
        "completions",
        pair("q", "a"),
        ["original_question", "type"],
    ),
    "orca-math": ({"question": "q", "answer": "a"}, "completions", pair("q", "a"), []),
    "codefeedback": (
        {"query": "q", "answer": "a", "resource": "r", "lang": "python"},
        "completions",
        pair("q", "a"),
        ["lang", "resource"],
    ),
    "numina-math": (
        {"source": "s", "problem": "q", "solution": "a", "messages": None},
        "completions",
        pair("q", "a"),
        ["source"],
    ),
    "aya": (
        {"inputs": "q", "targets": "a", "language": "Quechua"},
        "completions",
        pair("q", "a"),
        ["language"],
    ),
    "platypus": (
        {"input": "c", "output": "a", "instruction": "q", "data_source": "s"},
        "completions",
        pair("q\n\nc", "a"),
        ["data_source"],
    ),
    "helpsteer": (
        {"prompt": "q", "response": "a", "helpfulness": 4},
        "completions",
        pair("q", "a"),
        ["helpfulness"],
    ),
    "boolq": (
        {"question": "q", "passage": "p", "answer": True},
        "completions",
        pair("q\n\np", "true"),
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
    "a spreadsheet": (
        {"Context": "c", " Question ": "q", "Answer": "a", "Row No": 3},
        "completions",
        pair("q\n\nc", "a"),
        ["Row No"],
    ),
    "distilabel": (
        {"instruction": "q", "generation": "a", "model_name": "m"},
        "completions",
        pair("q", "a"),
        ["model_name"],
    ),
    "gemini's older form": (
        {"text_input": "q", "output": "a"},
        "completions",
        pair("q", "a"),
        [],
    ),
    "xsum": (
        {"document": "d", "summary": "s", "id": "1"},
        "completions",
        pair("d", "s"),
        ["id"],
    ),
    "a text and its answer": ({"text": "t", "output": "a"}, "completions", pair("t", "a"), []),
    "a text with its answer rendered below it": (
        {"text": "Below is …\n### Instruction:\nq\n\n### Response:\na", "output": "a"},
        "text",
        {"text": "Below is …\n### Instruction:\nq\n\n### Response:\na"},
        ["output"],
    ),
    "a rendered request without its answer": (
        {"text": "[INST] a or b? [/INST]", "output": "a"},
        "completions",
        pair("[INST] a or b? [/INST]", "a"),
        [],
    ),
    "an answer taken from its text": (
        {"text": "Alice went to Lima", "answer": "Lima"},
        "completions",
        pair("Alice went to Lima", "Lima"),
        [],
    ),
    "a headline": (
        {"text": "Rain. It rained.", "summary": "Rain."},
        "completions",
        pair("Rain. It rained.", "Rain."),
        [],
    ),
    "a poem and its category": (
        {"prompt": "Write a poem", "answer": "Roses are red", "category": "poetry"},
        "completions",
        pair("Write a poem", "Roses are red"),
        ["category"],
    ),
    "a solution and its topic": (
        {"question": "2 + 2?", "solution": "4", "topic": "algebra"},
        "completions",
        pair("2 + 2?", "4"),
        ["topic"],
    ),
    "a stance towards a target": (
        {"text": "t", "target": "X", "label": "against"},
        "completions",
        pair("t", "against"),
        ["target"],
    ),
    "a number and its name": (
        {"input": "t", "target": 1, "label_text": "pos"},
        "completions",
        pair("t", "pos"),
        [],
    ),
    "a passage with capitals": (
        {"User": "q", "Context": "c", "Assistant": "a"},
        "completions",
        pair("q\n\nc", "a"),
        [],
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
    "alpaca with one capital": (
        {"instruction": "q", "Input": "c", "output": "a", "Row No": 1},
        "completions",
        pair("q\n\nc", "a"),
        ["Row No"],
    ),
    "a chat with a capital beside it": (
        {**CHAT, "System": "s"},
        "chat",
        chat(SYSTEM, user("q"), said("a")),
        [],
    ),
    "two columns of nearly one name": (
        {"Input": "d", "instruction": "q", "input": "c", "output": "a"},
        "completions",
        pair("q\n\nc", "a"),
        ["Input"],
    ),
    "a tweet and its author": (
        {"user": "alice", "text": "t", "assistant": "bob", "reply": "thanks!"},
        "text",
        {"text": "t"},
        ["assistant", "reply", "user"],
    ),
    "a reply and the bot's name": (
        {"question": "q", "bot": "claude", "reply": "a"},
        "completions",
        pair("q", "a"),
        ["bot"],
    ),
    "a translation": ({"src": "q", "tgt": "a"}, "completions", pair("q", "a"), []),
    "what is extracted": (
        {"input": "t", "output": {"name": "Ána", "age": None}},
        "completions",
        pair("t", '{"name": "Ána", "age": null}'),
        [],
    ),
    "several that are extracted": (
        {"prompt": "t", "completion": [{"name": "a"}, {"name": "b"}]},
        "completions",
        pair("t", '[{"name": "a"}, {"name": "b"}]'),
        [],
    ),
    "a number": ({"question": "1 + 1", "answer": 2}, "completions", pair("1 + 1", "2"), []),
    "snli": (
        {"premise": "p", "hypothesis": "h", "label": 1},
        "completions",
        pair("p\n\nh", "1"),
        [],
    ),
    "qnli": (
        {"question": "q", "sentence": "s", "label": "1.0", "idx": 4},
        "completions",
        pair("q\n\ns", "1"),
        ["idx"],
    ),
    "argilla's older records": (
        {"text": "t", "annotation": "pos", "prediction": None, "status": "Validated"},
        "completions",
        pair("t", "pos"),
        ["status"],
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
    "ms-swift": (
        chat(
            user("q"),
            {"role": "tool_call", "content": '{"name": "look", "arguments": {"at": "Lima"}}'},
            {"role": "tool_response", "content": "Sun"},
            said("a", loss=True),
        ),
        "tools",
        chat(
            user("q"),
            said("", tool_calls=[call(1, "look", at="Lima")]),
            {"role": "tool", "content": "Sun", "tool_call_id": "call_1", "name": "look"},
            said("a", weight=1),
        ),
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
    "llama-factory's kto": (
        {"conversations": [human("q"), gpt("a"), human("r"), gpt("b")], "kto_tag": False},
        "labelled",
        {
            "prompt": [user("q"), said("a"), user("r")],
            "completion": [said("b")],
            "label": False,
        },
        [],
    ),
    "llama-factory's kto as alpaca": (
        {"instruction": "q", "input": "", "output": "a", "kto_tag": 1},
        "labelled",
        {"prompt": "q", "completion": "a", "label": True},
        [],
    ),
    "llama-factory's ranking": (
        {"conversations": [human("q")], "chosen": gpt("a"), "rejected": gpt("b")},
        "preference",
        {"prompt": [user("q")], "chosen": [said("a")], "rejected": [said("b")]},
        [],
    ),
    "a bad answer by other names": (
        {"question": "q", "answer": "a", "label": "undesirable", "id": 1},
        "labelled",
        {"prompt": "q", "completion": "a", "label": False},
        ["id"],
    ),
    "a bad answer in a german spreadsheet": (
        {"prompt": "q", "completion": "a", "label": "FALSCH"},
        "labelled",
        {"prompt": "q", "completion": "a", "label": False},
        [],
    ),
    "a bad chat": (
        {**CHAT, "label": False},
        "labelled",
        {"prompt": [user("q")], "completion": [said("a")], "label": False},
        [],
    ),
    "a number that says nothing of a chat": ({**CHAT, "label": 0}, "chat", CHAT, ["label"]),
    "a number that a spreadsheet has beside a chat": (
        {**CHAT, "label": "1"},
        "chat",
        CHAT,
        ["label"],
    ),
    "a class beside an answer": (
        {"question": "q", "answer": "a", "label": 1},
        "completions",
        pair("q", "a"),
        ["label"],
    ),
    "a class beside an answer in a spreadsheet": (
        {"instruction": "q", "output": "a", "label": "0"},
        "completions",
        pair("q", "a"),
        ["label"],
    ),
    "a good answer under other names": (
        {"User": "q", "Assistant": "a", "Context": "c", "Label": "good", "Row No": 1},
        "labelled",
        {"prompt": "q\n\nc", "completion": "a", "label": True},
        ["Row No"],
    ),
    "a text's truth": ({"text": "t", "label": False}, "completions", pair("t", "false"), []),
    "context beside prompt": (
        {"prompt": "q", "context": "c", "completion": "a"},
        "completions",
        pair("q\n\nc", "a"),
        [],
    ),
}

REFUSED: dict[str, tuple[Row, str]] = {
    "oasst": (
        {
            "message_id": "m",
            "parent_id": None,
            "text": "q",
            "role": "prompter",
            "lang": "en",
            "message_tree_id": "t",
        },
        'has a "role" beside "text", so it is one message of a chat',
    ),
    "squad_v2": (
        {"context": "c", "question": "q", "answers": {"text": [], "answer_start": []}},
        "leave out questions without an answer",
    ),
    "ultrafeedback": (
        {"source": "s", "instruction": "q", "models": ["m"], "completions": [{"response": "a"}]},
        "has none of",
    ),
    "stack-exchange-paired": (
        {"question": "q", "response_j": "a", "response_k": "b"},
        "map its columns",
    ),
    "mmlu": (
        {"question": "q", "choices": ["a", "b"], "answer": 1},
        "has a choice of answers in choices; write it into the question",
    ),
    "mmlu's csv": (
        {"Question": "q", "A": "w", "B": "x", "C": "y", "D": "z", "Answer": "B"},
        "has a choice of answers in A, B, C, D; write it into the question",
    ),
    "llava": (
        {"image": "a.jpg", "conversations": [human("<image>\nq"), gpt("a")]},
        'asks about what is in "image"; only text can be learned',
    ),
    "axolotl's masked parts": (
        chat(user("q"), said("a", train_detail=[{"begin_offset": 0, "train": False}])),
        "message 2 has train_detail, which learns parts of a message; give the whole message",
    ),
    "a weight and its opposite": (
        chat(user("q"), said("a", weight=1, train=False)),
        "weight and train that say different things; keep one",
    ),
    "two ways to train": (
        chat(user("q"), said("a", train=0.5)),
        "has the train 0.5; a weight is 1",
    ),
    "llama-factory's ranked answers": (
        {"instruction": "q", "input": "", "output": ["a", "b"]},
        '"output" holds a list; make it one text, or name a better and a worse answer',
    ),
    "a dictionary of columns": (
        {"prompt": ["q", "r"], "completion": ["a", "b"]},
        '"prompt" must be a non-empty text',
    ),
    "pandas' columns": ({"x": {"0": "q", "1": "r"}, "y": {"0": "a"}}, 'orient="records"'),
    "a dictionary of splits": (
        {"train": [{"prompt": "q"}], "test": [{"prompt": "q"}]},
        "each split into a file of its own",
    ),
    "a message as a row": (user("q"), "is one message of a chat; put all messages of a chat"),
    "two thoughts": (
        {"question": "q", "reasoning": "hm", "thinking": "oh", "answer": "a"},
        "has different thoughts in reasoning and thinking; keep one of them",
    ),
    "no label": ({"text": "t", "label": "NaN"}, '"label" is NaN, which stands for no label'),
    "an odd speaker": (chat({"role": "narrator", "content": "q"}), "not 'narrator'"),
    "no speaker": ({"conversations": [{"id": 1}]}, "turn 1 does not say who speaks"),
    "messages of pandas": (
        {"messages": "[{'role': 'user', 'content': 'q'}]"},
        "in Python's notation; write them as JSON",
    ),
    "gemini's images": (
        {"contents": [{"role": "user", "parts": [{"inlineData": {}}]}]},
        "message 1 has a part of the type 'inlineData'; only text",
    ),
    "a thought of gemini's user": (
        {"contents": [{"role": "user", "parts": [{"text": "hm", "thought": True}]}]},
        "message 1 has a thought among its parts; only an answer has thoughts",
    ),
    "a question without its answer": (
        {"question": "q", "solution": None, "topic": "algebra"},
        "map its columns yourself: question, solution, topic",
    ),
    "an author and a reply": (
        {"user": "alice", "reply": "thanks!"},
        "map its columns yourself: user, reply",
    ),
    "an origin and its text": (
        {"source": "wikipedia", "target": "Bonjour"},
        "map its columns yourself: source, target",
    ),
    "no number": (
        {"question": "q", "answer": math.nan},
        '"answer" is nan, which is no answer; leave the row out',
    ),
    "no number within an object": (
        {"question": "q", "answer": {"share": math.inf}},
        "holds NaN or an infinite number",
    ),
    "an empty row": ({}, "it has nothing"),
    "hotpot": (
        {"question": "q", "answer": "a", "context": {"title": []}},
        '"context" must be a text',
    ),
    "lima's questions": ({"conversations": ["q"]}, "must be the assistant's answer"),
    "another prompt than both answers have": (
        {"prompt": "other", "chosen": [user("q"), said("a")], "rejected": [user("q"), said("b")]},
        '"prompt" is not among them; leave out one of the two',
    ),
    "xlam without a call": ({"query": "q", "answers": "[]", "tools": "[]"}, "calls nothing"),
    "xlam's answers as a text": (
        {"query": "q", "answers": '["a"]', "tools": "[]"},
        "a list of calls",
    ),
    "glaive's broken call": (
        {"chat": "USER: q\n\n\nASSISTANT: <functioncall> add(1)"},
        "message 2: what follows <functioncall> must be an object",
    ),
    "an unanswered transcript": (
        {"text": "### Human: q### Assistant: a### Human: r"},
        "must be the assistant's answer",
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_row_is_taken_for_what_it_means(name: str) -> None:
    row, format, example, unused = TAKEN[name]
    names = Unused()
    _, found, read = canonical(row, {}, names)
    assert (found, list(names)) == (format, unused)
    assert {key: read[key] for key in example} == example
    assert set(read) - set(example) <= set(row)  # the row as it is, byte for byte


@pytest.mark.parametrize("name", REFUSED)
def test_a_row_is_refused_with_what_to_change(name: str) -> None:
    row, reason = REFUSED[name]
    with pytest.raises(BadLine) as caught:
        canonical(row, {}, Unused())
    assert reason in str(caught.value)


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


def test_two_texts_of_a_preference_are_whole_chats_only_together() -> None:
    row = {"prompt": "q", "chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "b"}
    assert canonical(row, {}, Unused())[2] == row
