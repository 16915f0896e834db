from __future__ import annotations

import hashlib
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.base import (
    BackendError,
    Checkpointed,
    Evaluated,
    Evaluating,
    Finished,
    Sampled,
    Started,
    Stepped,
    TrainingDiverged,
    TrainingRun,
    UnsupportedModel,
)
from backends.mlx import MLXBackend
from tests.backends.build import (
    chat,
    digest,
    events,
    make_run,
    of,
    run_and_close,
    write_split,
)

pytestmark = pytest.mark.any_database

ROOT = Path(__file__).parents[4]


def test_a_run_reports_every_step_and_ends_with_an_adapter(
    tiny_base: Path, chats: Path, tmp_path: Path
) -> None:
    run = make_run(tiny_base, chats, tmp_path)
    happened = events(run)
    assert isinstance(happened[0], Started)
    assert happened[0].iteration == 0
    assert 0 < happened[0].trainable_parameters < happened[0].total_parameters
    steps = of(Stepped, happened)
    assert [step.iteration for step in steps] == list(range(1, 9))
    assert all(step.tokens > 0 and step.grad_norm > 0 for step in steps)
    assert [event.iteration for event in of(Checkpointed, happened)] == [2, 4, 6, 8]
    assert isinstance(happened[-1], Finished)
    assert {path.name for path in run.output.iterdir()} == {
        "adapters.safetensors",
        "adapter_config.json",
    }


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


def test_the_run_ends_with_the_best_weights_unless_told_otherwise(
    tiny_base: Path, chats: Path, tmp_path: Path
) -> None:
    """Words that training never shows become less likely the more it learns."""
    unseen = {"role": "assistant", "content": "quiet rivers carve deep valleys " * 8}
    values = [{"messages": [*chat(f"valid {n}")[:-1], unseen]} for n in range(3)]
    write_split(chats, "valid", values)
    settings = {"learning_rate": 1e-2, "schedule": "constant", "warmup": 0, "seed": 1}
    settings |= {"steps_per_eval": 1, "iters": 8, "patience": 2}
    best, last = (
        make_run(tiny_base, chats, tmp_path / str(on), restore_best=on, **settings)
        for on in (True, False)
    )
    happened = events(best)
    losses = {event.iteration: event.loss for event in of(Evaluated, happened) if event.adapter}
    valid = [event for event in of(Evaluated, happened) if event.adapter and event.split == "valid"]
    lowest = min(valid, key=lambda event: event.loss)
    metrics = of(Finished, happened)[0].metrics
    assert (metrics["best_iteration"], metrics["best_val_loss"]) == (lowest.iteration, lowest.loss)
    assert metrics["val_loss"] == pytest.approx(lowest.loss, rel=1e-5)
    assert lowest.iteration < max(losses)
    kept = best.checkpoints / f"{lowest.iteration:07}" / "adapters.safetensors"
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == digest(best)
    ended = of(Finished, events(last))[0].metrics
    assert ended["val_loss"] == valid[-1].loss > metrics["val_loss"]
    assert digest(last) != digest(best)


def test_patience_ends_a_run_that_gets_no_better(
    tiny_base: Path, chats: Path, tmp_path: Path
) -> None:
    settings = {"learning_rate": 1e-12, "steps_per_eval": 1, "iters": 50, "patience": 2}
    happened = events(make_run(tiny_base, chats, tmp_path, **settings))
    finished = of(Finished, happened)[0]
    assert of(Started, happened)[0].iters == 50
    assert finished.iteration == finished.metrics["best_iteration"] + 2 < 50
    assert of(Checkpointed, happened)[-1].iteration == finished.iteration


def test_the_model_is_asked_at_every_validation(
    tiny_base: Path, chats: Path, tmp_path: Path
) -> None:
    happened = events(make_run(tiny_base, chats, tmp_path, samples=2, sample_tokens=3, iters=4))
    samples = of(Sampled, happened)
    assert [(s.iteration, s.line) for s in samples] == [(0, 1), (0, 2), (4, 1), (4, 2)]
    assert samples[1].prompt == "valid 1 word "
    assert samples[1].expected == "VALID 1 WORD"
    assert all(len(sample.answer.split()) <= 3 for sample in samples)


def test_samples_are_what_generation_says(tiny_base: Path, chats: Path, tmp_path: Path) -> None:
    from mlx_lm import generate, load

    run = make_run(tiny_base, chats, tmp_path, samples=1, sample_tokens=8, learning_rate=1e-2)
    sample = of(Sampled, events(run))[-1]
    model, tokenizer = load(str(tiny_base), adapter_path=str(run.output))[:2]
    messages = chat("valid 0 ")[:-1]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    assert sample.answer == generate(model, tokenizer, prompt, max_tokens=8).strip()


def test_settings_of_samples_change_no_weight(tiny_base: Path, chats: Path, tmp_path: Path) -> None:
    quiet, asked = (make_run(tiny_base, chats, tmp_path / str(n), samples=n) for n in (0, 1))
    for run in (quiet, asked):
        events(run)
    assert digest(quiet) == digest(asked)


def test_a_closed_run_has_a_checkpoint_of_its_last_step(
    tiny_base: Path, chats: Path, tmp_path: Path
) -> None:
    run = make_run(tiny_base, chats, tmp_path, save_every=100)
    run_and_close(run, after=3)
    assert [path.name for path in run.checkpoints.iterdir()] == ["0000003"]
    assert not run.output.exists()


def test_a_run_closed_before_its_first_step_leaves_nothing(
    tiny_base: Path, chats: Path, tmp_path: Path
) -> None:
    run = make_run(tiny_base, chats, tmp_path)
    generator = MLXBackend().train(run)
    next(generator)
    generator.close()
    assert not run.checkpoints.exists()


