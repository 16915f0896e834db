"""Models and what is said of them: registration, lists with figures, tags, the model card."""
