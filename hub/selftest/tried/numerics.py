"""Whether the device computes what the CPU computes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hub.selftest.bench import Bench
from hub.selftest.report import Outcome, judged, right

if TYPE_CHECKING:
    from backends.mlx.selftest.numerics import Compared

TOLERANCES = {"float32": 2e-3, "bfloat16": 3e-2, "float16": 8e-3}
"""Of the largest value. Rounding takes a fraction of it (newer GPUs multiply float32 with 10 bits):
what is beyond is another result."""
_CPU_SLACK = 4  # the CPU's own products with packed 16-bit weights add up in 16 bits

WRONG = "Do not trust results of this machine. Report this with the whole report, to the hub and to MLX."
_QUICK_SIZES = ((1, 64, 128), (8, 64, 96), (33, 65, 97))
_SIZES = (*_QUICK_SIZES, (1, 576, 1536), (8, 576, 1536), (33, 577, 1535), (512, 576, 1536))
_QUICK_PACKED_SIZES = ((1, 128, 96), (5, 128, 96))
_PACKED_SIZES = ((1, 576, 1536), (5, 576, 1536), (33, 1536, 576), (512, 576, 1536))


def rates(bench: Bench) -> Outcome:
    """What the bound of the tokens a second is computed from."""
    from backends.mlx.selftest import rates as device

    read = device.bandwidth(bench.few(1 << 30, 1 << 24), bench.few(5, 2))
    computed = device.flops(bench.few(4096 if bench.kind != "cpu" else 1024, 128), 3)
    figures = {"bytes_per_second": read, "flops": computed}
    return right(f"{read / 1e9:.3g} GB/s read, {computed / 1e12:.2g} TFLOPS computed.", **figures)


def matmul(bench: Bench) -> Outcome:
    from backends.mlx.selftest import numerics

    return _within(bench, numerics.matmul(_QUICK_SIZES if bench.quick else _SIZES))


def quantized(bench: Bench) -> Outcome:
    from backends.mlx.selftest import numerics

    # A prompt takes the CPU's kernel minutes.
    sizes = _PACKED_SIZES[:-1] if bench.kind == "cpu" else _PACKED_SIZES
    return _within(bench, numerics.quantized(_QUICK_PACKED_SIZES if bench.quick else sizes))


def gather(bench: Bench) -> Outcome:
    from backends.mlx.selftest import numerics

    return _within(bench, numerics.gather(8, bench.few(576, 64), bench.few(1536, 128)))


def attention(bench: Bench) -> Outcome:
    from backends.mlx.selftest import numerics

    lengths = ((1, 33), (33, 33)) if bench.quick else ((1, 33), (1, 1500), (33, 33), (130, 700))
    return _within(bench, numerics.attention(lengths, (64,) if bench.quick else (64, 128)))


def top_p(bench: Bench) -> Outcome:
    from backends.mlx.selftest import numerics

    found = numerics.top_p(bench.few(49_152, 4096), bench.few(64, 16))
    figures = {
        "draws": found.draws,
        "outside": found.outside,
        "alike": found.alike,
        "distance": found.distance,
    }
    return judged(
        not found.outside and found.alike >= 0.98 and found.distance < 0.05,
        f"{found.outside} of {found.draws} draws outside of what top-p keeps; {found.alike:.0%} the "
        f"same as on the CPU; {found.distance:.3f} from the distribution.",
        WRONG,
        **figures,
    )


def lora_step(bench: Bench) -> Outcome:
    """The same steps of a small model, on the device and on the CPU."""
    from backends.mlx.selftest import numerics
    from hub.selftest.tried.training import losses, small_model, write_data

    base = small_model(bench)
    data = write_data(bench.scratch("lora-step-data"), examples=12)
    settings = {"iters": bench.few(4, 2), "batch_size": 4, "warmup": 0, "learning_rate": 1e-3}
    with numerics.as_on_a_gpu() as where:
        here = losses(bench, base, data, "lora-step-here", **settings)
    with numerics.as_on_the_cpu():
        there = losses(bench, base, data, "lora-step-cpu", **settings)
    far = max(abs(a - b) / max(1e-6, abs(b)) for a, b in zip(here, there, strict=True))
    note = " (this is the CPU, taking a GPU's way)" if where == "assumed" else ""
    return judged(
        far < 2e-3,
        f"Losses and gradients of {settings['iters']} steps differ by {far:.2e} at most{note}.",
        WRONG,
        difference=far,
        device=where,
        here=here,
        cpu=there,
    )


def _within(bench: Bench, compared: Iterable[Compared]) -> Outcome:
    """Right if every error is within its type's tolerance. The figures have the largest of each
    kernel and type, with the shape that it was found at."""
    slack = _CPU_SLACK if bench.kind == "cpu" else 1
    worst: dict[str, dict[str, dict[str, float | str]]] = {}
    wrong: list[str] = []
    missing: set[str] = set()
    count, largest = 0, dict.fromkeys(TOLERANCES, 0.0)
    for one in compared:
        if one.error is None:
            missing.add(f"{one.kernel} in {one.dtype}")
            continue
        count += 1
        largest[one.dtype] = max(largest[one.dtype], one.error)
        known = worst.setdefault(one.kernel, {}).get(one.dtype)
        if known is None or one.error > float(known["error"]):
            worst[one.kernel][one.dtype] = {"error": one.error, "shape": one.shape}
        if not one.error <= TOLERANCES[one.dtype] * (1 if one.dtype == "float32" else slack):
            wrong.append(f"{one.kernel} in {one.dtype} at {one.shape}")
    absent = f" MLX has no {' and no '.join(sorted(missing))} on this device." if missing else ""
    if wrong:
        said = f"{len(wrong)} of {count} comparisons are off: {'; '.join(wrong[:3])}."
    else:
        errors = ", ".join(f"{error:.0e} in {name}" for name, error in largest.items())
        said = f"{count} comparisons; the largest error is {errors}.{absent}"
    fine = not wrong and not (missing and bench.kind != "cpu")
    figures = {"comparisons": count, "wrong": wrong, "missing": sorted(missing), "kernels": worst}
    return judged(fine, said, WRONG, **figures)
