"""Aliases moved, judged, rolled back and deleted, and the history of it."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from registry.errors import Conflict, Invalid, NotFound
from registry.models import Alias, AliasMove, Model, ModelVersion
from registry.promotion.aliases import delete_alias, move_alias, previous_versions, rollback_alias
from registry.promotion.rules import add_rule, judge
from tests.registry.build import make_model, make_version

pytestmark = pytest.mark.django_db


def measured(model: Model, **metrics: object) -> ModelVersion:
    version = make_version(model)
    ModelVersion.objects.filter(pk=version.pk).update(metrics=metrics)
    version.refresh_from_db()
    return version


def test_a_rule_lets_pass_what_reaches_its_value() -> None:
    model = make_model()
    add_rule(model, "exact_match", ">=", 0.8)
    move = move_alias(model, "production", measured(model, exact_match=0.8))
    assert (move.forced, move.gate[0]["passed"]) == (False, True)


def test_each_rule_that_fails_is_named_with_both_figures() -> None:
    model = make_model()
    add_rule(model, "exact_match", ">=", 0.8)
    add_rule(model, "val_loss", "<=", 0.3)
    add_rule(model, "perplexity", "<=", 9)
    with pytest.raises(Conflict) as refused:
        move_alias(
            model, "production", measured(model, exact_match=0.7, val_loss=0.4, perplexity=2)
        )
    told = str(refused.value)
    assert "exact_match of 0.1.0 is 0.7; it must be at least 0.8" in told
    assert "val_loss of 0.1.0 is 0.4; it must be at most 0.3" in told
    assert "perplexity" not in told
    assert not Alias.objects.exists()
    assert not AliasMove.objects.exists()


@pytest.mark.parametrize("metrics", [{}, {"exact_match": "good"}, {"exact_match": True}])
def test_a_metric_that_is_no_figure_fails_the_rule(metrics: dict[str, object]) -> None:
    model = make_model()
    add_rule(model, "exact_match", ">=", 0)
    with pytest.raises(Conflict, match=r"exact_match of 0\.1\.0 is unknown"):
        move_alias(model, "production", measured(model, **metrics))


def test_the_first_version_passes_relative_rules_and_a_worse_one_does_not() -> None:
    model = make_model()
    add_rule(model, "exact_match", ">=")
    move_alias(model, "production", measured(model, exact_match=0.5))
    worse = measured(model, exact_match=0.4)
    with pytest.raises(Conflict, match=r"is 0\.4; it must be at least 0\.1\.0's 0\.5"):
        move_alias(model, "production", worse)
    move_alias(model, "production", measured(model, exact_match=0.5))


def test_a_relative_rule_fails_when_the_current_version_was_not_measured() -> None:
    model = make_model()
    move_alias(model, "production", measured(model))
    add_rule(model, "exact_match", ">=")
    with pytest.raises(Conflict, match=r"of the current 0\.1\.0 is unknown"):
        move_alias(model, "production", measured(model, exact_match=1))


def test_a_rule_guards_its_own_alias_of_its_own_model() -> None:
    model = make_model()
    add_rule(model, "exact_match", ">=", 1)
    add_rule(make_model("other"), "exact_match", ">=", 1, alias="staging")
    version = measured(model)
    assert move_alias(model, "staging", version).gate == []
    assert len(judge(model, "production", version, None)) == 1


def test_a_forced_move_records_what_refused_it() -> None:
    model = make_model()
    add_rule(model, "exact_match", ">=", 1)
    move = move_alias(model, "production", measured(model, exact_match=0.2), force=True)
    assert (move.forced, move.gate[0]["value"], move.gate[0]["bound"]) == (True, 0.2, 1)


def test_force_is_not_recorded_where_nothing_refused() -> None:
    model = make_model()
    assert move_alias(model, "production", measured(model), force=True).forced is False


def test_a_rollback_returns_to_the_version_before_and_is_a_move() -> None:
    model = make_model()
    one, two = make_version(model), make_version(model)
    move_alias(model, "production", one)
    move_alias(model, "production", two)
    assert previous_versions(model) == {"production": one}
    move = rollback_alias(model, "production", by="ana")
    assert (move.from_version, move.to_version, move.by) == (two, one, "ana")
    assert Alias.objects.get().version == one
    assert AliasMove.objects.count() == 3


def test_a_rule_does_not_stop_a_rollback_but_is_recorded() -> None:
    model = make_model()
    add_rule(model, "exact_match", ">=")
    move_alias(model, "production", measured(model, exact_match=0.4))
    move_alias(model, "production", measured(model, exact_match=0.6))
    assert rollback_alias(model, "production").forced is True


def test_a_second_click_does_not_roll_forward_again() -> None:
    model = make_model()
    for version in [make_version(model), make_version(model)]:
        move_alias(model, "production", version)
    rollback_alias(model, "production", to="0.1.0")
    with pytest.raises(Conflict, match="moved in the meantime"):
        rollback_alias(model, "production", to="0.1.0")


def test_there_may_be_nothing_to_return_to() -> None:
    model = make_model()
    one, two = make_version(model), make_version(model)
    with pytest.raises(NotFound, match="no alias 'production'"):
        rollback_alias(model, "production")
    move_alias(model, "production", one)
    with pytest.raises(Conflict, match="had no earlier version"):
        rollback_alias(model, "production")
    move_alias(model, "production", two)
    ModelVersion.objects.filter(pk=one.pk).update(status="archived")
    with pytest.raises(Conflict, match="is archived"):
        rollback_alias(model, "production")
    assert previous_versions(model) == {}


def test_a_deleted_alias_keeps_its_history_and_comes_back() -> None:
    version = make_version()
    move_alias(version.model, "production", version)
    gone = delete_alias(version.model, "production", by="ana", reason="unused")
    assert (gone.from_version, gone.to_version, gone.by) == (version, None, "ana")
    assert not Alias.objects.exists()
    with pytest.raises(NotFound):
        delete_alias(version.model, "production")
    rollback_alias(version.model, "production")
    assert Alias.objects.get().version == version


def test_the_same_rule_is_made_once() -> None:
    model = make_model()
    add_rule(model, "val_loss", "<=")
    with pytest.raises(Conflict, match="has the rule"):
        add_rule(model, "val_loss", "<=")
    add_rule(model, "val_loss", "<=", 0.5)
    with pytest.raises(Conflict, match="has the rule"):
        add_rule(model, "val_loss", "<=", 0.5)


@pytest.mark.parametrize(
    ("metric", "comparison", "value", "alias"),
    [
        ("", ">=", 1.0, "production"),
        ("m", "=", 1.0, "production"),
        ("m", ">=", float("nan"), "production"),
        ("m", ">=", 1.0, "Bad!"),
    ],
)
def test_a_senseless_rule_is_refused(
    metric: str, comparison: str, value: float, alias: str
) -> None:
    with pytest.raises(Invalid):
        add_rule(make_model(), metric, comparison, value, alias)


def test_the_commands_move_and_roll_back() -> None:
    model = make_model()
    make_version(model), make_version(model)
    out = StringIO()
    call_command("move_alias", "helper", "production", "0.1.0", stdout=out)
    add_rule(model, "exact_match", ">=", 1)
    with pytest.raises(CommandError, match="exact_match"):
        call_command("move_alias", "helper", "production", "0.1.1", stdout=out)
    call_command("move_alias", "helper", "production", "0.1.1", "--force", stdout=out)
    call_command("rollback_alias", "HELPER", "production", "--reason", "worse", stdout=out)
    last = AliasMove.objects.all()[0]
    assert (last.by, last.reason) == ("command line", "worse")
    assert "overriding a promotion rule" in out.getvalue()
    with pytest.raises(CommandError, match="no model 'nope'"):
        call_command("rollback_alias", "nope", "production")
    with pytest.raises(CommandError, match=r"no version '9\.9\.9'"):
        call_command("move_alias", "helper", "production", "9.9.9")
