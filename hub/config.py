"""Every setting of the hub, read from the environment (prefix `HUB_`), `.env`, and what was saved on
the page Settings (`hub/preferences`), in this order.

An invalid value stops the hub at startup with one clear line; `hub/settings.py` only maps the
values to Django.
"""

from __future__ import annotations

import difflib
import fcntl
import ipaddress
import json
import os
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from backends import devices
from registry.errors import place_and_message
from registry.storage.sizes import GB

ROOT = Path(__file__).resolve().parent.parent
"""Where the packages are: a checkout, or the folder of an environment that has the hub installed."""
_SHIPPED = Path(__file__).resolve().parent / "shipped"  # a wheel has it, a checkout has not
IS_INSTALLED = _SHIPPED.is_dir()
HOME = _SHIPPED if IS_INSTALLED else ROOT
"""Where manage.py, templates and static files are."""
PROGRAM = "mlx-hub" if IS_INSTALLED else "manage.py"
COMMAND = PROGRAM if IS_INSTALLED else f"uv run {PROGRAM}"
"""How a person calls the hub's commands."""
_NAME = "mlx-model-hub"


def _default_storage() -> Path:
    if not IS_INSTALLED:
        return ROOT / "storage"
    import platformdirs

    return platformdirs.user_data_path(_NAME)


def _settings_files() -> tuple[Path, ...]:
    """The files that are read, later ones first in effect: those that HUB_ENV_FILE names, else a
    checkout's `.env`, else of an installed hub the user's settings.env and a `.env` here. That may be
    another program's, so one without any setting of the hub's does not count."""
    if given := os.environ.get("HUB_ENV_FILE"):
        return tuple(map(Path, given.split(os.pathsep)))
    if not IS_INSTALLED:
        return (ROOT / ".env",)
    import platformdirs

    here = Path.cwd() / ".env"
    is_ours = any(name.startswith("HUB_") for name in dotenv_values(here))
    files = (platformdirs.user_config_path(_NAME) / "settings.env", *([here] if is_ours else []))
    os.environ["HUB_ENV_FILE"] = os.pathsep.join(map(str, files))  # children run elsewhere
    return files


ENV_FILES = _settings_files()
SAVED = "settings.json"
"""In storage: the settings that were changed while the hub ran, by their fields' names."""
# Variables of the hub that are no settings: what its processes tell each other, and what tests and
# benchmarks set.
_OTHERS = re.compile(
    "HUB_(ENV_FILE|API_KEY|CORRELATION_ID|WORKER_PID|PREPARED_PIPE|PARENT_PIPE|DEMO_MINUTES|SCHEMA_CASES"
    "|(FAKE|ASSUMED|TEST)_[A-Z_]+)"
)
_NEAR = 0.8


