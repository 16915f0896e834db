"""Benchmarks of the hub, each started with `uv run python -m benchmarks.NAME [--check] [--json FILE]`.

| name | measures |
|---|---|
| `registry_scale` | lists, searches and details with 100,000 versions |
| `serving` | the hub beside bare mlx-lm and `mlx_lm.server` |
| `rivals` | the hub beside other servers and trainers in MLX, and llama.cpp |
| `adapters` | many adapters in one batch |
| `prefix_cache` | the second turn of a long chat, also after a restart |
| `startup` | from `manage.py up` to the first answer, and the memory of each process |
| `idle` | what a hub takes that nobody uses: processor time, memory, statements |
| `tracing` | what OpenTelemetry's traces cost per token |
| `streams` | 500 SSE streams at once |
| `training` | the trainer beside `mlx_lm.lora` |
| `peaks` | the most that training holds, beside what a job's plan says |
| `resume` | killed training runs end with the same bytes |
| `chaos_training` | `kill -9` of the worker and its jobs |
| `pages` | pages while the machine trains and serves |
| `many_jobs` | memory of the hub's processes over many jobs |
| `first_token` | a 7B model at 4 bits, or a smaller one of its proportions |
| `first_token_model` | arithmetic for an M4 Pro; measures nothing, takes `--write` |

With `--check` a benchmark exits with 1 when it misses its bar. `docs/benchmarks.md` has the results.
`setup/` holds what they share, `rivals/` what the hub is compared with.
"""
