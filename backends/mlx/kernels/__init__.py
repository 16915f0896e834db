"""Faster versions of parts of a model, with gradients of their own."""