class _Saved(PydanticBaseSettingsSource):
    """What was saved in the hub, which counts where neither the environment nor a file says more."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False  # all of them are read at once

    def __call__(self) -> dict[str, Any]:
        storage = self.current_state.get("storage") or _default_storage()
        saved = read_saved(Path(storage).expanduser())
        return {name: value for name, value in saved.items() if name in Config.model_fields}


def read_saved(storage: Path) -> dict[str, Any]:
    """The settings that are saved in this storage folder; none where the file cannot be read, which the
    doctor says."""
    try:
        found = json.loads((storage / SAVED).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class Config(BaseSettings):
    """The hub's settings. `.env.example` documents each of them."""

    model_config = SettingsConfigDict(
        env_prefix="HUB_",
        env_file=ENV_FILES,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        ignored_types=(cached_property,),
    )

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource, **named: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        order = ("init_settings", "env_settings", "dotenv_settings")
        return (*sources, *(named[name] for name in order), _Saved(settings_cls))

    debug: Annotated[
        bool, Field(description="Django's debug pages; never use it beyond loopback")
    ] = False
    storage: Annotated[
        Path,
        Field(
            default_factory=_default_storage,
            description="Folder of databases, models and artifacts",
        ),
    ]
    secret_key: Annotated[
        str, Field(description="Django's secret; if empty, generated once and kept in storage")
    ] = ""
    host: Annotated[str, Field(description="Address the web process binds")] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535, description="Port of the web process")] = 8000
    ollama_port: Annotated[
        int | None,
        Field(ge=1, le=65535, description="Another port, with Ollama's API at its root; 0: none"),
    ] = None
    mcp_key: Annotated[str, Field(description="The API key that run_mcp sends")] = ""
    allowed_hosts: Annotated[
        list[str],
        NoDecode,
        Field(
            description="Comma-separated host names besides this machine's own; required beyond "
            "loopback"
        ),
    ] = []
    cors_origins: Annotated[
        list[str],
        NoDecode,
        Field(
            description="Comma-separated origins whose pages may use /v1, /api, /ollama and /mcp; "
            "*: any, by key"
        ),
    ] = []
    backend: Annotated[
        Literal["mlx", "fake"], Field(description="fake needs no model and generates nonsense")
    ] = "mlx"
    memory_budget_gb: Annotated[
        float | None,
        Field(
            gt=0,
            description="Memory for everything MLX holds; default: 75 % of RAM, on a Mac at most 90 % of "
            "what Metal may have",
        ),
    ] = None
    model_folders: Annotated[
        list[str],
        NoDecode,
        Field(
            description="Comma-separated folders from which base models may be picked on a page, at this "
            "machine alone; none: no picking"
        ),
    ] = ["~"]
    database_url: Annotated[
        str,
        Field(
            description="postgres://user:password@host:port/name; empty: SQLite in storage",
            validation_alias=AliasChoices("HUB_DATABASE_URL", "DATABASE_URL"),
        ),
    ] = ""
    mlflow_tracking_uri: Annotated[
        str,
        Field(
            description="An MLflow server; empty: a SQLite store in storage",
            validation_alias=AliasChoices("HUB_MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_URI"),
        ),
    ] = ""
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        Field(description="From which level on lines are logged; DEBUG includes every request"),
    ] = "INFO"
    log_format: Annotated[
        Literal["auto", "console", "json"], Field(description="auto: console on a terminal")
    ] = "auto"
    log_file: Annotated[
        Path | None,
        Field(description="File for the log of `up`, rotated; empty: standard error"),
    ] = None
    log_prompts: Annotated[
        bool, Field(description="Keep the text of prompts and answers in the request log")
    ] = False
    log_retention_days: Annotated[
        int, Field(ge=1, description="Days to keep rows of the request log")
    ] = 90
    log_prompts_retention_days: Annotated[
        int, Field(ge=1, description="Days to keep the texts in the request log")
    ] = 14
    max_queue: Annotated[
        int,
        Field(
            ge=1, le=10_000, description="Inference requests that may wait; further ones get 429"
        ),
    ] = 64
    unknown_parameters: Annotated[
        Literal["ignore", "refuse"],
        Field(description="What /v1 does with parameters that it does not know or cannot heed"),
    ] = "ignore"
    request_deadline_s: Annotated[
        float, Field(gt=0, description="Seconds after which an unfinished request gets 504")
    ] = 600.0
    drain_s: Annotated[
        float,
        Field(
            ge=0, description="Seconds that running requests get to finish when the engine stops"
        ),
    ] = 5.0
    model_idle_s: Annotated[
        float,
        Field(ge=0, description="Seconds after which an idle unpinned model is unloaded; 0: never"),
    ] = 3600.0
    prefix_cache_gb: Annotated[
        float | None,
        Field(ge=0, description="Memory for the prefix cache; default: 1/8 of the budget; 0: none"),
    ] = None
    prefix_cache_on_disk: Annotated[
        bool, Field(description="Keep cached prefixes on disk across engine restarts")
    ] = False
    kv_bits: Annotated[
        Literal[4, 8] | None,
        Field(description="Quantize the KV cache of long contexts to 4 or 8 bits"),
    ] = None
    kv_after: Annotated[
        int, Field(ge=0, description="Context length in tokens from which it is quantized")
    ] = 4096
    draft_model: Annotated[
        str,
        Field(description="Smaller base model with the same tokenizer, for speculative decoding"),
    ] = ""
    draft_tokens: Annotated[int, Field(ge=1, le=16, description="Tokens drafted at a time")] = 3
    prompt_lookup: Annotated[
        bool,
        Field(
            description="Draft tokens from the prompt and the answer while one request runs alone"
        ),
    ] = True
    heartbeat_timeout_s: Annotated[
        float, Field(gt=0, description="Seconds without a heartbeat after which a job is requeued")
    ] = 30.0
    training_yield_s: Annotated[
        float,
        Field(
            ge=0,
            le=600,
            description="Seconds per step that training waits for chat requests; 0: never",
        ),
    ] = 5.0
    training_on_battery: Annotated[
        Literal["run", "slow", "pause"], Field(description="slow: training waits half the time")
    ] = "slow"
    halve_batch_size: Annotated[
        bool, Field(description="Halve a job's batch size after it ran out of memory twice")
    ] = True
    sample_every_s: Annotated[
        float, Field(ge=0.1, description="Seconds between system samples")
    ] = 5.0
    sample_retention_days: Annotated[
        int, Field(ge=1, description="Days to keep system samples, thinned out as they get older")
    ] = 365
    trace_url: Annotated[
        str,
        Field(description="Where a trace is shown, with {trace_id} in its place; empty: no links"),
    ] = ""
    update_url: Annotated[
        str,
        Field(
            description="Asked once a day whether there is a newer version, which the dashboard names: "
            "the address of a package index's JSON about mlx-model-hub; empty: nobody is asked",
        ),
    ] = ""
    task_retention_days: Annotated[
        int, Field(ge=1, description="Days to keep finished imports and tasks")
    ] = 30
    audit_days: Annotated[int, Field(ge=1, description="Days to keep the audit log")] = 365
    backup_dir: Annotated[
        Path | None,
        Field(description="Folder, at best on another disk, for backups that the hub makes itself"),
    ] = None
    backup_every_h: Annotated[
        float, Field(gt=0, description="Hours between backups that the hub makes itself")
    ] = 24.0
    backup_keep: Annotated[
        int, Field(ge=1, description="How many of the hub's own backups are kept")
    ] = 7

    phone_regions: Annotated[
        list[str],
        NoDecode,
        Field(description="Comma-separated countries whose phone numbers are found without a +"),
    ] = ["US", "GB"]

    @field_validator(
        "allowed_hosts", "cors_origins", "model_folders", "phone_regions", mode="before"
    )
    @classmethod
    def _split_list(cls, value: object) -> object:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("ollama_port", mode="before")
    @classmethod
    def _none_at_zero(cls, value: object) -> object:
        """An empty variable counts as none at all, and so cannot overrule `.env`."""
        return None if value in (0, "0") else value

    @field_validator("kv_bits", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        """Variables are texts, which a choice of numbers does not take."""
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    @field_validator("phone_regions")
    @classmethod
    def _known_countries(cls, value: list[str]) -> list[str]:
        if wrong := [code for code in value if not re.fullmatch("[A-Z]{2}", code)]:
            raise ValueError(f"{wrong[0]!r} is no country; write codes of two capitals, US,DE")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: list[str]) -> list[str]:
        if "null" in value:
            raise ValueError(
                "null is the origin of any page that hides its own: name origins, or * to let "
                "all in that have an API key"
            )
        if wrong := [
            one for one in value if not re.fullmatch(r"\*|[a-z][a-z0-9+.-]*://[^/*]+", one)
        ]:
            raise ValueError(f"{wrong[0]!r} is no origin; write https://app.example:3000")
        return value

    @field_validator("trace_url")
    @classmethod
    def _names_a_trace(cls, value: str) -> str:
        if value and not (value.startswith(("http://", "https://")) and "{trace_id}" in value):
            raise ValueError("write an address such as http://127.0.0.1:16686/trace/{trace_id}")
        return value

    @field_validator("update_url")
    @classmethod
    def _can_be_asked(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("write an address that begins with https://")
        return value

    @field_validator("storage", "log_file")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value and value.expanduser().absolute()

    @field_validator("backup_dir")
    @classmethod
    def _whole_path(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value else None

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if not value or value.startswith("sqlite://"):
            return value
        if not value.startswith(("postgres://", "postgresql://")):
            raise ValueError("must start with postgres:// or sqlite://")
        try:
            address = urlsplit(value)
            whole = bool(address.port or address.hostname) and len(address.path) > 1
        except ValueError:  # a port that is no number, a bracket that is not closed
            whole = False
        if not whole and "host=" not in value:  # a socket's folder may be an option
            raise ValueError(
                "names no server or no database; write postgres://user:password@host:5432/name"
            )
        return value

    @field_validator("mlflow_tracking_uri")
    @classmethod
    def _server(cls, value: str) -> str:
        try:
            address = urlsplit(value)
            known = address.scheme in ("http", "https") and bool(address.hostname)
        except ValueError:
            known = False
        if value and not known:
            raise ValueError("is no address of a server; write http://host:5000")
        return value

    @model_validator(mode="after")
    def _beyond_loopback_names_its_hosts(self) -> Config:
        if not self.is_loopback and not self.allowed_hosts:
            raise ValueError(
                f"HUB_HOST is {self.host}, which other machines can reach: "
                "set HUB_ALLOWED_HOSTS to the host names they will use"
            )
        return self

    @model_validator(mode="after")
    def _ports_differ(self) -> Config:
        if self.ollama_port == self.port:
            raise ValueError(
                f"HUB_OLLAMA_PORT and HUB_PORT are both {self.port}; choose another port"
            )
        return self

    @model_validator(mode="after")
    def _keeps_its_guards(self) -> Config:
        if self.is_loopback and "*" in self.allowed_hosts:
            raise ValueError(
                "HUB_ALLOWED_HOSTS is *, which lets any web page that a browser here opens ask the "
                "hub (DNS rebinding): name the hosts, or leave it empty on this machine alone"
            )
        if not self.is_loopback and self.debug:
            raise ValueError(
                f"HUB_DEBUG shows settings and code to anyone who causes an error, and HUB_HOST is "
                f"{self.host}, which others can reach: turn HUB_DEBUG off, or listen on 127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _backups_lie_elsewhere(self) -> Config:
        if self.backup_dir is not None and self.backup_dir.is_relative_to(self.storage):
            raise ValueError(
                f"HUB_BACKUP_DIR is inside the storage folder {self.storage}, with which it would be "
                "lost: name a folder elsewhere, at best on another disk"
            )
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the web process."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def url(self) -> str:
        """The hub's address from this machine. A client sends the Host `localhost` with it, which is
        always allowed: the address that the hub listens on may be none of the allowed names."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104  # nosec B104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def memory_budget_bytes(self) -> int:
        """Bytes that MLX may hold in all processes together."""
        if self.memory_budget_gb is not None:
            return int(self.memory_budget_gb * GB)
        if (video := devices.video_memory()) is not None:
            return video * 4 // 5  # as MLX itself limits what it holds there
        from backends.mac.memory import default_budget

        return default_budget()

    @property
    def prefix_cache_bytes(self) -> int:
        """Bytes that the prefix cache of each base model may hold, within the budget."""
        if self.prefix_cache_gb is None:
            return self.memory_budget_bytes // 8
        return int(self.prefix_cache_gb * GB)

    def stored_secret_key(self) -> str:
        """The configured secret, or one generated once and kept in storage with mode 0600."""
        if self.secret_key:
            return self.secret_key
        path = self.storage / "secret_key"
        self.storage.mkdir(parents=True, exist_ok=True)
        if kept := _text(path):
            return kept
        with alone(self.storage):  # all processes of a new hub start at once
            if not (kept := _text(path)):
                kept = secrets.token_urlsafe(50)
                new = path.with_suffix(".new")
                new.touch(0o600)
                new.write_text(kept)
                new.replace(path)
        return kept


def _text(path: Path) -> str:
    """Empty when it is not there, too."""
    with suppress(FileNotFoundError):
        return path.read_text().strip()
    return ""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time, by a lock on the folder, where its disk has any."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def unknown_settings() -> dict[str, str | None]:
    """Variables that begin with `HUB_`, of the environment and `.env`, which the hub does not know,
    each with the setting that was probably meant."""
    known = [f"HUB_{name.upper()}" for name in Config.model_fields]
    files = [dotenv_values(file) for file in ENV_FILES]
    given = [name for name in set().union(*files, os.environ) if name.startswith("HUB_")]
    return {
        name: next(iter(difflib.get_close_matches(name, known, 1, _NEAR)), None)
        for name in sorted(given)
        if name not in known and not _OTHERS.fullmatch(name)
    }


def load(**overrides: Any) -> Config:
    """Read the configuration, or exit with one line per invalid value.

    `overrides` (a command's options) take precedence over the environment.
    """
    misspelt = {name: near for name, near in unknown_settings().items() if near}
    for name, near in misspelt.items():
        print(f"{name}: is no setting; did you mean {near}?", file=sys.stderr)
    if misspelt:
        raise SystemExit(2)
    try:
        return Config(**overrides)
    except ValidationError as error:
        for found in error.errors():
            place, message = place_and_message(found)
            name = place.partition(".")[0]
            label = name if name.isupper() else f"HUB_{name.upper()}" if name else "configuration"
            print(f"{label}{_saved_where(name)}: {message}.", file=sys.stderr)
        raise SystemExit(2) from None


def given_in(name: str, environment: bool = True) -> str:
    """Where the value of a field was given: "environment", the path of a file, or "" where it was not."""
    alias = Config.model_fields[name].validation_alias
    names = [f"HUB_{name.upper()}"]
    if isinstance(alias, AliasChoices):
        names = [choice for choice in alias.choices if isinstance(choice, str)]
    if environment and any(os.environ.get(one) for one in names):
        return "environment"
    for file in reversed(ENV_FILES):
        found = dotenv_values(file)
        if any(found.get(one) for one in names):
            return str(file)
    return ""


def _saved_where(name: str) -> str:
    """For the person who looks for a value that nobody gave here."""
    files = {
        key: value for file in ENV_FILES for key, value in dotenv_values(file).items() if value
    }
    storage = os.environ.get("HUB_STORAGE") or files.get("HUB_STORAGE") or _default_storage()
    is_saved = name in read_saved(Path(storage).expanduser()) and not given_in(name)
    return f" (saved in {Path(storage).expanduser() / SAVED})" if is_saved else ""


config = load()
