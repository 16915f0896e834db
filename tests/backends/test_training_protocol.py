"""What every backend promises about training, asked of the fake and of MLX alike."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from backends import get_backend
from backends.base import (
    Backend,
    BackendError,
    BadExample,
    Checkpointed,
    Evaluated,
    Evaluating,
    Finished,
    Sampled,
    Started,
    Stepped,
    TrainingEvent,
    TrainingRun,
    UnsupportedModel,
)
from backends.schedule import learning_rate
from tests.backends import training_runs
from tests.backends.training_runs import chat, digest, of, write_labelled, write_split

pytestmark = pytest.mark.any_database


@dataclass(frozen=True)
class Trainer:
    """A backend with a small base model and a folder for its runs."""

    backend: Backend
    base: Path
    folder: Path

    def make_run(self, data: Path, name: str = "run", **overrides: Any) -> TrainingRun:
        return training_runs.make_run(self.base, data, self.folder / name, **overrides)

    def events(self, run: TrainingRun) -> list[TrainingEvent]:
        return training_runs.events(run, self.backend)

    def close_at(
        self, run: TrainingRun, kind: type[TrainingEvent], iteration: int
    ) -> list[TrainingEvent]:
        """Drive `run` up to the first event of a kind at `iteration`, then close it."""
        generator, seen = self.backend.train(run), []
        for event in generator:
            seen.append(event)
            if isinstance(event, kind) and event.iteration == iteration:
                break
        generator.close()
        return seen

    def close_after(self, run: TrainingRun, iteration: int) -> None:
        training_runs.run_and_close(run, iteration, self.backend)


@pytest.fixture(params=["fake", "mlx"])
def trainer(request: pytest.FixtureRequest, tmp_path: Path) -> Trainer:
    base = {"fake": "fake_base", "mlx": "tiny_base"}[request.param]
    return Trainer(get_backend(request.param), request.getfixturevalue(base), tmp_path)


def finished(events: list[TrainingEvent]) -> Finished:
    """The last event, which must be the end."""
    assert isinstance(events[-1], Finished)
    return events[-1]


def checkpoints(run: TrainingRun) -> list[int]:
    return sorted(int(path.name) for path in run.checkpoints.iterdir())


# ---------------------------------------------------------------- order and fields of events


def test_events_come_in_this_order(trainer: Trainer, chats: Path) -> None:
    run = trainer.make_run(chats, iters=6, steps_per_eval=3, save_every=2, samples=1)
    assert [(type(event), event.iteration) for event in trainer.events(run)] == [
        (Started, 0),
        (Evaluated, 0),
        (Evaluated, 0),
        (Sampled, 0),
        (Stepped, 1),
        (Stepped, 2),
        (Checkpointed, 2),
        (Stepped, 3),
        (Evaluated, 3),
        (Sampled, 3),
        (Checkpointed, 3),  # the best so far
        (Stepped, 4),
        (Checkpointed, 4),
        (Stepped, 5),
        (Stepped, 6),
        (Evaluated, 6),
        (Sampled, 6),
        (Checkpointed, 6),
        (Evaluated, 6),
        (Finished, 6),
    ]


def test_the_base_is_measured_before_the_adapter(trainer: Trainer, chats: Path) -> None:
    happened = trainer.events(trainer.make_run(chats))
    assert [(e.iteration, e.split, e.adapter) for e in of(Evaluated, happened)] == [
        (0, "valid", False),
        (0, "test", False),
        (4, "valid", True),
        (8, "valid", True),
        (8, "test", True),
    ]
    metrics = finished(happened).metrics
    base, tuned = (
        [e.loss for e in of(Evaluated, happened) if e.adapter is adapter]
        for adapter in (False, True)
    )
    assert base == [metrics["base_val_loss"], metrics["base_test_loss"]]
    assert tuned[1:] == [metrics["val_loss"], metrics["test_loss"]]
    assert metrics["val_loss"] < metrics["base_val_loss"]


def test_the_figures_of_a_step_are_plausible(trainer: Trainer, chats: Path) -> None:
    run = trainer.make_run(chats)
    happened = trainer.events(run)
    started = of(Started, happened)[0]
    assert started.iters == 8
    assert 0 < started.trainable_parameters < started.total_parameters
    for step in of(Stepped, happened):
        assert step.learning_rate == learning_rate(run.config, step.iteration)
        assert math.isfinite(step.train_loss)
        assert min(step.train_loss, step.grad_norm, step.tokens, step.tokens_per_second) > 0
        assert step.peak_memory_bytes > 0
    assert finished(happened).metrics["train_loss"] == of(Stepped, happened)[-1].train_loss


def test_a_finished_run_has_these_metrics(trainer: Trainer, chats: Path) -> None:
    metrics = finished(trainer.events(trainer.make_run(chats))).metrics
    assert set(metrics) == {
        "train_loss",
        *("val_loss", "best_val_loss", "best_iteration", "base_val_loss"),
        *("test_loss", "perplexity", "base_test_loss", "base_perplexity"),
        *(f"{split}_{cut}" for split in training_runs.SPLITS for cut in ("truncated", "dropped")),
    }
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["test_loss"]))
    assert metrics["base_perplexity"] == pytest.approx(math.exp(metrics["base_test_loss"]))


def test_preferences_add_margin_and_accuracy(trainer: Trainer, preferences: Path) -> None:
    run = trainer.make_run(preferences, objective="dpo", learning_rate=1e-2)
    metrics = finished(trainer.events(run)).metrics
    for name in ("val", "test", "base_val", "base_test"):
        assert {f"{name}_loss", f"{name}_margin", f"{name}_accuracy"} <= set(metrics)
    assert metrics["val_margin"] > metrics["base_val_margin"]


@pytest.mark.parametrize("data", ["labelled", "preferences"])
def test_kto_learns_from_labelled_answers_and_from_pairs(
    trainer: Trainer, preferences: Path, tmp_path: Path, data: str
) -> None:
    folder = preferences if data == "preferences" else write_labelled(tmp_path / "labelled")
    run = trainer.make_run(folder, objective="kto", learning_rate=1e-2, samples=4)
    happened = trainer.events(run)
    metrics = finished(happened).metrics
    assert metrics["val_margin"] > metrics["base_val_margin"]
    assert {sample.line for sample in of(Sampled, happened)} <= {1, 2, 3, 4}


def test_sft_learns_the_good_ones_of_labelled_answers(trainer: Trainer, tmp_path: Path) -> None:
    folder = write_labelled(tmp_path / "labelled")
    settings = {"epochs": 1, "batch_size": 4, "warmup": 0}
    started = of(Started, trainer.events(trainer.make_run(folder, "sft", **settings)))[0]
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    good = sum(row["label"] for row in rows)
    assert 0 < good < len(rows)
    assert started.iters == -(-good // 4)


def test_sft_refuses_pairs(trainer: Trainer, preferences: Path) -> None:
    with pytest.raises(BadExample, match="use the objective"):
        trainer.events(trainer.make_run(preferences, "sft"))


def test_both_answers_of_a_pair_are_examples_of_kto(trainer: Trainer, preferences: Path) -> None:
    settings = {"objective": "kto", "epochs": 1, "batch_size": 8, "warmup": 0}
    run = trainer.make_run(preferences, **settings)  # 12 pairs
    assert of(Started, trainer.events(run))[0].iters == 3


def test_a_label_that_is_none_is_refused(trainer: Trainer, tmp_path: Path) -> None:
    folder = write_labelled(tmp_path / "labelled")
    write_split(folder, "train", [{"prompt": "x", "completion": "y", "label": "good"}] * 4)
    with pytest.raises(BadExample, match=r"train\.jsonl, line 1: .*a \"label\" of true or false"):
        trainer.events(trainer.make_run(folder, objective="kto"))


def test_without_a_test_split_nothing_is_said_of_it(trainer: Trainer, chats: Path) -> None:
    (chats / "test.jsonl").unlink()
    happened = trainer.events(trainer.make_run(chats))
    assert all(event.split == "valid" for event in of(Evaluated, happened))
    assert not [n for n in finished(happened).metrics if "test" in n or "perplexity" in n]


def test_a_long_evaluation_reports_its_progress(trainer: Trainer, chats: Path) -> None:
    write_split(chats, "valid", [{"messages": chat(f"valid {n}")} for n in range(40)])
    happened = trainer.events(trainer.make_run(chats, restore_best=False))
    reported = [(e.iteration, e.split, e.done, e.total) for e in of(Evaluating, happened)]
    total = reported[0][-1]
    assert total > 2
    assert reported == [(n, "valid", done, total) for n in (0, 4, 8) for done in range(1, total)]


def test_a_loss_is_measured_on_as_many_examples_as_are_wanted(
    trainer: Trainer, chats: Path
) -> None:
    write_split(chats, "valid", [{"messages": chat(f"valid {n}")} for n in range(40)])
    write_split(chats, "test", [{"messages": chat(f"test {n}")} for n in range(10)])
    started, *happened = trainer.events(trainer.make_run(chats, iters=4, eval_examples=20))
    assert isinstance(started, Started)
    assert started.notes == ("The loss of valid is measured on 20 of its 40 examples.",)
    reported = {(e.split, e.total) for e in of(Evaluating, happened)}
    assert reported == {("valid", 2)}  # batches of 16, and one batch is not worth a report
    # Every second one, from the first to the last but one.
    write_split(chats, "valid", [{"messages": chat(f"valid {n}")} for n in range(0, 40, 2)])
    *_, same = trainer.events(trainer.make_run(chats, "same", iters=4, eval_examples=0))
    assert happened[-1] == same


def test_samples_are_taken_at_every_validation(trainer: Trainer, chats: Path) -> None:
    happened = trainer.events(trainer.make_run(chats, samples=2, sample_tokens=3, iters=4))
    samples = of(Sampled, happened)
    assert [(s.iteration, s.line) for s in samples] == [(0, 1), (0, 2), (4, 1), (4, 2)]
    assert samples[1].prompt == "valid 1 word "
    assert samples[1].expected == "VALID 1 WORD"
    assert all(len(sample.answer.split()) <= 3 for sample in samples)


# ---------------------------------------------------------------- what is due when


def test_validations_come_at_their_steps_and_at_the_end(trainer: Trainer, chats: Path) -> None:
    happened = trainer.events(trainer.make_run(chats, iters=7, steps_per_eval=3))
    valid = [e.iteration for e in of(Evaluated, happened) if e.adapter and e.split == "valid"]
    assert valid == [3, 6, 7]


def test_checkpoints_come_at_their_steps_at_the_best_and_at_the_end(
    trainer: Trainer, chats: Path
) -> None:
    happened = trainer.events(trainer.make_run(chats, iters=7, steps_per_eval=2, save_every=3))
    best, lowest = set(), math.inf
    for event in of(Evaluated, happened):
        if event.adapter and event.split == "valid" and event.loss < lowest:
            best.add(event.iteration)
            lowest = event.loss
    saved = [event.iteration for event in of(Checkpointed, happened)]
    assert saved == sorted({3, 6, 7} | best)


def test_the_last_checkpoints_and_the_best_are_kept(trainer: Trainer, chats: Path) -> None:
    run = trainer.make_run(chats, iters=12, save_every=1, keep_checkpoints=3)
    best = finished(trainer.events(run)).metrics["best_iteration"]
    assert checkpoints(run) == sorted({10, 11, 12, int(best)})


def test_patience_ends_a_run_that_gets_no_better(trainer: Trainer, chats: Path) -> None:
    settings = {"learning_rate": 1e-12, "steps_per_eval": 1, "iters": 50, "patience": 2}
    happened = trainer.events(trainer.make_run(chats, **settings))
    end = finished(happened)
    assert of(Started, happened)[0].iters == 50
    assert end.iteration == end.metrics["best_iteration"] + 2 < 50
    assert of(Checkpointed, happened)[-1].iteration == end.iteration


OVERTRAINED = {"learning_rate": 1e-2, "schedule": "constant", "warmup": 0, "seed": 1}
OVERTRAINED |= {"steps_per_eval": 1, "iters": 60, "patience": 2}


def unlike_training(data: Path) -> None:
    """Validation answers of words that training never shows: the more it learns, the less likely
    they become."""
    unseen = {"role": "assistant", "content": "quiet rivers carve deep valleys " * 8}
    values = [{"messages": [*chat(f"valid {n}")[:-1], unseen]} for n in range(3)]
    write_split(data, "valid", values)


def test_a_run_ends_with_its_best_weights_by_default(trainer: Trainer, chats: Path) -> None:
    unlike_training(chats)
    run = trainer.make_run(chats, **OVERTRAINED)
    happened = trainer.events(run)
    valid = [e for e in of(Evaluated, happened) if e.adapter and e.split == "valid"]
    lowest = min(valid, key=lambda event: event.loss)
    end = finished(happened)
    assert lowest.iteration == end.iteration - 2
    assert end.metrics["best_iteration"] == lowest.iteration
    assert end.metrics["best_val_loss"] == lowest.loss
    assert end.metrics["val_loss"] == pytest.approx(lowest.loss, rel=1e-5)
    kept = run.checkpoints / f"{lowest.iteration:07}" / "adapters.safetensors"
    assert kept.read_bytes() == (run.output / "adapters.safetensors").read_bytes()


def test_a_run_ends_with_its_last_weights_where_the_best_are_not_wanted(
    trainer: Trainer, chats: Path
) -> None:
    unlike_training(chats)
    run = trainer.make_run(chats, restore_best=False, **OVERTRAINED)
    end = finished(trainer.events(run))
    assert end.metrics["val_loss"] > end.metrics["best_val_loss"]
    kept = run.checkpoints / f"{end.iteration:07}" / "adapters.safetensors"
    assert kept.read_bytes() == (run.output / "adapters.safetensors").read_bytes()


def test_epochs_become_steps(trainer: Trainer, chats: Path) -> None:
    """13 examples, four a step: an epoch has four steps. The warm-up ends before the run does."""
    run = trainer.make_run(chats, epochs=1.5, batch_size=2, grad_accumulation_steps=2, warmup=100)
    happened = trainer.events(run)
    assert of(Started, happened)[0].iters == finished(happened).iteration == 6
    rates = [step.learning_rate for step in of(Stepped, happened)]
    assert rates == sorted(rates)


def test_every_example_is_seen_once_an_epoch(trainer: Trainer, chats: Path) -> None:
    happened = trainer.events(trainer.make_run(chats, iters=8))
    tokens = [step.tokens for step in of(Stepped, happened)]
    assert sum(tokens[:4]) == sum(tokens[4:])


def learned(trainer: Trainer, data: Path, name: str, **settings: Any) -> list[int]:
    """The learned tokens of each step."""
    run = trainer.make_run(data, name, iters=3, **settings)
    return [step.tokens for step in of(Stepped, trainer.events(run))]


def test_prompts_are_learned_only_by_everything(trainer: Trainer, chats: Path) -> None:
    """These chats have one answer each, so the last one is all of them."""
    answers, last, whole = (
        learned(trainer, chats, learn, learn=learn)
        for learn in ("answers", "last_answer", "everything")
    )
    assert answers == last
    assert all(few < many for few, many in zip(answers, whole, strict=True))


def test_mask_prompt_is_the_old_name_of_learn(trainer: Trainer, chats: Path) -> None:
    for masked, learn in ((True, "last_answer"), (False, "everything")):
        old = learned(trainer, chats, f"old {masked}", mask_prompt=masked)
        assert old == learned(trainer, chats, f"new {masked}", learn=learn)


def write_turns(folder: Path, weights: tuple[int | None, int | None]) -> Path:
    """Chats of two turns whose answers have these weights."""
    turns = []
    for n in range(8):
        messages: list[dict[str, Any]] = []
        for turn, weight in enumerate(weights):
            messages += [
                {"role": "user", "content": f"Repeat {n} {turn}"},
                {"role": "assistant", "content": f"Again {n} {turn}"}
                | ({} if weight is None else {"weight": weight}),
            ]
        turns.append({"messages": messages})
    for split in ("train", "valid"):
        write_split(folder, split, turns)
    return folder


def test_all_answers_of_a_chat_are_learned_unless_only_the_last_is_wanted(
    trainer: Trainer, tmp_path: Path
) -> None:
    data = write_turns(tmp_path / "turns", (None, None))
    answers, last, whole = (
        learned(trainer, data, learn, learn=learn)
        for learn in ("answers", "last_answer", "everything")
    )
    assert learned(trainer, data, "default") == answers
    assert answers == [2 * few for few in last]  # both are equally long
    assert all(few < many for few, many in zip(answers, whole, strict=True))


def test_an_answer_of_weight_0_is_not_learned_but_by_everything_which_says_so(
    trainer: Trainer, tmp_path: Path
) -> None:
    bare = write_turns(tmp_path / "bare", (None, None))
    first = write_turns(tmp_path / "first", (0, 1))
    last = write_turns(tmp_path / "last", (1, 0))
    one = learned(trainer, bare, "one", learn="last_answer")
    assert learned(trainer, first, "a") == learned(trainer, last, "b") == one
    assert learned(trainer, first, "c", learn="last_answer") == one
    with pytest.raises(BadExample, match="weight 0"):
        trainer.events(trainer.make_run(last, "d", learn="last_answer"))
    whole = trainer.events(trainer.make_run(last, "e", learn="everything"))
    assert [step.tokens for step in of(Stepped, whole)][:3] == learned(
        trainer, bare, "f", learn="everything"
    )
    assert of(Started, whole)[0].notes == tuple(
        f"In {split}, 8 answers of weight 0 are learned all the same: the setting learn is "
        "everything, which ignores weights."
        for split in ("train", "valid")
    )


def test_thoughts_are_learned_masked_or_left_out(trainer: Trainer, tmp_path: Path) -> None:
    """Fields and marks within the text are the same."""
    for name, answer in {
        "beside": {"content": "Four it is", "reasoning_content": "Two and two"},
        "within": {"content": "<think>\nTwo and two\n</think>\n\nFour it is"},
        "none": {"content": "Four it is"},
    }.items():
        messages = [*chat("Add")[:-1], {"role": "assistant", **answer}]
        for split in ("train", "valid"):
            write_split(tmp_path / name, split, [{"messages": messages}] * 8)

    def found(name: str, mode: str) -> list[int]:
        return learned(trainer, tmp_path / name, f"{name} {mode}", thoughts=mode)

    bare = found("none", "kept")
    for name in ("beside", "within"):
        kept, masked, dropped = (found(name, mode) for mode in ("kept", "masked", "dropped"))
        assert dropped == bare
        assert masked == bare
        assert all(many > few for many, few in zip(kept, bare, strict=True))
    assert found("beside", "kept") == found("within", "kept")
    assert found("beside", "as_written") == bare


def test_an_answer_that_is_not_learned_as_asked_is_told_with_its_reason(
    trainer: Trainer, tmp_path: Path
) -> None:
    for split in ("train", "valid"):
        empty = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": ""}]
        write_split(tmp_path / "data", split, [{"messages": empty + chat("Hello")[1:]}])
    run = trainer.make_run(tmp_path / "data", iters=1, warmup=0)
    assert of(Started, trainer.events(run))[0].notes == (
        "In train, 1 answer is not learned: the answer is empty.",
        "In valid, 1 answer is not learned: the answer is empty.",
    )
    run = trainer.make_run(tmp_path / "data", "last", iters=1, warmup=0, learn="last_answer")
    assert of(Started, trainer.events(run))[0].notes == ()


def test_a_batch_may_be_larger_than_the_data_set(trainer: Trainer, chats: Path) -> None:
    happened = trainer.events(trainer.make_run(chats, batch_size=64, iters=2, warmup=0))
    first, second = of(Stepped, happened)
    assert first.tokens == second.tokens


# ---------------------------------------------------------------- files


def test_the_adapter_is_the_only_thing_in_the_output(trainer: Trainer, chats: Path) -> None:
    run = trainer.make_run(chats, lora={"rank": 2, "keys": ["self_attn.q_proj"]})
    trainer.events(run)
    names = {path.name for path in run.output.iterdir()}
    assert names == {"adapters.safetensors", "adapter_config.json"}
    assert json.loads((run.output / "adapter_config.json").read_text()) == {
        "fine_tune_type": "lora",
        "num_layers": -1,
        "lora_parameters": {
            "rank": 2,
            "scale": 20.0,
            "dropout": 0.0,
            "keys": ["self_attn.q_proj"],
        },
    }


def test_a_checkpoint_is_a_folder_with_adapter_and_state(trainer: Trainer, chats: Path) -> None:
    happened = trainer.events(run := trainer.make_run(chats))
    for event in of(Checkpointed, happened):
        assert event.path == run.checkpoints / f"{event.iteration:07}"
    newest = of(Checkpointed, happened)[-1].path
    assert {"adapters.safetensors", "state.json"} <= {path.name for path in newest.iterdir()}
    assert json.loads((newest / "state.json").read_text())["iteration"] == 8


def test_the_same_run_gives_the_same_bytes_and_another_seed_others(
    trainer: Trainer, chats: Path
) -> None:
    runs = [trainer.make_run(chats, name, seed=seed) for name, seed in (("a", 1), ("b", 1))]
    runs.append(trainer.make_run(chats, "c", seed=2))
    for run in runs:
        trainer.events(run)
    first, second, other = map(digest, runs)
    assert first == second
    assert first != other


# ---------------------------------------------------------------- stopping and resuming


def test_a_closed_run_resumes_and_ends_alike(trainer: Trainer, chats: Path) -> None:
    whole, cut = (trainer.make_run(chats, name, save_every=3) for name in ("whole", "cut"))
    happened = trainer.events(whole)
    for iteration in (1, 3, 4, 8):
        trainer.close_after(cut, iteration)
        assert checkpoints(cut)[-1] == iteration
        assert not cut.output.exists()
    resumed = trainer.events(cut)
    assert of(Started, resumed)[0] == replace(of(Started, happened)[0], iteration=8)
    assert resumed[-1] == happened[-1]
    assert digest(cut) == digest(whole)


def test_a_run_may_be_closed_at_any_event(trainer: Trainer, chats: Path) -> None:
    """What is due after a step is neither lost nor done twice."""
    write_split(chats, "valid", [{"messages": chat(f"valid {n}")} for n in range(20)])
    settings = {"iters": 10, "steps_per_eval": 2, "save_every": 4, "samples": 1}
    whole, cut = (trainer.make_run(chats, name, **settings) for name in ("whole", "cut"))
    happened = trainer.events(whole)
    seen: list[TrainingEvent] = []
    for kind, iteration in ((Evaluating, 2), (Evaluated, 4), (Sampled, 6), (Checkpointed, 8)):
        seen += trainer.close_at(cut, kind, iteration)
        assert checkpoints(cut)[-1] == iteration
    seen += trainer.events(cut)
    assert [event.iteration for event in of(Started, seen)] == [0, 2, 4, 6, 8]
    valid = [e.iteration for e in of(Evaluated, seen) if e.adapter and e.split == "valid"]
    assert valid == [2, 4, 6, 8, 10]
    assert of(Stepped, seen) == [
        replace(
            step,
            tokens_per_second=again.tokens_per_second,
            peak_memory_bytes=again.peak_memory_bytes,
        )
        for step, again in zip(of(Stepped, happened), of(Stepped, seen), strict=True)
    ]
    assert seen[-1] == happened[-1]
    assert digest(cut) == digest(whole)


def test_a_finished_run_ends_alike_without_another_step(trainer: Trainer, chats: Path) -> None:
    run = trainer.make_run(chats)
    happened = trainer.events(run)
    again = trainer.events(run)
    assert not of(Stepped, again)
    assert again[-1] == happened[-1]


def test_a_run_closed_before_its_first_step_leaves_nothing(trainer: Trainer, chats: Path) -> None:
    run = trainer.make_run(chats)
    trainer.close_at(run, Started, 0)
    assert not run.checkpoints.exists()
    assert not run.output.exists()


def test_a_damaged_checkpoint_is_skipped(trainer: Trainer, chats: Path) -> None:
    run = trainer.make_run(chats)
    trainer.events(run)
    expected = digest(run)
    newest = run.checkpoints / "0000008" / "adapters.safetensors"
    newest.write_bytes(newest.read_bytes()[:-10])
    again = trainer.events(run)
    assert of(Started, again)[0].iteration == 6
    assert digest(run) == expected


def test_a_half_written_checkpoint_is_ignored_and_removed(trainer: Trainer, chats: Path) -> None:
    run = trainer.make_run(chats)
    (run.checkpoints / ".staging-0000002").mkdir(parents=True)
    assert of(Started, trainer.events(run))[0].iteration == 0
    assert not list(run.checkpoints.glob(".*"))


@pytest.mark.parametrize("change", ["config", "data"])
def test_checkpoints_of_another_run_are_refused(trainer: Trainer, chats: Path, change: str) -> None:
    trainer.events(trainer.make_run(chats))
    if change == "data":
        write_split(chats, "train", [{"messages": chat("another")}])
    with pytest.raises(BackendError, match="other settings, data or base model"):
        trainer.events(trainer.make_run(chats, seed=8 if change == "config" else 7))


def test_settings_without_effect_on_the_weights_may_change(trainer: Trainer, chats: Path) -> None:
    trainer.close_after(trainer.make_run(chats), 3)
    again = trainer.events(trainer.make_run(chats, samples=1, sample_tokens=2))
    assert of(Started, again)[0].iteration == 3
    assert of(Sampled, again)


def test_samples_change_no_weight(trainer: Trainer, chats: Path) -> None:
    quiet, asked = (trainer.make_run(chats, str(n), samples=n) for n in (0, 1))
    for run in (quiet, asked):
        trainer.events(run)
    assert digest(quiet) == digest(asked)


# ---------------------------------------------------------------- what is refused


def refused(trainer: Trainer, run: TrainingRun) -> str:
    """The sentence with which the run is refused before it begins."""
    generator = trainer.backend.train(run)
    with pytest.raises(BadExample) as caught:
        next(generator)
    assert not run.output.exists()
    assert not run.checkpoints.exists()
    return str(caught.value)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_missing_split_is_named(trainer: Trainer, chats: Path, split: str) -> None:
    (chats / f"{split}.jsonl").unlink()
    assert f"no {split}.jsonl" in refused(trainer, trainer.make_run(chats))


@pytest.mark.parametrize("split", ["train", "valid", "test"])
@pytest.mark.parametrize("content", [b"", b"\n \n", b'{"text": "caf\xe9"}\n'])
def test_a_split_without_examples_or_text_is_named(
    trainer: Trainer, chats: Path, split: str, content: bytes
) -> None:
    (chats / f"{split}.jsonl").write_bytes(content)
    sentence = refused(trainer, trainer.make_run(chats))
    assert sentence.startswith(f"{split}.jsonl ")
    assert ("UTF-8" if b"caf" in content else "it is empty") in sentence


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"speech": 1}',
        '{"text": 1}',
        '{"prompt": "no completion"}',
        '{"prompt": "empty", "completion": " "}',
        '{"messages": [{"role": "assistant", "content": "alone"}]}',
        '{"messages": [{"role": "user", "content": 1}, {"role": "assistant", "content": "x"}]}',
        '{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}',
        '{"prompt": "a", "chosen": "b", "rejected": "c"}',
    ],
)
def test_an_example_that_cannot_be_learned_is_named(
    trainer: Trainer, chats: Path, line: str
) -> None:
    """By file and line; empty lines count."""
    (chats / "valid.jsonl").write_text(f'{{"text": "fine"}}\n\n{line}\n')
    assert refused(trainer, trainer.make_run(chats)).startswith("valid.jsonl, line 3: ")


@pytest.mark.parametrize(
    "line",
    [
        '{"prompt": "a", "completion": "b"}',
        '{"prompt": "a", "chosen": "b"}',
        '{"prompt": "a", "chosen": "b", "rejected": "b"}',
        '{"prompt": "a", "chosen": "b", "rejected": " "}',
    ],
)
def test_a_preference_that_cannot_be_learned_is_named(
    trainer: Trainer, preferences: Path, line: str
) -> None:
    (preferences / "train.jsonl").write_text(f"{line}\n")
    run = trainer.make_run(preferences, objective="orpo")
    assert refused(trainer, run).startswith("train.jsonl, line 1: ")


def test_examples_beyond_the_limit_are_counted(trainer: Trainer, chats: Path) -> None:
    """One whose answer is cut, one without any room for its answer."""
    cut = [*chat("short")[:-1], {"role": "assistant", "content": "word " * 200}]
    values = [{"messages": messages} for messages in (cut, chat("word " * 200))]
    write_split(chats, "valid", values)
    happened = trainer.events(trainer.make_run(chats, max_seq_length=100, iters=3))
    metrics = finished(happened).metrics
    assert (metrics["valid_truncated"], metrics["valid_dropped"]) == (2, 1)
    assert metrics["train_truncated"] == metrics["train_dropped"] == 0


def test_a_split_of_which_nothing_fits_is_refused(trainer: Trainer, chats: Path) -> None:
    write_split(chats, "train", [{"messages": chat("word " * 200)}])
    sentence = refused(trainer, trainer.make_run(chats, max_seq_length=100))
    assert sentence.startswith("train.jsonl has no usable example within max_seq_length")


def test_a_folder_with_code_is_refused(trainer: Trainer, chats: Path) -> None:
    import shutil

    folder = trainer.folder / "with-code"
    shutil.copytree(trainer.base, folder)
    (folder / "model.py").write_text("print('hello')")
    run = training_runs.make_run(folder, chats, trainer.folder)
    with pytest.raises(UnsupportedModel):
        trainer.events(run)
