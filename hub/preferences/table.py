"""Every setting by its plain name, in the groups of the page, and when a change takes effect."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Effect(StrEnum):
    """When a change counts."""

    FIXED = "fixed"
    """Set where the hub is started, because a mistake would lock everyone out or part the hub from its
    files."""
    NOW = "now"
    JOB = "next job"
    RESTART = "restart"

    @property
    def words(self) -> str:
        return {
            Effect.FIXED: "Set in the environment or a file, and read when the hub starts",
            Effect.NOW: "Takes effect at once",
            Effect.JOB: "Takes effect with the next training job",
            Effect.RESTART: "Takes effect when the hub is restarted",
        }[self]


@dataclass(frozen=True)
class Entry:
    """A setting as people see it. `django` is its name in Django's settings, which are changed with it."""

    name: str
    label: str
    effect: Effect
    unit: str = ""
    django: str = ""
    secret: bool = False

    @property
    def variable(self) -> str:
        return f"HUB_{self.name.upper()}"


_FIXED, _NOW, _JOB, _RESTART = Effect

GROUPS: tuple[tuple[str, str, tuple[Entry, ...]], ...] = (  # key, title, settings
    (
        "requests",
        "Requests",
        (
            Entry("log_prompts", "Keep prompts and answers", _NOW, django="LOG_PROMPTS"),
            Entry("request_deadline_s", "Time limit of a request", _NOW, "s", "REQUEST_DEADLINE_S"),
            Entry("unknown_parameters", "Unknown parameters", _NOW, django="UNKNOWN_PARAMETERS"),
            Entry("max_queue", "Waiting requests", _RESTART),
            Entry("drain_s", "Time to finish when the engine stops", _RESTART, "s"),
        ),
    ),
    (
        "models",
        "Models in memory",
        (
            Entry("memory_budget_gb", "Memory budget", _RESTART, "GB"),
            Entry("model_idle_s", "Unload idle models after", _RESTART, "s"),
            Entry("prefix_cache_gb", "Prefix cache", _RESTART, "GB"),
            Entry("prefix_cache_on_disk", "Keep the prefix cache on disk", _RESTART),
            Entry("kv_bits", "KV cache quantization", _RESTART, "bits"),
            Entry("kv_after", "Quantize the KV cache from", _RESTART, "tokens"),
            Entry("prompt_lookup", "Draft from the prompt", _RESTART),
            Entry("draft_model", "Draft model", _RESTART),
            Entry("draft_tokens", "Drafted tokens", _RESTART),
        ),
    ),
    (
        "training",
        "Training",
        (
            Entry("training_yield_s", "Longest pause for chat requests", _JOB, "s"),
            Entry("training_on_battery", "Training on battery", _JOB),
            Entry("halve_batch_size", "Halve the batch size when out of memory", _NOW, django="HALVE_BATCH_SIZE"),
            Entry("heartbeat_timeout_s", "Time without a sign of life", _NOW, "s", "HEARTBEAT_TIMEOUT_S"),
            Entry("phone_regions", "Countries of phone numbers", _NOW, django="PHONE_REGIONS"),
        ),
    ),
    (
        "retention",
        "Retention",
        (
            Entry("log_retention_days", "Request log", _NOW, "days"),
            Entry("log_prompts_retention_days", "Texts in the request log", _NOW, "days"),
            Entry("sample_retention_days", "System samples", _NOW, "days"),
            Entry("task_retention_days", "Finished imports and tasks", _NOW, "days"),
            Entry("audit_days", "Audit log", _NOW, "days", "AUDIT_DAYS"),
        ),
    ),
    (
        "backups",
        "Backups",
        (
            Entry("backup_dir", "Folder", _NOW),
            Entry("backup_every_h", "Time between backups", _NOW, "h"),
            Entry("backup_keep", "Backups kept", _NOW),
        ),
    ),
    (
        "observation",
        "Monitoring",
        (
            Entry("log_level", "Log level", _RESTART),
            Entry("sample_every_s", "Time between system samples", _NOW, "s"),
            Entry("update_url", "Where to look for updates", _NOW),
            Entry("trace_url", "Address of a trace", _NOW, django="TRACE_URL"),
            Entry("log_format", "Log format", _FIXED),
            Entry("log_file", "Log file", _FIXED),
            Entry("mlflow_tracking_uri", "MLflow server", _FIXED),
        ),
    ),
    (
        "network",
        "Network and storage",
        (
            Entry("host", "Address", _FIXED),
            Entry("port", "Port", _FIXED),
            Entry("ollama_port", "Port of Ollama's API", _FIXED),
            Entry("allowed_hosts", "Host names", _FIXED),
            Entry("cors_origins", "Trusted origins", _FIXED),
            Entry("mcp_key", "Key of run_mcp", _FIXED, secret=True),
            Entry("secret_key", "Secret key", _FIXED, secret=True),
            Entry("storage", "Storage folder", _FIXED),
            Entry("model_folders", "Folders to pick base models from", _FIXED),
            Entry("database_url", "Database", _FIXED),
            Entry("backend", "Backend", _FIXED),
            Entry("debug", "Debug pages", _FIXED),
        ),
    ),
)  # fmt: skip
ENTRIES = {entry.name: entry for _, _, entries in GROUPS for entry in entries}
