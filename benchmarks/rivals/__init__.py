"""What the hub is compared with, each in a process of its own: servers, trainers, and mlx-lm without a
server. `python -m benchmarks.rivals` measures the hub beside all of them."""
