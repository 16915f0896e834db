"""Keys and values of earlier prompts, so that shared prefixes are not read again.

Blocks of a row's cache are copied out of its batch, and its end when it has ended: the row keeps writing
into its own memory and never sees the copy again. A later row starts with a cache joined from copies.
Only models whose layers all keep plain keys and values can share them; a sliding window or a
recurrent state cannot be cut in the middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from backends.mlx.serving.caches import KVCache
from backends.mlx.serving.prefix_files import PrefixFiles
from backends.prefixes import BLOCK, PrefixTree

async_eval: Any = mx.async_eval  # untyped
type Layers = list[tuple[mx.array, mx.array]]  # keys and values [1, heads, tokens, size] by layer


class PrefixCache:
    """Prefixes of one loaded model, within `most_bytes`; also on disk when there are `files`."""

    def __init__(self, model: Any, most_bytes: int, files: PrefixFiles | None = None) -> None:
        kinds = make_prompt_cache(model)
        self.plain = all(type(kind) is KVCache for kind in kinds)
        self.usable = most_bytes > 0 and self.plain
        self._layers = len(kinds)
        self._tree: PrefixTree[Layers] = PrefixTree(most_bytes)
        self._files = files if self.usable else None

    @property
    def nbytes(self) -> int:
        return self._tree.nbytes

    def shrink(self, most_bytes: int) -> None:
        self._tree.shrink(most_bytes)

    def limit(self, most_bytes: int) -> None:
        self._tree.limit(most_bytes)

    def restore(self, root: bytes, prompt: Sequence[int], caches: Sequence[Any]) -> int:
        """Fill the empty `caches` of a row; returns how many of the prompt's tokens they hold. The
        last token is never among them: the model must be run on it."""
        before = prompt[:-1]
        if self._files:
            self._load(self._files, root, before)
        path = self._tree.find(root, before)
        held = [(segment.content, n * BLOCK) for segment, n in path]
        if rest := self._tree.find_rest(path, before):
            held.append(rest)
        count = sum(n for _, n in held)
        if count:
            for layer, cache in enumerate(caches):
                cache.keys, cache.values = (
                    mx.concatenate([layers[layer][part][:, :, :n] for layers, n in held], axis=2)
                    for part in (0, 1)
                )
                cache.offset = count
        return count

    def keep(
        self, root: bytes, tokens: Sequence[int], caches: Sequence[Any], *, ended: bool = True
    ) -> None:
        """Copy the blocks of a row that are not held yet, and what follows them once it has `ended`;
        `caches` are its layers, which hold `tokens`. The copies are computed after the device's current
        work."""

        def cut(start: int, stop: int) -> Layers:
            parts = [
                (
                    mx.contiguous(cache.keys[:, :, start:stop]),
                    mx.contiguous(cache.values[:, :, start:stop]),
                )
                for cache in caches
            ]
            async_eval(parts)
            return parts

        first = caches[0]
        tokens = tokens[: first.offset]
        token_bytes = sum((c.keys.nbytes + c.values.nbytes) // c.keys.shape[2] for c in caches)
        added = self._tree.add(root, tokens, token_bytes, cut)
        if ended:
            self._tree.add_rest(root, tokens, token_bytes, cut)
        if self._files and added:
            self._files.keep(root, tokens, token_bytes, added)

    def close(self) -> None:
        self._tree.shrink(0)
        if self._files:
            self._files.close()

    def _load(self, files: PrefixFiles, root: bytes, tokens: Sequence[int]) -> None:
        """Load the blocks of `tokens` that are only on disk."""
        in_memory = sum(blocks for _, blocks in self._tree.find(root, tokens))
        if files.held(root, tokens) <= in_memory:
            return
        layers = files.read(root, tokens)
        count = layers[0][0].shape[2] if layers else 0
        if len(layers) != self._layers or count <= in_memory * BLOCK:
            return
        token_bytes = sum((k.nbytes + v.nbytes) // count for k, v in layers)

        def cut(start: int, stop: int) -> Layers:
            part = [
                (mx.contiguous(k[:, :, start:stop]), mx.contiguous(v[:, :, start:stop]))
                for k, v in layers
            ]
            mx.eval(part)
            return part

        self._tree.add(root, tokens[:count], token_bytes, cut)
