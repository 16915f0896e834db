"""What the hub is compared with, each in a process of its own: `mlx_lm.lora`, `mlx_lm.server`, and
mlx-lm without a server."""
