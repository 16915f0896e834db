"""Settings as people see and change them: on the page, over the API, by the command."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.test import Client

from hub import config as configuration
from hub.config import Config, config, load
from hub.monitoring.sampler import Sampler
from hub.preferences import changing, values
from hub.preferences.table import ENTRIES, GROUPS, Effect
from inference.models import ApiToken
from registry.models import AuditEntry

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]
JSON = "application/json"


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test changes of this process counts for it alone."""
    kept = dict(config.__dict__)
    django = {e.django: getattr(django_settings, e.django) for e in ENTRIES.values() if e.django}
    for name in [name for name in os.environ if name.startswith("HUB_LOG")]:
        monkeypatch.delenv(name)
    yield
    config.__dict__.update(kept)
    for name, value in django.items():
        setattr(django_settings, name, value)
    changing._read = None


def patch(client: Client, **body: Any) -> Any:
    return client.patch("/api/settings", body, content_type=JSON)


def listed(client: Client, name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = client.get("/api/settings").json()
    return next(one for one in found if one["name"] == name)


def said(answer: Any) -> str:
    return str(answer.json()["error"]["message"])


def test_every_setting_is_listed_once_and_described() -> None:
    names = [entry.name for _, _, entries in GROUPS for entry in entries]
    assert sorted(names) == sorted(Config.model_fields)
    for entry in ENTRIES.values():
        assert Config.model_fields[entry.name].description, entry.name
        assert not entry.django or hasattr(django_settings, entry.django)


def test_what_django_reads_at_use_is_changed_with_it() -> None:
    """A setting that counts at once is read from the configuration, or has its name in Django's."""
    mapped = (configuration.ROOT / "hub/settings.py").read_text()
    for entry in ENTRIES.values():
        if entry.effect is Effect.NOW and f"= config.{entry.name}\n" in mapped:
            assert entry.django == entry.name.upper(), entry.name


@pytest.mark.both_databases
def test_a_change_counts_at_once_is_kept_and_recorded(client: Client, storage: Path) -> None:
    answer = patch(client, log_retention_days=30, log_prompts=True)
    assert [one["value"] for one in answer.json()] == ["true", "30"]
    assert config.log_retention_days == 30
    assert django_settings.LOG_PROMPTS is True
    assert json.loads((storage / "settings.json").read_text()) == {
        "log_prompts": True,
        "log_retention_days": 30,
    }
    assert load(storage=storage).log_prompts is True  # the next start
    entry = AuditEntry.objects.get(subject="HUB_LOG_RETENTION_DAYS")
    assert (entry.action, entry.detail) == ("setting.changed", "90 → 30")
    shown = listed(client, "log_prompts")
    assert (shown["source"], shown["default"], shown["takes_effect"]) == ("saved", "false", "now")


def test_null_and_the_default_itself_take_back_what_was_saved(
    client: Client, storage: Path
) -> None:
    patch(client, audit_days=10, backup_keep=3)
    patch(client, audit_days=None, backup_keep=7)
    assert json.loads((storage / "settings.json").read_text()) == {}
    assert django_settings.AUDIT_DAYS == 365
    assert listed(client, "audit_days")["source"] == "default"
    assert patch(client, audit_days=365).json() == []  # nothing is different
    assert AuditEntry.objects.count() == 4


def test_a_change_may_wait_for_a_restart(client: Client, storage: Path) -> None:
    patch(client, max_queue=128)
    shown = listed(client, "max_queue")
    assert (shown["value"], shown["after_restart"]) == ("64", "128")
    assert config.max_queue == 64
    assert load(storage=storage).max_queue == 128


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("log_retention_days", 0, "Request log must be greater than or equal to 1, not 0."),
        ("backup_keep", "many", 'Backups kept must be an integer, not "many".'),
        ("kv_bits", "5", 'KV cache quantization must be 4 or 8, not "5".'),
        ("trace_url", "here", "Address of a trace: write an address such as "),
        ("phone_regions", "us", "Countries of phone numbers: 'us' is no country"),
        ("backup_dir", "STORAGE/backups", "HUB_BACKUP_DIR is inside the storage folder"),
        ("log_promts", "true", "log_promts is no setting; the page Settings"),
    ],
)
def test_a_wrong_value_is_refused_in_words(
    client: Client, storage: Path, name: str, value: Any, sentence: str
) -> None:
    if isinstance(value, str):
        value = value.replace("STORAGE", str(storage))
    answer = patch(client, audit_days=3, **{name: value})
    assert answer.status_code == 422
    assert said(answer).startswith(sentence)
    assert not (storage / "settings.json").exists()  # the other one neither
    assert not AuditEntry.objects.exists()


