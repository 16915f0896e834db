"""Training settings: labels and help texts, presets, and which combinations are valid."""
