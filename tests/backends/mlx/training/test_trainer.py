from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.base import (
    Checkpointed,
    Evaluated,
    Finished,
    Sampled,
    TrainingDiverged,
    TrainingRun,
)
from tests.backends.training_runs import (
    EVERYTHING,
    chat,
    digest,
    events,
    make_run,
    of,
)

pytestmark = pytest.mark.any_database

ROOT = Path(__file__).parents[4]


def test_the_last_checkpoints_and_the_best_are_kept(
    tiny_base: Path, chats: Path, tmp_path: Path
) -> None:
    """With a rate this high the first validation stays the best."""
    settings = {"learning_rate": 1.0, "warmup": 0, "grad_clip": 0, "keep_checkpoints": 1}
    run = make_run(tiny_base, chats, tmp_path, steps_per_eval=3, optimizer="sgd", **settings)
    happened = events(run)
    best = of(Finished, happened)[0].metrics["best_iteration"]
    kept = sorted(int(path.name) for path in run.checkpoints.iterdir())
    assert kept == sorted({int(best), 8})
    assert int(best) in [event.iteration for event in of(Checkpointed, happened)]


def test_samples_are_what_generation_says(tiny_base: Path, chats: Path, tmp_path: Path) -> None:
    from mlx_lm import generate, load

    run = make_run(tiny_base, chats, tmp_path, samples=1, sample_tokens=8, learning_rate=1e-2)
    sample = of(Sampled, events(run))[-1]
    model, tokenizer = load(str(tiny_base), adapter_path=str(run.output))[:2]
    messages = chat("valid 0 ")[:-1]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    assert sample.answer == generate(model, tokenizer, prompt, max_tokens=8).strip()


@pytest.mark.usefixtures("lanes")
def test_the_reported_loss_is_mlx_lms_own(tiny_base: Path, chats: Path, tmp_path: Path) -> None:
    """Masking, padding and the fast arithmetic agree with mlx-lm's loss on the same tokens."""
    import mlx.core as mx
    from mlx_lm import load
    from mlx_lm.tuner.trainer import default_loss

    from tests.backends.mlx.data.reading import read_split

    model, tokenizer = load(str(tiny_base))
    total = count = 0.0
    for example in read_split(chats / "valid.jsonl", tokenizer, 2048, learn="last_answer").examples:
        # mlx-lm counts targets from its offset on, one later than the first answer token.
        lengths = mx.array([[example.start, len(example.tokens) - 1]])
        loss, tokens = default_loss(model, mx.array([example.tokens]), lengths)
        total += loss.item() * tokens.item()
        count += tokens.item()
    happened = events(make_run(tiny_base, chats, tmp_path, iters=1, warmup=0))
    assert of(Evaluated, happened)[0].loss == pytest.approx(total / count, rel=1e-5)


def test_mlx_lm_loads_the_adapter_unchanged(tiny_base: Path, chats: Path, tmp_path: Path) -> None:
    from mlx_lm import load

    from tests.backends.mlx.data.reading import read_split

    run = make_run(tiny_base, chats, tmp_path, learning_rate=1e-2, iters=10, lora=EVERYTHING)
    finished = of(Finished, events(run))[0]
    import mlx.core as mx
    import mlx.nn as nn

    model, tokenizer = load(str(tiny_base), adapter_path=str(run.output))
    total = count = 0.0
    for example in read_split(chats / "test.jsonl", tokenizer, 2048, learn="last_answer").examples:
        tokens = mx.array([example.tokens])
        losses = nn.losses.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:])
        total += losses[0, example.start - 1 :].sum().item()
        count += len(example.tokens) - example.start
    assert finished.metrics["test_loss"] == pytest.approx(total / count, rel=1e-4)
    assert finished.metrics["test_loss"] < 0.9 * finished.metrics["base_test_loss"]


CHILD = """
import sys, json, time
from pathlib import Path
from backends.base import TrainingRun, TrainingConfig, Stepped
from backends.mlx import MLXBackend
from tests.backends.training_runs import chat, digest, events, make_run, of, run_and_close
base, data, folder = map(Path, sys.argv[1:4])
config = TrainingConfig.model_validate_json(sys.argv[4])
run = TrainingRun(base, data, folder / "output", folder / "checkpoints", config)
for event in MLXBackend().train(run):
    if isinstance(event, Stepped):
        print(event.iteration, flush=True)
"""


def _child(run: TrainingRun) -> subprocess.Popen[str]:
    arguments = [str(run.base), str(run.data), str(run.output.parent), run.config.model_dump_json()]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


@pytest.mark.usefixtures("lanes")
def test_a_run_killed_with_sigkill_ends_with_the_same_bytes(
    tiny_base: Path, chats: Path, tmp_path: Path
) -> None:
    whole = make_run(tiny_base, chats, tmp_path / "whole")
    events(whole)
    killed = make_run(tiny_base, chats, tmp_path / "killed")
    with _child(killed) as process:
        assert process.stdout
        for line in process.stdout:
            if int(line) == 5:
                process.send_signal(signal.SIGKILL)
                break
        process.stdout.read()
    assert process.returncode == -signal.SIGKILL
    assert events(killed)
    assert digest(killed) == digest(whole)


def test_divergence_names_its_iteration(tiny_base: Path, chats: Path, tmp_path: Path) -> None:
    bad = base_with_an_overflow(tiny_base, tmp_path)
    run = make_run(bad, chats, tmp_path, batch_size=2)
    with pytest.raises(TrainingDiverged, match=r"iteration 1, on train\.jsonl, lines ") as caught:
        events(run)
    named = [int(n) for n in re.findall(r"\d+", str(caught.value).partition("lines")[2])]
    assert named == batch_lines(run)
    assert not run.checkpoints.exists()


def batch_lines(run: TrainingRun) -> list[int]:
    """The lines of the first step's examples."""
    from backends.mlx.data import batching
    from backends.mlx.files.loading import open_model
    from tests.backends.mlx.data.reading import read_split

    _, tokenizer, _ = open_model(run.base)
    examples = read_split(run.data / "train.jsonl", tokenizer, 2048, "last_answer").examples
    order = batching.Order([example.length for example in examples], run.config)
    return sorted(examples[index].line for index in order.step(1))


def base_with_an_overflow(base: Path, folder: Path) -> Path:
    """A copy of `base` whose last norm overflows."""
    import shutil

    import mlx.core as mx

    bad = folder / "bad"
    shutil.copytree(base, bad)
    weights = mx.load(str(base / "model.safetensors"))
    weights["model.norm.weight"] = weights["model.norm.weight"] * 1e38
    mx.save_safetensors(str(bad / "model.safetensors"), weights)
    return bad


def test_adapting_the_top_layer_alone_leaves_the_others_out(
    tiny_base: Path, chats: Path, tmp_path: Path
) -> None:
    import mlx.core as mx

    run = make_run(tiny_base, chats, tmp_path, num_layers=1, iters=3, optimizer="adam")
    events(run)
    names: Iterator[str] = iter(mx.load(str(run.output / "adapters.safetensors")))
    assert {name.split(".")[2] for name in names} == {"1"}
