"""What an operator wants to be woken for, and what to do then: one table for Prometheus' rules
(`deploy/prometheus/rules.yml`, which `.ci/dashboards --write` makes of it) and for the hub's own
dashboard (`hub.monitoring.alerts.firing`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["critical", "warning"]
_ENDED = "sum(increase(hub_inference_requests_total[10m]))"


@dataclass(frozen=True)
class Alert:
    """`expr` is what Prometheus asks, true for `after` before it fires. `fix` says what to do."""

    name: str
    severity: Severity
    expr: str
    after: str
    summary: str
    fix: str


ALERTS = (
    Alert(
        "HubDown",
        "critical",
        'up{job="mlx-model-hub"} == 0',
        "2m",
        "The hub does not answer Prometheus.",
        "Start it with manage.py up; if it runs, check HUB_HOST, HUB_PORT and the token that Prometheus "
        "sends.",
    ),
    Alert(
        "HubDatabaseDown",
        "critical",
        "hub_database_up == 0",
        "1m",
        "The database cannot be reached.",
        "Start PostgreSQL or check DATABASE_URL; with SQLite, check the disk of the storage folder. The hub "
        "continues by itself.",
    ),
    Alert(
        "HubProcessDown",
        "critical",
        "hub_process_up == 0",
        "2m",
        "{{ $labels.process }} is not running.",
        "up restarts it; its last lines in the log say why it ended. Without up, start it with "
        "manage.py run_NAME. manage.py doctor looks for causes.",
    ),
    Alert(
        "HubEngineDown",
        "critical",
        "hub_engine_up == 0",
        "2m",
        "The engine does not answer; no text can be generated.",
        "Look at the engine's last lines in the log. If it keeps ending, lower HUB_MEMORY_BUDGET_GB or unpin "
        "models.",
    ),
    Alert(
        "HubProcessRestarts",
        "warning",
        "increase(hub_process_restarts_total[15m]) > 2",
        "0m",
        "{{ $labels.process }} was restarted several times within 15 minutes.",
        "Its last lines in the log before each start say why. Memory is the most frequent cause: lower "
        "HUB_MEMORY_BUDGET_GB.",
    ),
    Alert(
        "HubDiskLow",
        "warning",
        "hub_disk_free_bytes < 5e9",
        "5m",
        "Less than 5 GB are free on the storage disk.",
        "Run manage.py gc, delete or archive old versions, or move the storage folder to a larger disk.",
    ),
    Alert(
        "HubDiskFull",
        "critical",
        "hub_disk_free_bytes < 2e8",
        "1m",
        "The storage disk is full; jobs fail and answers are not logged.",
        "Free space now: manage.py gc, then old exports and archived versions.",
    ),
    Alert(
        "HubMemoryLow",
        "warning",
        "hub_system_memory_used_bytes / hub_system_memory_total_bytes > 0.95",
        "10m",
        "More than 95 % of the memory is in use.",
        "Unload models (System › Models in memory), close other programs or lower HUB_MEMORY_BUDGET_GB.",
    ),
    Alert(
        "HubRequestsFail",
        "critical",
        f'sum(increase(hub_inference_requests_total{{outcome="failed"}}[10m])) / ({_ENDED} > 10) > 0.05',
        "5m",
        "More than 5 % of the requests fail.",
        "Filter the request log by Failed: each row has its reason. 503 mostly means memory, see System › "
        "Models in memory.",
    ),
    Alert(
        "HubRequestsLate",
        "warning",
        f'sum(increase(hub_inference_requests_total{{outcome="late"}}[10m])) / ({_ENDED} > 10) > 0.05',
        "5m",
        "More than 5 % of the requests miss their deadline.",
        "Raise HUB_REQUEST_DEADLINE_S, ask for fewer tokens, or limit keys that send many requests at once "
        "(System › API keys).",
    ),
    Alert(
        "HubFirstTokenSlow",
        "warning",
        "sum(rate(hub_inference_time_to_first_token_seconds_sum[10m])) / "
        "sum(rate(hub_inference_time_to_first_token_seconds_count[10m])) > 10",
        "10m",
        "Requests wait more than 10 s for their first token.",
        "See whether they wait in the queue or for a model to load (request log); pin models that are used "
        "often, or pause training.",
    ),
    Alert(
        "HubQueueFull",
        "warning",
        "hub_engine_waiting > 0.8 * hub_engine_max_queue",
        "5m",
        "The engine's queue is nearly full; further requests get 429.",
        "Limit keys that send many requests at once (System › API keys), or raise HUB_MAX_QUEUE.",
    ),
    Alert(
        "HubAnswersLost",
        "warning",
        "increase(hub_inference_requests_lost_total[1h]) > 0",
        "0m",
        "Answers are missing from the request log, because the database did not take them.",
        "The hub's log names them and the reason; check the database and its disk.",
    ),
    Alert(
        "HubJobFailed",
        "warning",
        'increase(hub_job_duration_seconds_count{outcome="failed"}[1h]) > 0',
        "0m",
        "A training job failed within the last hour.",
        "Its page says why (Training › Failed); manage.py jobs retry continues from its checkpoint.",
    ),
    Alert(
        "HubJobsStuck",
        "warning",
        'hub_jobs{status="queued"} > 0 and on() hub_jobs{status="running"} == 0',
        "30m",
        "Jobs have been waiting for half an hour while none runs.",
        "The queue (Training) says why each of them waits, mostly memory: unload models or cancel the job "
        "that does not fit.",
    ),
    Alert(
        "HubTaskFailed",
        "warning",
        'increase(hub_task_duration_seconds_count{outcome="failed"}[1h]) > 0',
        "0m",
        "A background task ({{ $labels.task }}) failed within the last hour.",
        "Its page says why and offers a retry; its output is in storage/run/*.log.",
    ),
    Alert(
        "HubBackupOld",
        "warning",
        "hub_backup_age_seconds > 2 * 86400",
        "10m",
        "The newest backup is more than two days old.",
        "The backup's log in storage/run says why there is no newer one; make one with manage.py backup.",
    ),
    Alert(
        "HubMLflowLate",
        "warning",
        "hub_mlflow_outbox_pending > 0",
        "15m",
        "Updates have been waiting for MLflow for a while.",
        "Start the MLflow server or check MLFLOW_TRACKING_URI; updates are sent when it is back.",
    ),
    Alert(
        "HubMLflowRejects",
        "warning",
        "hub_mlflow_outbox_given_up > 0",
        "5m",
        "MLflow rejected updates.",
        "Django's admin (/admin/, MLflow outbox) has the reason of each, and retries them.",
    ),
)


def rules() -> dict[str, Any]:
    """The table as a file of Prometheus' rules."""
    return {
        "groups": [
            {
                "name": "mlx-model-hub",
                "rules": [
                    {
                        "alert": alert.name,
                        "expr": alert.expr,
                        "for": alert.after,
                        "labels": {"severity": alert.severity},
                        "annotations": {"summary": alert.summary, "fix": alert.fix},
                    }
                    for alert in ALERTS
                ],
            }
        ]
    }
