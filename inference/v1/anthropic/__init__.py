"""Anthropic's Messages API: requests as they come in, bodies as they go out."""
