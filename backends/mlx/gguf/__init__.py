"""GGUF files: read and imported as MLX folders, and written from them."""
