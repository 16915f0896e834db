"""What only the MLX backend's generation promises."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import mlx.core as mx
import mlx_lm
import pytest

from backends.base import BackendError, Delta, Grammar, LoadedModel, Sampling, UnsupportedModel
from backends.mlx.sampling.grammar import _llguidance_tokenizer
from backends.mlx.sampling.sampler import greedy, make_sampler
from backends.mlx.serving.adapters import AdapterRows, Mixed
from backends.mlx.serving.generation import MLXModel, load_model

PROMPT = list(range(100, 120))
LONG = [7] * 2000  # is read in four steps at least


def drain(model: LoadedModel) -> dict[str, list[Delta]]:
    """Step until every row has ended; deltas by row."""
    seen: dict[str, list[Delta]] = {}
    idle = 0
    while idle < 3:
        deltas = model.step()
        idle = 0 if deltas else idle + 1
        for delta in deltas:
            seen.setdefault(delta.uid, []).append(delta)
    return seen


def write_adapter(folder: Path, rank: int, scale: float, layers: int, seed: int) -> Path:
    """A random adapter over all projections of the tiny model's last `layers` layers."""
    sizes = {
        "self_attn.q_proj": (64, 64),
        "self_attn.k_proj": (64, 32),
        "self_attn.v_proj": (64, 32),
        "self_attn.o_proj": (64, 64),
        "mlp.gate_proj": (64, 128),
        "mlp.up_proj": (64, 128),
        "mlp.down_proj": (128, 64),
    }
    key = mx.random.key(seed)
    weights = {}
    for layer in range(2 - layers, 2):
        for name, (inputs, outputs) in sizes.items():
            key, draw_a, draw_b = mx.random.split(key, 3)
            path = f"model.layers.{layer}.{name}"
            weights[f"{path}.lora_a"] = 0.3 * mx.random.normal((inputs, rank), key=draw_a)
            weights[f"{path}.lora_b"] = 0.3 * mx.random.normal((rank, outputs), key=draw_b)
    folder.mkdir()
    mx.save_safetensors(str(folder / "adapters.safetensors"), weights)
    write_config(folder, num_layers=layers, rank=rank, scale=scale)
    return folder


def write_config(
    folder: Path, kind: str = "lora", num_layers: int = 2, rank: int = 4, scale: float = 1.0
) -> None:
    parameters = {"rank": rank, "scale": scale, "dropout": 0.0}
    config = {"fine_tune_type": kind, "num_layers": num_layers, "lora_parameters": parameters}
    (folder / "adapter_config.json").write_text(json.dumps(config))


@pytest.fixture
def model(tiny_base: Path) -> Iterator[MLXModel]:
    loaded = load_model(tiny_base)
    assert isinstance(loaded, MLXModel)
    yield loaded
    loaded.close()


def reference(base: Path, adapter: Path | None, tokens: int) -> list[int]:
    """Greedy tokens as mlx-lm itself draws them for one request."""
    model, tokenizer, *_ = mlx_lm.load(str(base), adapter_path=adapter and str(adapter))
    stream = mlx_lm.stream_generate(model, tokenizer, PROMPT, max_tokens=tokens)
    return [response.token for response in stream]


def test_adapters_of_any_shape_agree_with_mlx_lm_in_one_batch(
    model: MLXModel, tiny_base: Path, tmp_path: Path
) -> None:
    adapters = {
        "base": None,
        "small": write_adapter(tmp_path / "small", rank=2, scale=3.0, layers=1, seed=1),
        "large": write_adapter(tmp_path / "large", rank=16, scale=1.0, layers=2, seed=2),
    }
    for uid, adapter in adapters.items():
        model.insert(uid, PROMPT, adapter, Sampling(max_tokens=10))
    tokens = {uid: [delta.token for delta in deltas] for uid, deltas in drain(model).items()}
    expected = {uid: reference(tiny_base, adapter, 10) for uid, adapter in adapters.items()}
    assert tokens == expected
    assert len({tuple(row) for row in expected.values()}) == 3


