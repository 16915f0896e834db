"""What a Mac decides differently, computed here: one lane, compiled steps, MLX's own kernels, 16- and
4-bit weights. Each comes to what the CPU's own way comes to. `just full` takes all tests of training
and serving this way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
import pytest

from backends.base import Finished, Grammar, LoadedModel, LoadOptions, LoraConfig, Sampling, Stepped
from backends.mlx import MLXBackend
from backends.mlx.serving import generation, lane, rows
from backends.mlx.training import loss, optimizers
from tests.backends.mlx.serving.test_prefix_cache import prompt
from tests.backends.rows import TWELVE, Row, run
from tests.backends.training_runs import events, make_run, of, write_labelled, write_split

pytestmark = [pytest.mark.any_database, pytest.mark.usefixtures("lanes")]

QUICK: dict[str, Any] = {"iters": 2, "warmup": 0, "steps_per_eval": 2, "save_every": 2}
QUICK |= {"lora": LoraConfig(rank=2, dropout=0.1)}
PREFERENCES = ("dpo", "orpo", "simpo", "kto")
MODES: dict[str, dict[str, Any]] = {
    "lora": {},
    "dora": {"fine_tune_type": "dora"},
    "full": {"fine_tune_type": "full", "learning_rate": 1e-2, "num_layers": 1},
    "packing": {"packing": True, "batch_size": 8},
    "checkpointing": {"grad_checkpoint": True, "grad_accumulation_steps": 2, "batch_size": 2},
    **{name: {"objective": name} for name in PREFERENCES},
}


@pytest.fixture(scope="module")
def on_a_gpu() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUB_ASSUMED_DEVICE", "metal")
        yield


@pytest.fixture(scope="module")
def quantized(lively_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantized") / "base"
    MLXBackend().quantize(lively_base, folder, 4, 32)
    return folder


# ------------------------------------------------------------------------ training


class Watched:
    """What a run on a GPU uses, and what only one on the CPU does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.compiled: list[Callable[..., Any]] = []
        self.streams: set[int] = set()
        self.of_the_cpu: list[str] = []
        compile_ = mx.compile

        def compiling(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if function.__module__ == optimizers.__name__:
                self.compiled.append(function)
            return compile_(function, *args, **kwargs)

        def prepare(lanes: loss.Lanes, model: Any) -> None:
            self.streams.add(len(lanes.streams))
            assert lanes.streams[0] == mx.default_stream(mx.default_device())
            own(lanes, model)

        own = loss.Lanes.prepare
        monkeypatch.setattr(mx, "compile", compiling)
        monkeypatch.setattr(loss.Lanes, "prepare", prepare)
        for name in ("quicken", "cross_entropy", "head_losses"):
            monkeypatch.setattr(loss, name, self._forbidden(name))

    def _forbidden(self, name: str) -> Callable[..., Any]:
        function = getattr(loss, name)

        def called(*args: Any, **kwargs: Any) -> Any:
            self.of_the_cpu.append(name)
            return function(*args, **kwargs)

        return called


def losses(base: Path, data: Path, folder: Path, **changes: Any) -> list[float]:
    happened = events(make_run(base, data, folder, **QUICK | changes))
    metrics = of(Finished, happened)[0].metrics
    steps = [value for step in of(Stepped, happened) for value in (step.train_loss, step.grad_norm)]
    return [*steps, metrics["val_loss"]]


@pytest.mark.parametrize("mode", MODES)
def test_every_kind_of_training_learns_what_it_learns_on_the_cpu(
    tiny_base: Path,
    chats: Path,
    preferences: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
) -> None:
    data = preferences if mode in PREFERENCES else chats
    if mode == "kto":
        data = write_labelled(tmp_path / "labelled")
    changes = MODES[mode] | {"lora": LoraConfig(rank=2)}  # each lane has a dropout of its own
    here = losses(tiny_base, data, tmp_path / "here", **changes)
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "metal")
    watched = Watched(monkeypatch)
    there = losses(tiny_base, data, tmp_path / "there", **changes)
    # KTO's baseline is measured within a lane.
    assert there == pytest.approx(here, rel=0.02 if mode == "kto" else 2e-3)
    assert (len(watched.compiled), watched.streams, watched.of_the_cpu) == (2, {1}, [])


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("base", ["narrow_base", "quantized"])
def test_the_types_of_a_gpu_learn_what_they_learn_on_the_cpu(
    request: pytest.FixtureRequest,
    chats: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    base: str,
    kind: str,
) -> None:
    folder = request.getfixturevalue(base)
    changes = {"fine_tune_type": kind, "num_layers": 1, "lora": LoraConfig(rank=2)}
    here = losses(folder, chats, tmp_path / "here", **changes)
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "metal")
    there = losses(folder, chats, tmp_path / "there", **changes)
    assert there == pytest.approx(here, rel=0.03)


