"""Base models: registered once from a hub, a folder, a GGUF file or the bundled starter."""
