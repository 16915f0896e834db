"""OpenAI's and Anthropic's own clients for Node, and Vercel's AI SDK over every API.

To run all of them: `npm install --prefix FOLDER openai @anthropic-ai/sdk ai zod @ai-sdk/openai
@ai-sdk/openai-compatible @ai-sdk/anthropic`, then `NODE_PATH=FOLDER/node_modules uv run pytest
tests/inference/clients/test_node_libraries.py`.
"""

from __future__ import annotations

import pytest

from tests.inference.clients.node import node
from tests.inference.processes import Hub

pytestmark = pytest.mark.any_database

OPENAI = """
const OpenAI = require('openai');
const client = new OpenAI({ baseURL: process.env.HUB + '/v1', apiKey: 'any', maxRetries: 0 });
const parameters = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
const called = [];
const runner = client.chat.completions.runTools({
  model: 'calendar', messages: [{ role: 'user', content: 'Ask weather for Oslo' }],
  tools: [{ type: 'function', function: {
    name: 'weather', description: 'Weather', parameters, parse: JSON.parse,
    function: async (given) => { called.push(given); return '4 degrees'; } } }],
});
const final = await runner.finalContent();
const messages = [{ role: 'user', content: 'Hello' }];
const whole = await client.chat.completions.create({ model: 'calendar', messages });
const stream = client.chat.completions.stream({ model: 'calendar', messages });
const streamed = await stream.finalContent();
const schema = { type: 'object', properties: { day: { type: 'string' } }, required: ['day'] };
const made = await client.chat.completions.parse({ model: 'calendar', messages,
  response_format: { type: 'json_schema', json_schema: { name: 'm', schema } } });
const response = await client.responses.create({ model: 'calendar', input: 'Hello' });
console.log(JSON.stringify({ called, final, whole: whole.choices[0].message.content, streamed,
  usage: whole.usage, made: JSON.parse(made.choices[0].message.content),
  response: response.output_text }));
"""


def test_openais_client_for_node(hub: Hub) -> None:
    told = node(OPENAI, "openai", HUB=hub.url)
    assert [set(given) for given in told["called"]] == [{"city"}]
    assert told["final"]
    assert told["whole"] == told["streamed"] == told["response"]
    assert told["usage"]["total_tokens"] > told["usage"]["completion_tokens"] > 0
    assert set(told["made"]) == {"day"}


ANTHROPIC = """
const Anthropic = require('@anthropic-ai/sdk');
const client = new Anthropic({ baseURL: process.env.HUB, apiKey: 'any', maxRetries: 0 });
const tools = [{ name: 'weather', description: 'Weather', input_schema: {
  type: 'object', properties: { city: { type: 'string' } }, required: ['city'] } }];
const ask = (messages, more = {}) =>
  client.messages.create({ model: 'calendar', max_tokens: 200, messages, ...more });
const question = { role: 'user', content: 'Ask weather for Oslo' };
const called = await ask([question], { tools });
const call = called.content.find((block) => block.type === 'tool_use');
const result = { type: 'tool_result', tool_use_id: call.id, content: '4 degrees' };
const final = await ask([question, { role: 'assistant', content: called.content },
  { role: 'user', content: [result] }], { tools });
const stream = client.messages.stream({ model: 'calendar', max_tokens: 200, tools,
  messages: [question] });
const streamed = await stream.finalMessage();
const plain = [{ role: 'user', content: 'Hello' }];
const whole = await ask(plain);
const text = await client.messages.stream({ model: 'calendar', max_tokens: 200, messages: plain })
  .finalText();
console.log(JSON.stringify({ reason: called.stop_reason, input: call.input,
  streamed: streamed.content.find((block) => block.type === 'tool_use').input,
  final: final.content, whole: whole.content[0].text, text, usage: whole.usage }));
"""


def test_anthropics_client_for_node(hub: Hub) -> None:
    told = node(ANTHROPIC, "@anthropic-ai/sdk", HUB=hub.url)
    assert told["reason"] == "tool_use"
    assert told["input"] == told["streamed"]
    assert [block["type"] for block in told["final"]] == ["text"]
    assert told["whole"] == told["text"]
    assert told["usage"]["output_tokens"] > 0


VERCEL = """
const { generateText, generateObject, streamText, tool, stepCountIs } = require('ai');
const { z } = require('zod');
const model = (() => {
  if (process.env.API === 'anthropic') {
    const { createAnthropic } = require('@ai-sdk/anthropic');
    return createAnthropic({ baseURL: process.env.HUB + '/v1', apiKey: 'any' })('calendar');
  }
  if (process.env.API === 'openai') {
    const { createOpenAI } = require('@ai-sdk/openai');
    return createOpenAI({ baseURL: process.env.HUB + '/v1', apiKey: 'any' }).chat('calendar');
  }
  const { createOpenAICompatible } = require('@ai-sdk/openai-compatible');
  return createOpenAICompatible({ name: 'hub', baseURL: process.env.HUB + '/v1',
    supportsStructuredOutputs: true })('calendar');
})();
const weather = tool({ description: 'Weather', inputSchema: z.object({ city: z.string() }),
  execute: async () => '4 degrees' });
const asked = { model, tools: { weather }, stopWhen: stepCountIs(3), maxRetries: 0,
  prompt: 'Ask weather for Oslo' };
const loop = await generateText(asked);
const streamed = streamText(asked);
const text = await streamed.text;
const made = await generateObject({ model, schema: z.object({ day: z.string() }), prompt: 'When?',
  maxRetries: 0 });
console.log(JSON.stringify({ steps: loop.steps.length, final: loop.text, streamed: text,
  streamedSteps: (await streamed.steps).length, made: made.object, usage: loop.totalUsage }));
"""


@pytest.mark.parametrize("api", ["openai", "openai-compatible", "anthropic"])
def test_vercels_sdk_loops_over_a_tool(hub: Hub, api: str) -> None:
    told = node(VERCEL, "ai", "zod", f"@ai-sdk/{api}", HUB=hub.url, API=api)
    assert told["steps"] == told["streamedSteps"] == 2
    assert told["final"]  # ids of calls are part of the prompt, so the two differ
    assert told["streamed"]
    assert set(told["made"]) == {"day"}
    assert told["usage"]["outputTokens"] > 0
