"""Training examples: read, tokenized, batched or packed, and examined."""
