"""Vectors of texts: of models that generate, and of those that do nothing else."""