def test_a_removed_adapter_gives_its_slot_to_the_next(model: MLXModel, tmp_path: Path) -> None:
    first = write_adapter(tmp_path / "first", rank=4, scale=2.0, layers=2, seed=1)
    second = write_adapter(tmp_path / "second", rank=4, scale=2.0, layers=1, seed=2)
    model.insert("expected", PROMPT, second, Sampling(max_tokens=6))
    expected = [delta.token for delta in drain(model)["expected"]]
    model.remove_adapter(second)
    model.add_adapter(first)
    full = model.nbytes
    model.remove_adapter(first)
    model.insert("again", PROMPT, second, Sampling(max_tokens=6))
    assert [delta.token for delta in drain(model)["again"]] == expected
    assert model.nbytes == full


def test_an_adapter_in_use_is_not_removed(model: MLXModel, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "busy", rank=4, scale=2.0, layers=2, seed=1)
    model.insert("row", PROMPT, adapter, Sampling(max_tokens=6))
    with pytest.raises(BackendError, match="in use"):
        model.remove_adapter(adapter)


@pytest.mark.parametrize("kind", ["dora", "full"])
def test_only_lora_adapters_are_served(model: MLXModel, tmp_path: Path, kind: str) -> None:
    adapter = write_adapter(tmp_path / "other", rank=4, scale=2.0, layers=2, seed=1)
    write_config(adapter, kind=kind)
    with pytest.raises(UnsupportedModel, match=kind):
        model.add_adapter(adapter)


def spoil_shape(weights: dict[str, mx.array]) -> None:
    name = "model.layers.1.self_attn.q_proj.lora_a"
    weights[name] = mx.zeros((32, 4))


def spoil_name(weights: dict[str, mx.array]) -> None:
    for factor in ("lora_a", "lora_b"):
        array = weights.pop(f"model.layers.1.self_attn.q_proj.{factor}")
        weights[f"model.layers.9.self_attn.q_proj.{factor}"] = array


def spoil_pair(weights: dict[str, mx.array]) -> None:
    del weights["model.layers.1.self_attn.q_proj.lora_b"]


@pytest.mark.parametrize("spoil", [spoil_shape, spoil_name, spoil_pair])
def test_an_adapter_of_another_base_is_refused_and_changes_nothing(
    model: MLXModel, tmp_path: Path, spoil: Callable[[dict[str, mx.array]], None]
) -> None:
    adapter = write_adapter(tmp_path / "foreign", rank=4, scale=2.0, layers=2, seed=1)
    weights = dict(mx.load(str(adapter / "adapters.safetensors")))
    spoil(weights)
    other = tmp_path / "spoiled"
    other.mkdir()
    mx.save_safetensors(str(other / "adapters.safetensors"), weights)
    write_config(other)
    before = model.nbytes
    with pytest.raises(UnsupportedModel, match="spoiled"):
        model.add_adapter(other)
    assert model.nbytes == before


