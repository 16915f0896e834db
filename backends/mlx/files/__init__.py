"""Model folders: described, checked, loaded and saved, compared, fused, quantized."""
