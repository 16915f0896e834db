"""Who did what: one row per change that somebody may have to answer for."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class AuditEntry(models.Model):
    """One change, written with it or not at all, and never edited. It names its object in words,
    because the object may be gone."""

    class Actor(models.TextChoices):
        KEY = "key", "API key"
        SESSION = "session", "Signed-in user"
        COMMAND = "command", "Command"
        MACHINE = "machine", "Someone at this machine"
        HUB = "hub", "The hub itself"

    class Action(models.TextChoices):
        ALIAS_MOVED = "alias.moved", "Alias moved"
        ALIAS_DELETED = "alias.deleted", "Alias deleted"
        RULE_ADDED = "rule.added", "Rule added"
        RULE_CHANGED = "rule.changed", "Rule changed"
        RULE_DELETED = "rule.deleted", "Rule deleted"
        VERSION_ARCHIVED = "version.archived", "Version archived"
        VERSION_RESTORED = "version.restored", "Version restored"
        MODEL_ARCHIVED = "model.archived", "Model archived"
        MODEL_RESTORED = "model.restored", "Model restored"
        MODEL_DELETED = "model.deleted", "Model deleted"
        DATASET_DELETED = "dataset.deleted", "Data set deleted"
        KEY_CREATED = "key.created", "Key created"
        KEY_CHANGED = "key.changed", "Key changed"
        KEY_REVOKED = "key.revoked", "Key revoked"
        PIN_CHANGED = "pin.changed", "Pin changed"
        SETTING_CHANGED = "setting.changed", "Setting changed"
        ACCOUNT_CREATED = "account.created", "Account created"
        BACKUP_RESTORED = "backup.restored", "Backup restored"
        DATABASE_MOVED = "database.moved", "Database moved"

    created_at = models.DateTimeField(auto_now_add=True)
    actor_kind = models.CharField(max_length=10, choices=Actor)
    actor = models.CharField(
        max_length=150, blank=True, help_text="Name of the key, the user or the command"
    )
    action = models.CharField(max_length=30)  # no choices: a new one needs no migration
    subject = models.CharField(max_length=300, help_text="What it was done to")
    detail = models.TextField(blank=True)
    correlation_id = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ("-pk",)
        verbose_name_plural = "audit entries"
        indexes: ClassVar = [
            models.Index(fields=["created_at"], name="audit_created"),
            models.Index(fields=["action", "-id"], name="audit_action"),
        ]

    def __str__(self) -> str:
        return f"{self.label}: {self.subject}"

    @property
    def label(self) -> str:
        """The action in words; one of a newer hub is shown as it is written."""
        return dict(AuditEntry.Action.choices).get(self.action, self.action)

    @property
    def who(self) -> str:
        """As a person reads it: "key laptop", "command backup", "someone at this machine"."""
        kinds = AuditEntry.Actor
        words = {kinds.SESSION: "user", kinds.KEY: "key", kinds.COMMAND: "command"}
        if not self.actor:
            return "the hub" if self.actor_kind == kinds.HUB else "someone at this machine"
        return f"{words.get(kinds(self.actor_kind), '')} {self.actor}".strip()
