"""Requests in the engine: where they wait, how their prompts are rendered, how answers leave."""
