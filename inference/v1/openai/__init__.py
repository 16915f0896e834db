"""OpenAI's API: requests and messages as they come in, bodies as they go out."""
