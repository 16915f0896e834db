"""Write a base model with fewer bits per weight.

Unquantized parts keep their type: scales in bfloat16 would save half a bit per weight, but change,
measured on the starter, every fifth first token even at 8 bits.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from mlx_lm.utils import quantize_model

from backends.base import ImportedModel, UnsupportedModel
from backends.mlx.files.loading import open_weights
from backends.mlx.files.saving import read_config, write_model

BITS = (4, 8)
GROUP_SIZES = (32, 64, 128)
_EMBEDDING_BITS = 8  # the embedding is often the output layer too, where 4 bits cost answers


def quantize(base: Path, target: Path, bits: int, group_size: int) -> ImportedModel:
    """See `backends.base.Backend.quantize`."""
    if bits not in BITS or group_size not in GROUP_SIZES:
        raise UnsupportedModel("Weights are quantized to 4 or 8 bits in groups of 32, 64 or 128.")
    if "quantization" in read_config(base):
        raise UnsupportedModel(f"{base.name} is quantized already; start from its full weights.")
    model, config = open_weights(base)

    def chosen(path: str, module: Any) -> bool | dict[str, Any]:
        if not hasattr(module, "to_quantized"):
            return False
        if path.endswith("embed_tokens") and bits < _EMBEDDING_BITS:
            return {"group_size": group_size, "bits": _EMBEDDING_BITS, "mode": "affine"}
        return True

    # mlx-lm prints its bits per weight to standard output, where our answer goes.
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        model, config = quantize_model(model, config, group_size, bits, quant_predicate=chosen)
    return write_model(base, target, model, config)
