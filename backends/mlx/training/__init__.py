"""Fine-tuning: the loop, objectives, optimizers, LoRA layers, checkpoints and evaluation."""