def test_a_damaged_adapter_is_refused(model: MLXModel, tmp_path: Path) -> None:
    write_config(tmp_path)
    (tmp_path / "adapters.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(UnsupportedModel, match="damaged"):
        model.add_adapter(tmp_path)


def test_a_long_prompt_does_not_silence_a_running_row(model: MLXModel) -> None:
    model.insert("running", PROMPT, None, Sampling(max_tokens=100))
    while not model.step():
        pass
    model.step()
    model.insert("long", LONG, None, Sampling(max_tokens=2))
    steps: list[list[str]] = []
    while not steps or "long" not in steps[-1]:
        steps.append([delta.uid for delta in model.step()])
    assert steps[:-1] == [["running"]] * (len(steps) - 1)
    assert steps[-1] == ["long"]
    assert len(steps) > 2


def test_a_short_prompt_does_not_wait_for_a_long_one(model: MLXModel) -> None:
    model.insert("long", LONG, None, Sampling(max_tokens=2))
    model.step()
    model.insert("short", PROMPT, None, Sampling(max_tokens=2))
    steps: list[set[str]] = [set()]
    while "long" not in steps[-1]:
        steps.append({delta.uid for delta in model.step()})
    assert "short" in next(filter(None, steps))


def test_a_short_prompt_beside_a_running_row_answers_in_the_next_step(model: MLXModel) -> None:
    model.insert("running", PROMPT, None, Sampling(max_tokens=20))
    while not model.step():
        pass
    model.step()
    model.insert("new", PROMPT[:9], None, Sampling(max_tokens=2))
    assert {delta.uid for delta in model.step()} == {"running", "new"}
    assert model.step() == []  # which only asks for the next tokens
    assert {delta.uid for delta in model.step()} == {"running", "new"}


def test_a_row_removed_in_the_middle_of_its_prompt_leaves_others_alone(model: MLXModel) -> None:
    model.insert("expected", PROMPT, None, Sampling(max_tokens=12))
    expected = [delta.token for delta in drain(model)["expected"]]
    empty = model.nbytes
    model.insert("gone", LONG, None, Sampling(max_tokens=2))
    model.insert("stays", PROMPT, None, Sampling(max_tokens=12))
    for _ in range(3):
        deltas = model.step()
    model.remove("gone")
    seen = drain(model)
    assert set(seen) == {"stays"}
    tokens = [delta.token for delta in (*deltas, *seen["stays"])]
    assert expected[-len(tokens) :] == tokens
    assert len(tokens) > 8
    assert model.nbytes == empty


def test_rows_beyond_the_batch_wait_and_end(model: MLXModel) -> None:
    for number in range(40):
        model.insert(str(number), PROMPT[number % 10 :], None, Sampling(max_tokens=3))
    assert sorted(map(len, drain(model).values())) == [3] * 40


def test_a_template_that_refuses_says_so(model: MLXModel, tiny_base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_base, tmp_path / "strict")
    (folder / "chat_template.jinja").write_text("{{ raise_exception('only one system message') }}")
    strict = load_model(folder)
    try:
        with pytest.raises(BackendError, match="only one system message"):
            strict.encode([{"role": "user", "content": "Hi"}])
    finally:
        strict.close()


def test_a_model_without_a_template_is_no_chat_model(tiny_base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_base, tmp_path / "plain")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    plain = load_model(folder)
    try:
        with pytest.raises(BackendError, match="no chat template"):
            plain.encode([{"role": "user", "content": "Hi"}])
    finally:
        plain.close()


def test_a_folder_with_code_is_not_loaded(tiny_base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_base, tmp_path / "coded")
    (folder / "modeling.py").write_text("raise SystemExit")
    with pytest.raises(UnsupportedModel, match=r"modeling\.py"):
        load_model(folder)


def test_weights_that_do_not_fit_the_config_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_base, tmp_path / "wide")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 128}))
    with pytest.raises(UnsupportedModel, match="wide"):
        load_model(folder)


def test_the_first_grammar_finds_the_vocabulary_read(tiny_base: Path) -> None:
    _llguidance_tokenizer.cache_clear()
    loaded = load_model(tiny_base)
    loaded.settle()
    read = _llguidance_tokenizer.cache_info()
    loaded.insert("one", PROMPT, None, Sampling(max_tokens=2, grammar=Grammar("json_object")))
    assert read.misses == 1
    assert _llguidance_tokenizer.cache_info() == read
    loaded.close()


def test_one_model_closes_and_another_of_the_thread_continues(
    model: MLXModel, tiny_base: Path
) -> None:
    load_model(tiny_base).close()
    model.insert("row", PROMPT, None, Sampling(max_tokens=3))
    assert len(drain(model)["row"]) == 3


