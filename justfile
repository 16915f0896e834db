# The verbs of this project.

demo:
    uv run manage.py demo

up:
    uv run manage.py up

test *args:
    uv run pytest {{args}}

# The tests with all that takes too long for every change.
full:
    HUB_TESTS=thorough uv run pytest
    HUB_ASSUMED_DEVICE=metal uv run pytest tests/backends/mlx/training tests/backends/mlx/serving tests/backends/mlx/data
    ulimit -Sn 256 && HUB_ASSUMED_SQLITE=3.49.1 uv run pytest --ignore tests/backends/mlx -k "not postgresql"

lint:
    uv run ruff format .
    uv run ruff check --fix .
    uv run djlint --quiet --lint templates
    npx --yes @biomejs/biome@2.6.8 check --write static
    uv run mypy
    uv run lint-imports

ci:
    bash .ci/run
