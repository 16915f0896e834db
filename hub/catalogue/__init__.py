"""Base models on offer, on a model hub and on this machine, and what each could do here."""