def test_models_live_in_threads_that_come_and_go(tiny_base: Path) -> None:
    counts: list[int] = []

    def generate() -> None:
        loaded = load_model(tiny_base)
        loaded.insert("row", PROMPT, None, Sampling(max_tokens=4, temperature=1.0, top_p=0.9))
        counts.append(len(drain(loaded)["row"]))
        loaded.close()

    for _ in range(2):
        thread = threading.Thread(target=generate)
        thread.start()
        thread.join()
    assert counts == [4, 4]


def test_rows_of_adapters_follow_the_batch() -> None:
    rows = AdapterRows.merge([AdapterRows([2]), AdapterRows([0]), AdapterRows([2])])
    mixed = rows.selection
    assert isinstance(mixed, Mixed)
    assert mixed.slots.tolist() == [2, 0, 2]
    assert mixed.rows.tolist() == [0, 1, 2]
    rows.extend(AdapterRows([5]))
    rows.filter([0, 2])
    assert rows.selection == 2
    assert rows.extract(1).slots == [2]


LOGPROBS = mx.log(mx.array([[0.5, 0.3, 0.15, 0.05]] * 400))


def drawn(**sampling: float) -> set[int]:
    tokens = make_sampler(Sampling(temperature=1.0, seed=1, **sampling))(LOGPROBS)
    assert tokens.shape == (400,)
    return set(tokens.tolist())


def test_an_open_sampler_draws_every_token() -> None:
    assert drawn() == {0, 1, 2, 3}


def test_top_k_keeps_the_likeliest() -> None:
    assert drawn(top_k=3) == {0, 1, 2}


def test_top_p_keeps_the_mass_it_names() -> None:
    assert drawn(top_p=0.7) == {0, 1}


def test_min_p_drops_what_is_far_below_the_likeliest() -> None:
    assert drawn(min_p=0.2) == {0, 1, 2}


def test_filters_intersect() -> None:
    assert drawn(top_k=3, top_p=0.6, min_p=0.01) == {0, 1}


def test_a_low_temperature_sharpens() -> None:
    tokens = make_sampler(Sampling(temperature=0.05, seed=1))(LOGPROBS)
    assert set(tokens.tolist()) == {0}


def test_equal_requests_without_a_seed_share_a_sampler() -> None:
    warm = Sampling(temperature=0.7, top_p=0.9)
    assert make_sampler(warm) is make_sampler(Sampling(max_tokens=5, temperature=0.7, top_p=0.9))
    assert make_sampler(warm) is not make_sampler(Sampling(temperature=0.8, top_p=0.9))
    assert make_sampler(Sampling(temperature=0.0)) is greedy


def test_the_real_model_answers(starter_base: Path) -> None:
    loaded = load_model(starter_base)
    prompt = loaded.encode([{"role": "user", "content": "What is the capital of France?"}])
    loaded.insert("paris", prompt, None, Sampling(max_tokens=24))
    # Every length cuts somewhere else, also inside characters of several tokens.
    japanese = loaded.encode([{"role": "user", "content": "Say hello in Japanese."}])
    for length in range(1, 9):
        loaded.insert(str(length), japanese, None, Sampling(max_tokens=length))
    texts = {uid: "".join(d.text for d in deltas) for uid, deltas in drain(loaded).items()}
    loaded.close()
    assert "Paris" in texts["paris"]
    assert "<|im_end|>" not in texts["paris"]
    for length in range(1, 8):
        assert texts["8"].startswith(texts[str(length)])
        assert "\ufffd" not in texts[str(length)]


def test_a_token_beyond_the_embedding_is_refused_and_the_others_go_on(tiny_base: Path) -> None:
    """Its row would be read from memory that is not the model's, which may end the process."""
    loaded = load_model(tiny_base)
    loaded.insert("good", PROMPT, None, Sampling(max_tokens=3))
    with pytest.raises(BackendError, match="has the token 49000, but base ends at 4095"):
        loaded.insert("bad", [1, 49_000], None, Sampling(max_tokens=3))
    with pytest.raises(BackendError, match="has the token 4096"):
        loaded.embed([[1, 4096]], None)
    assert list(drain(loaded)) == ["good"]
    loaded.close()
