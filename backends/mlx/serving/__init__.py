"""Generation: many rows and adapters in one running batch, with caches of known prefixes."""
