"""Structured logs with one correlation ID through all processes.

A process that works for another receives the ID in `HUB_CORRELATION_ID` (a child) or in the
message (the engine) and binds it, so that every line it logs carries it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from hub.config import Config
from registry import traces

PROCESSES = ("web", "engine", "worker", "sampler")
"""What has to run. Under `up` the last two are threads of one process, `background`."""


def process_name(arguments: list[str]) -> str:
    """ "web" for `manage.py run_web`, and so on; "job" for a training child; else the command."""
    program = Path(arguments[0]).stem if arguments else "python"
    if program not in ("manage", "mlx-hub", "mlx-model-hub") or len(arguments) < 2:
        return program
    name = arguments[1].removeprefix("run_")
    return name if name in (*PROCESSES, "background", "job") else arguments[1]


def roles(process: str) -> tuple[str, ...]:
    """Which of PROCESSES the process of that name is."""
    if process == "background":
        return ("worker", "sampler")
    return (process,) if process in PROCESSES else ()


def _name_process(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    event["process"] = process_name(sys.argv)
    return event


def _add_trace_id(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    if "trace_id" not in event and (here := traces.current()):
        event["trace_id"] = traces.trace_id(here)
    return event


def _drop_probes(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Health probes are not logged: /health itself reports when the hub is not ready."""
    if str(event.get("request", "")).endswith(" /health"):
        raise structlog.DropEvent
    return event


def _draw_traceback(sio: TextIO, exc_info: ExcInfo) -> None:
    """As structlog has rich draw them, which is imported for the first one: it is a tenth of a process's
    start, and most never have any."""
    from rich.console import Console
    from rich.traceback import Traceback

    drawn = Traceback.from_exception(*exc_info, show_locals=True, extra_lines=3)
    sio.write("\n")
    Console(file=sio, color_system="truecolor").print(drawn)


_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    _name_process,
    _add_trace_id,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]


def logging_config(config: Config) -> dict[str, Any]:
    """Configure structlog and return Django's LOGGING, so that both write the same lines."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            _drop_probes,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    if correlation_id := os.environ.get("HUB_CORRELATION_ID"):
        structlog.contextvars.bind_contextvars(correlation_id=correlation_id)
    console = config.log_format == "console" or (
        config.log_format == "auto" and sys.stderr.isatty()
    )
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=_draw_traceback)
        if console
        else structlog.processors.JSONRenderer()
    )
    final: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if not console:
        final.append(structlog.processors.format_exc_info)
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [*final, renderer],
                "foreign_pre_chain": _SHARED,
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
        "root": {"handlers": ["stderr"], "level": config.log_level},
        "loggers": {
            # django-structlog logs the same with the correlation ID and the traceback.
            "django.request": {"level": "CRITICAL"},
            "django.server": {"level": "WARNING"},
            "uvicorn.access": {"level": "WARNING"},
            "alembic": {"level": "WARNING"},
            "huey": {"level": "WARNING"},  # it says four times a minute that nothing is due
            "mlflow": {"level": "WARNING"},
            "httpx": {"level": "WARNING"},
        },
    }
