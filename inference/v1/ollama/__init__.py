"""Ollama's API: requests as they come in, bodies and lines as they go out, models as it lists them."""
