"""What the hub is compared with, each in a process of its own: servers, `mlx_lm.lora`, and mlx-lm
without a server. `python -m benchmarks.rivals` measures the hub beside the servers."""
