"""OpenAI's Responses API: items in, items out, and the events of its streams."""
