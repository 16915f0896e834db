"""The audit log: each change with who made it, with the change or not at all, found again and pruned."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from django.utils import timezone
from structlog.testing import capture_logs

from inference.models import ApiToken
from registry import audit
from registry.audit import Action, Kind
from registry.errors import Conflict
from registry.maintenance import archive, removal
from registry.models import AuditEntry
from registry.promotion.aliases import move_alias
from registry.promotion.rules import add_rule
from tests.registry.build import make_model, make_version

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nobody() -> Any:
    """What a request of an earlier test left in this thread does not act here."""
    token = audit._who.set(None)
    yield
    audit._who.reset(token)


def told() -> list[tuple[str, str, str]]:
    return [(row.action, row.subject, row.who) for row in AuditEntry.objects.order_by("pk")]


def test_promotions_and_rules_name_who_made_them(client: Client) -> None:
    version = make_version()
    model = version.model
    rules = f"/api/models/{model.pk}/rules"
    rule = {"metric": "val_loss", "comparison": "<=", "value": 1}
    made = client.post(rules, rule, content_type="application/json").json()
    _, text = ApiToken.issue("laptop", ApiToken.Scope.MANAGE)
    key = {"Authorization": f"Bearer {text}"}
    client.put(f"{rules}/{made['id']}", rule, content_type="application/json", headers=key)
    call_command("move_alias", "helper", "production", "0.1.0", reason="Best so far")
    client.delete(f"/api/models/{model.pk}/aliases/production", headers=key)
    call_command("promotion_rules", "helper", delete=made["id"])
    assert told() == [
        (Action.RULE_ADDED, "helper@production", "someone at this machine"),
        (Action.RULE_CHANGED, "helper@production", "key laptop"),
        (Action.ALIAS_MOVED, "helper@production", "command move_alias"),
        (Action.ALIAS_DELETED, "helper@production", "key laptop"),
        (Action.RULE_DELETED, "helper@production", "command promotion_rules"),
    ]
    moved = AuditEntry.objects.get(action=Action.ALIAS_MOVED)
    assert moved.detail == "none → 0.1.0: Best so far"


def test_keys_archives_and_deletions_are_kept_in_words(client: Client) -> None:
    user = User.objects.create_superuser("ada", password="right")
    client.force_login(user)
    made = client.post("/api/keys", {"name": "ci"}, content_type="application/json").json()
    client.patch(f"/api/keys/{made['id']}", {"max_running": 2}, content_type="application/json")
    for _ in range(2):  # the second one changes nothing
        client.delete(f"/api/keys/{made['id']}")
    version = make_version()
    archive.archive_version(version)  # as in the request, which has said who acts
    archive.restore_version(version)
    removal.archive_model(version.model)
    removal.unarchive_model(version.model)
    removal.remove_model(version.model, force="helper")
    who = "user ada"
    assert told() == [
        (Action.KEY_CREATED, "ci", who),
        (Action.KEY_CHANGED, "ci", who),
        (Action.KEY_REVOKED, "ci", who),
        (Action.VERSION_ARCHIVED, "helper@0.1.0", who),
        (Action.VERSION_RESTORED, "helper@0.1.0", who),
        (Action.MODEL_ARCHIVED, "helper", who),
        (Action.VERSION_ARCHIVED, "helper@0.1.0", who),
        (Action.VERSION_RESTORED, "helper@0.1.0", who),
        (Action.MODEL_RESTORED, "helper", who),
        (Action.MODEL_DELETED, "helper", who),
    ]
    assert made["text"] not in str(AuditEntry.objects.values_list())


def test_what_is_taken_back_is_neither_recorded_nor_logged(
    django_capture_on_commit_callbacks: Any,
) -> None:
    model = make_model()
    with capture_logs() as lines, django_capture_on_commit_callbacks(execute=True):
        add_rule(model, "val_loss", "<=", 1)
        with pytest.raises(Conflict):
            add_rule(model, "val_loss", "<=", 1)
        with transaction.atomic():
            audit.audit(Action.PIN_CHANGED, "helper")
            transaction.set_rollback(True)
    said = [line["action"] for line in lines if line["event"] == "audit"]
    assert said == [Action.RULE_ADDED]
    assert told() == [(Action.RULE_ADDED, "helper@production", "the hub")]


def test_the_page_and_the_api_filter(client: Client) -> None:
    version = make_version()
    move_alias(version.model, "production", version)
    with audit.acting(Kind.KEY, "laptop"):
        audit.audit(Action.KEY_REVOKED, "ci", "<b>")
    AuditEntry.objects.filter(action=Action.KEY_REVOKED).update(
        created_at=timezone.now() - datetime.timedelta(days=3)
    )
    page = client.get("/system/audit/").content.decode()
    assert "helper@production" in page
    assert "Key laptop" in page
    assert "&lt;b&gt;" in page
    for asked in ("action=alias.moved", "q=HELPER", f"since={timezone.now():%Y-%m-%d}"):
        page = client.get(f"/system/audit/?{asked}").content.decode()
        assert "helper@production" in page
        assert "Key laptop" not in page
    assert "No entry matches" in client.get("/system/audit/?who=nobody").content.decode()
    assert client.get("/system/audit/?since=2026-02-30&before=x").status_code == 200
    found = client.get("/api/audit", {"action": "key", "who": "lap"}).json()
    assert [row["subject"] for row in found["items"]] == ["ci"]
    moment = (timezone.now() - datetime.timedelta(days=1)).isoformat()
    assert client.get("/api/audit", {"until": moment}).json()["count"] == 1
    assert client.get("/api/audit", {"since": moment}).json()["count"] == 1
    assert audit.prune(timezone.now() - datetime.timedelta(days=2)) == 1
    assert len(told()) == 1


def test_the_admin_records_too(admin_client: Client) -> None:
    row, _ = ApiToken.issue("ci", ApiToken.Scope.INFERENCE)
    address = f"/admin/inference/apitoken/{row.pk}"
    admin_client.post(f"{address}/change/", {"name": "ci", "scope": "admin"})
    admin_client.post(f"{address}/delete/", {"post": "yes"})
    rule = add_rule(make_model(), "val_loss", "<=", 1)
    admin_client.post(f"/admin/registry/promotionrule/{rule.pk}/delete/", {"post": "yes"})
    said = [(row.action, row.detail) for row in AuditEntry.objects.order_by("pk")]
    assert said == [
        (Action.KEY_CHANGED, "scope: admin"),
        (Action.KEY_REVOKED, f"{row.prefix}…, deleted"),
        (Action.RULE_ADDED, "val_loss at most 1"),
        (Action.RULE_DELETED, "val_loss at most 1"),
    ]