def test_base_and_tuned_losses_are_measured_on_whole_splits(
    tiny_base: Path, chats: Path, tmp_path: Path
) -> None:
    happened = events(make_run(tiny_base, chats, tmp_path))
    measured = [(e.iteration, e.split, e.adapter) for e in of(Evaluated, happened)]
    assert measured == [
        (0, "valid", False),
        (0, "test", False),
        (4, "valid", True),
        (8, "valid", True),
        (8, "test", True),
    ]
    metrics = of(Finished, happened)[0].metrics
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["test_loss"]))
    assert metrics["val_loss"] < metrics["base_val_loss"]


def test_a_long_evaluation_shows_that_it_goes_on_and_can_be_left(
    tiny_base: Path, chats: Path, tmp_path: Path
) -> None:
    """Left between two batches of a validation, a run ends with the same bytes as any other."""
    write_split(chats, "valid", [{"messages": chat(f"valid {n}")} for n in range(40)])
    whole, left = (make_run(tiny_base, chats, tmp_path / name) for name in ("whole", "left"))
    happened = events(whole)
    told = [(e.iteration, e.done, e.total) for e in of(Evaluating, happened)]
    total = told[0][2]
    assert total > 2
    assert told == [(n, done, total) for n in (0, 4, 8) for done in range(1, total)]
    generator = MLXBackend().train(left)
    next(e for e in generator if isinstance(e, Evaluating) and e.iteration == 4)
    generator.close()
    resumed = events(left)
    assert of(Started, resumed)[0].iteration == 4
    assert [e.iteration for e in of(Evaluated, resumed)] == [4, 8, 8]
    assert of(Finished, resumed)[0] == of(Finished, happened)[0]
    assert digest(left) == digest(whole)


def test_the_reported_loss_is_mlx_lms_own(tiny_base: Path, chats: Path, tmp_path: Path) -> None:
    """Masking, padding and the fast arithmetic agree with mlx-lm's loss on the same tokens."""
    import mlx.core as mx
    from mlx_lm import load
    from mlx_lm.tuner.trainer import default_loss

    from backends.mlx.data.examples import read_split

    model, tokenizer = load(str(tiny_base))
    total = count = 0.0
    for example in read_split(chats / "valid.jsonl", tokenizer, 2048, mask_prompt=True).examples:
        # mlx-lm counts targets from its offset on, one later than the first answer token.
        lengths = mx.array([[example.start, len(example.tokens) - 1]])
        loss, tokens = default_loss(model, mx.array([example.tokens]), lengths)
        total += loss.item() * tokens.item()
        count += tokens.item()
    happened = events(make_run(tiny_base, chats, tmp_path, iters=1, warmup=0))
    assert of(Evaluated, happened)[0].loss == pytest.approx(total / count, rel=1e-5)


def test_mlx_lm_loads_the_adapter_unchanged(tiny_base: Path, chats: Path, tmp_path: Path) -> None:
    from mlx_lm import load

    from backends.mlx.data.examples import read_split

    run = make_run(tiny_base, chats, tmp_path, learning_rate=1e-2, iters=20)
    finished = of(Finished, events(run))[0]
    import mlx.core as mx
    import mlx.nn as nn

    model, tokenizer = load(str(tiny_base), adapter_path=str(run.output))
    total = count = 0.0
    for example in read_split(chats / "test.jsonl", tokenizer, 2048, mask_prompt=True).examples:
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
from tests.backends.build import chat, digest, events, make_run, of, run_and_close
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


def test_a_damaged_checkpoint_is_passed_over(tiny_base: Path, chats: Path, tmp_path: Path) -> None:
    run = make_run(tiny_base, chats, tmp_path)
    events(run)
    expected = digest(run)
    newest = run.checkpoints / "0000008" / "optimizer.safetensors"
    newest.write_bytes(newest.read_bytes()[:-10])
    again = events(run)
    assert of(Started, again)[0].iteration == 6
    assert digest(run) == expected


def test_checkpoints_of_another_run_are_refused(
    tiny_base: Path, chats: Path, tmp_path: Path
) -> None:
    events(make_run(tiny_base, chats, tmp_path))
    with pytest.raises(BackendError, match="other settings"):
        events(make_run(tiny_base, chats, tmp_path, seed=8))


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
    from backends.mlx.data import examples as data
    from backends.mlx.training.loading import load_base

    _, tokenizer = load_base(run.base)
    examples = data.read_split(run.data / "train.jsonl", tokenizer, 2048, True).examples
    batches = batching.step_batches([e.length for e in examples], run.config, 1)
    return sorted(examples[index].line for batch in batches for index in batch)


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


def test_a_folder_with_code_is_refused(tiny_base: Path, chats: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "evil"
    shutil.copytree(tiny_base, folder)
    (folder / "model.py").write_text("print('hello')")
    with pytest.raises(UnsupportedModel, match=r"model\.py"):
        events(make_run(folder, chats, tmp_path))


def test_a_batch_larger_than_the_data_set_works(
    tiny_base: Path, chats: Path, tmp_path: Path
) -> None:
    happened = events(make_run(tiny_base, chats, tmp_path, batch_size=64, iters=2, warmup=0))
    assert len(of(Stepped, happened)) == 2


def test_adapting_the_top_layer_alone_leaves_the_others_out(
    tiny_base: Path, chats: Path, tmp_path: Path
) -> None:
    import mlx.core as mx

    run = make_run(tiny_base, chats, tmp_path, num_layers=1, iters=3, optimizer="adam")
    events(run)
    names: Iterator[str] = iter(mx.load(str(run.output / "adapters.safetensors")))
    assert {name.split(".")[2] for name in names} == {"1"}
