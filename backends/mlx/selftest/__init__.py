"""What the self-test measures of MLX itself: kernels, rates, random models, and mlx-lm beside the hub."""
