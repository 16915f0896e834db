"""The compatible APIs at `/v1`: OpenAI's and Anthropic's requests and answers, translated."""
