"""The MLX backend under the hub: its queue, its engine and its child processes."""
