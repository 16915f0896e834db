"""What a person can do with models from the command line."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from registry.models import AliasMove, Model, PromotionRule
from registry.promotion.aliases import move_alias
from tests.registry.build import make_base, make_version

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


def run(name: str, *arguments: str, **options: Any) -> str:
    out = StringIO()
    call_command(name, *arguments, stdout=out, **options)
    return out.getvalue()


def test_a_model_is_registered_changed_found_and_deleted(tmp_path: Path) -> None:
    make_base("tiny")
    assert "helper is registered on tiny." in run(
        "register_model", "helper", "--task", "code", "--tag", "[red]", "--tag", "json"
    )
    with pytest.raises(CommandError, match="already a model named HELPER"):
        run("register_model", "HELPER")
    words = tmp_path / "words.md"
    words.write_text("Times without a day mean today.")
    run("change_model", "helper", "--description", "Helps", "--card-notes", str(words))
    model = Model.objects.get()
    assert (model.description, model.task_type, model.tags) == ("Helps", "code", ["[red]", "json"])
    assert model.card_notes == "Times without a day mean today."
    listed = run("list_models", "help", "--tag", "json")
    assert "helper" in listed
    assert "[red]" in listed
    assert "helper" not in run("list_models", "--task", "chat")
    run("change_model", "helper", "--tags", "")
    with pytest.raises(CommandError, match="Give at least one change"):
        run("change_model", "helper")
    assert "helper is deleted" in run("remove_model", "helper")
    assert not Model.objects.exists()


def test_a_model_with_versions_is_archived_and_deleted_by_name_alone() -> None:
    make_version()
    assert "helper is archived" in run("remove_model", "helper")
    listed = run("list_models", "--status", "all")
    assert listed == "helper (archived)\tchat\thelper-base\t\t\t1\t\n"
    assert run("list_models") == ""
    with pytest.raises(CommandError, match="type its exact name"):
        run("remove_model", "helper", "--force", "other")
    assert "helper is deleted" in run("remove_model", "helper", "--force", "helper")
    assert not Model.objects.exists()


def test_notes_are_written_and_read() -> None:
    version = make_version()
    assert "There are none" in run("write_notes", str(version))
    run("write_notes", str(version), "Best on short requests")
    assert "Best on short requests" in run("write_notes", str(version))


def test_rules_are_added_listed_and_deleted() -> None:
    make_version()
    assert "has no rule" in run("promotion_rules", "helper")
    run("promotion_rules", "helper", "--at-least", "exact_match", "current")
    said = run("promotion_rules", "helper", "--at-most", "val_loss", "0.5", "--alias", "staging")
    assert "production needs exact_match at least the current version's" in said
    assert "staging needs val_loss at most 0.5" in said
    with pytest.raises(CommandError, match="is not a number"):
        run("promotion_rules", "helper", "--at-most", "val_loss", "low")
    for rule in PromotionRule.objects.all():
        run("promotion_rules", "helper", "--delete", str(rule.pk))
    assert not PromotionRule.objects.exists()
    with pytest.raises(CommandError, match="no promotion rule 1"):
        run("promotion_rules", "helper", "--delete", "1")


def test_an_alias_is_deleted_and_its_history_told() -> None:
    version = make_version()
    move_alias(version.model, "staging", version, by="ada", reason="First that answers")
    run("delete_alias", "helper", "staging", "--reason", "Not needed")
    assert AliasMove.objects.filter(to_version=None, by="command line").exists()
    said = run("history", "helper")
    assert "staging 0.1.0 by ada: First that answers" in said
    assert "staging 0.1.0 → deleted by command line: Not needed" in said
