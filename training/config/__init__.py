"""Training settings: their words for people, presets, and which of them go together."""