def test_steps_are_compiled_for_few_shapes(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lengths and numbers of targets that all differ; MLX keeps each compiled graph for good."""
    for split, count in {"train": 48, "valid": 1}.items():
        values = [
            {"prompt": "word " * (3 * n + 1), "completion": "yes " * (2 * n % 31 + 1)}
            for n in range(count)
        ]
        write_split(tmp_path / "data", split, values)
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "metal")
    traced = []
    value_and_grad = mx.value_and_grad

    def tracing(function: Callable[..., Any], *args: Any) -> Any:
        traced.append(function)
        return value_and_grad(function, *args)

    monkeypatch.setattr(mx, "value_and_grad", tracing)
    counts = {}
    for arithmetic in ("masters", "earlier"):
        traced.clear()
        settings = QUICK | {"iters": 24, "batch_size": 2, "num_layers": 1, "steps_per_eval": 24}
        settings |= {"save_every": 24, "arithmetic": arithmetic}
        events(make_run(tiny_base, tmp_path / "data", tmp_path / arithmetic, **settings))
        counts[arithmetic] = len(traced)
    assert counts["masters"] <= 12 < counts["earlier"]


# ------------------------------------------------------------------------ serving

EVENT = {
    "type": "object",
    "properties": {"day": {"enum": ["Monday", "Friday"]}},
    "required": ["day"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module", params=["lively_base", "narrow_lively", "quantized"])
def base(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(request.param)
    return folder


@pytest.fixture(scope="module")
def narrow_lively(lively_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.backends.conftest import narrowed

    return narrowed(lively_base, tmp_path_factory.mktemp("narrow") / "lively")


@pytest.fixture(scope="module")
def served(on_a_gpu: None, base: Path) -> Iterator[LoadedModel]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation, "quicken", lambda _: pytest.fail("these kernels are the CPU's"))
        loaded = MLXBackend().load(base, options=LoadOptions(cache_bytes=2**24))
    yield loaded
    loaded.close()


def test_a_batch_of_adapters_answers_as_each_alone_and_as_mlx_lm(
    served: LoadedModel, base: Path, adapters: tuple[Path, Path]
) -> None:
    asked = prompt(1, 40)
    ways = (None, *adapters)
    alone = [run(served, Row(prompt=asked, adapter=way))[0].tokens for way in ways]
    together = run(served, *(Row(prompt=asked, adapter=way) for way in ways))
    assert [row.tokens[:4] for row in together] == [tokens[:4] for tokens in alone]
    assert len({tuple(tokens) for tokens in alone}) == 3
    for way, tokens in zip(ways, alone, strict=True):
        model, *_ = mlx_lm.load(str(base), adapter_path=str(way) if way else None)
        logits: Any = model(mx.array([asked]))[0, -1].astype(mx.float32)
        # 16 bits round, and mlx-lm applies an adapter in float32.
        spread = logits.max().item() - logits.mean().item()
        assert logits[tokens[0]].item() > logits.max().item() - 0.05 * spread


def test_a_prompt_read_before_is_answered_alike(served: LoadedModel) -> None:
    first, second = (run(served, Row(prompt=prompt(2, 333)))[0] for _ in range(2))
    assert (first.cached, second.cached) == (0, 332)
    assert first.tokens[:4] == second.tokens[:4]


def test_a_grammar_is_kept(served: LoadedModel) -> None:
    grammar = Grammar("json_schema", json.dumps(EVENT))
    row = run(
        served, Row(prompt=prompt(3, 50), sampling=Sampling(60, 1.5, seed=3, grammar=grammar))
    )
    assert json.loads(row[0].text)["day"] in ("Monday", "Friday")


def test_prompts_are_read_in_a_gpus_chunks(
    on_a_gpu: None, lively_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    generator = lane.BatchGenerator

    def made(*args: Any, **kwargs: Any) -> Any:
        sizes.append(kwargs["prefill_step_size"])
        return generator(*args, **kwargs)

    monkeypatch.setattr(lane, "BatchGenerator", made)
    loaded = MLXBackend().load(lively_base)
    run(loaded, Row(prompt=prompt(1, 20)))
    loaded.close()
    assert set(sizes) == {lane.PREFILL["metal"][0]}


def test_on_cuda_the_host_reads_no_log_probabilities_that_nobody_asked_for(
    lively_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each read would move memory between the devices, and back."""
    read: list[Any] = []

    def reading(array: Any) -> memoryview:
        read.append(array)
        return memoryview(array)

    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "cuda")
    monkeypatch.setattr(rows, "memoryview", reading, raising=False)
    loaded = MLXBackend().load(lively_base)
    drawn = Sampling(12, temperature=0.8, top_p=0.9)
    run(loaded, *(Row(prompt=prompt(n, 20), sampling=way) for n, way in enumerate((TWELVE, drawn))))
    assert read == []
    asked = run(loaded, Row(prompt=prompt(1, 20), sampling=Sampling(4, logprobs=True)))[0]
    loaded.close()
    assert len(read) >= 4
    assert all(delta.logprob < 0 for delta in asked.deltas)


# ------------------------------------------------------------------------ conversion


def test_conversions_are_compared_in_the_types_that_serve(
    lively_base: Path, quantized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU both are unpacked to float32 first."""
    examples = tmp_path / "test.jsonl"
    examples.write_text(json.dumps({"prompt": "What is it?", "completion": "A test of it."}) + "\n")
    here = MLXBackend().fidelity(lively_base, None, quantized, examples, 8)
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "metal")
    for name in ("dequantize_model", "quicken"):
        monkeypatch.setattr(
            f"backends.mlx.evals.fidelity.{name}", lambda _: pytest.fail("the CPU's")
        )
    there = MLXBackend().fidelity(lively_base, None, quantized, examples, 8)
    assert there.kl == pytest.approx(here.kl, rel=0.02)
    assert there.tokens == here.tokens > 0
