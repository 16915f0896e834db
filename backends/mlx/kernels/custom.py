"""Functions with a gradient of their own, which is computed where the function was.

MLX builds a backward pass on the default stream, whatever stream a custom function was called on:
the gradients of all lanes (see `backends.mlx.training.loss`) would wait in the queue of the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx

type Gradient = Callable[[Any, Any, Any], Any]


def custom(forward: Callable[..., Any], gradient: Gradient) -> Callable[..., Any]:
    """`forward`, differentiated by gradient(primals, cotangents, outputs). Each of these is an
    array, or a tuple of them where there are several."""

    def call(*arrays: mx.array) -> Any:
        stream: Any = mx.default_stream(mx.default_device())
        function: Any = mx.custom_function(forward)

        @function.vjp  # type: ignore[untyped-decorator]
        def there(primals: Any, cotangents: Any, outputs: Any) -> Any:
            with mx.stream(stream):
                return gradient(primals, cotangents, outputs)

        return function(*arrays)

    return call
