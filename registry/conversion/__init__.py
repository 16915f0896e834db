"""New model folders made from stored ones: quantized, fused, exported; and base models in the
making."""
