from __future__ import annotations

from pathlib import Path

from backends.mlx import MLXBackend


def test_the_imported_starter_answers_through_mlx_lm(starter_base: Path) -> None:
    from mlx_lm import generate, load

    model, tokenizer = load(str(starter_base))
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], add_generation_prompt=True
    )
    assert generate(model, tokenizer, prompt, max_tokens=12) == "The capital of France is Paris."


def test_inspect_describes_the_starter(starter_base: Path) -> None:
    described = MLXBackend().inspect(starter_base)
    assert (described.architecture, described.quantization) == ("llama", "float32")
    assert described.parameters == 134_515_008
    assert described.context_length == 8192
