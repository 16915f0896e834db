"""What the playground keeps and offers: conversations, models to choose from, code snippets."""
