"""Tests of the backends, which import MLX themselves."""

from backends.mlx.device import prepare

prepare()  # here, since a worker imports test modules before it reads any conftest.py