def test_what_the_environment_or_a_file_sets_is_not_changed_here(
    client: Client, storage: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "settings.env"
    file.write_text("HUB_AUDIT_DAYS=5\n")
    monkeypatch.setattr(configuration, "ENV_FILES", (file,))
    monkeypatch.setenv("HUB_BACKUP_KEEP", "2")
    for name, where in (("audit_days", str(file)), ("backup_keep", "the environment")):
        answer = patch(client, **{name: 9})
        assert answer.status_code == 409
        assert f"is set in {where}" in said(answer)
    assert listed(client, "audit_days")["origin"] == str(file)
    assert not listed(client, "backup_keep")["changeable"]
    assert "before the hub starts" in said(patch(client, host="0.0.0.0"))
    body = client.get("/settings/?in=retention").content.decode()
    assert f"set in <code>{file}</code>" in body
    assert 'name="audit_days"' not in body
    assert 'name="log_retention_days"' in body


def test_secrets_are_hidden(client: Client) -> None:
    url = "postgres://ada:pass@word@db:5432/hub?password=abc&sslmode=require"
    hidden = values.without_password(url)
    assert hidden == "postgres://ada:••••••••@db:5432/hub?password=••••••••&sslmode=require"
    config.__dict__.update(secret_key="top", mcp_key="hub-abc", database_url=url)
    for address in ("/settings/?in=network", "/api/settings"):
        body = client.get(address).content.decode()
        assert not any(text in body for text in ("top<", '"top"', "hub-abc", "pass@word"))


def test_the_page_saves_a_group_and_keeps_what_was_typed(client: Client) -> None:
    form = {"backup_dir": "", "backup_every_h": "12", "backup_keep": "0"}
    answer = client.post("/settings/?in=backups", form)
    assert answer.status_code == 422
    body = answer.content.decode()
    assert "Backups kept must be greater than or equal to 1, not &quot;0&quot;." in body
    assert 'value="12"' in body  # typed, and not saved
    assert config.backup_every_h == 24
    answer = client.post("/settings/?in=backups", form | {"backup_keep": "7"}, follow=True)
    assert "Saved: Time between backups. Takes effect at once." in answer.content.decode()
    assert config.backup_every_h == 12
    assert AuditEntry.objects.count() == 1
    answer = client.post("/settings/?in=requests", {"max_queue": "9"}, follow=True)
    assert "Takes effect when the hub is restarted." in answer.content.decode()
    assert "Restart needed" in answer.content.decode()


def test_the_command_does_the_same(capsys: pytest.CaptureFixture[str], client: Client) -> None:
    call_command("settings", "HUB_SAMPLE_RETENTION_DAYS", "100")
    assert "Saved. Takes effect at once." in capsys.readouterr().out
    assert AuditEntry.objects.get().who == "command settings"
    call_command("settings")
    lines = capsys.readouterr().out.splitlines()
    assert any("HUB_SAMPLE_RETENTION_DAYS" in x and "100 days  (saved" in x for x in lines)
    call_command("settings", "sample_retention_days", "--default")
    assert config.sample_retention_days == 365
    with pytest.raises(CommandError, match="must be an integer"):
        call_command("settings", "sample_retention_days", "soon")


def test_other_processes_take_it_over(client: Client, storage: Path) -> None:
    """The sampler at its next beat, the web process with its next request."""
    for number, look in ((11, Sampler().beat), (12, lambda: client.get("/api/bases"))):
        (storage / "settings.json").write_text(json.dumps({"task_retention_days": number}))
        look()
        assert config.task_retention_days == number


def test_a_damaged_file_changes_nothing_and_a_wrong_value_says_where_it_is(
    client: Client,
    storage: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (storage / "settings.json").write_text("{")
    assert client.get("/api/settings").status_code == 200
    (storage / "settings.json").write_text('{"audit_days": 0}')
    monkeypatch.setenv("HUB_STORAGE", str(storage))
    with pytest.raises(SystemExit):
        load()
    where = storage / "settings.json"
    assert capsys.readouterr().err.startswith(f"HUB_AUDIT_DAYS (saved in {where}): ")


def test_beyond_loopback_only_an_admin_may(client: Client, settings: Any) -> None:
    settings.IS_LOOPBACK = False
    settings.ALLOWED_HOSTS = ["testserver"]
    for scope, status in ((ApiToken.Scope.MANAGE, 403), (ApiToken.Scope.ADMIN, 200)):
        headers = {"Authorization": f"Bearer {ApiToken.issue(scope.value, scope)[1]}"}
        assert client.get("/api/settings", headers=headers).status_code == status
        answer = client.patch("/api/settings", {}, content_type=JSON, headers=headers)
        assert answer.status_code == status
    assert client.get("/settings/").status_code == 302
