"""What a model is worth: fidelity of conversions, template parity, lm-eval's tasks."""
