"""Which files answer under which name."""

from __future__ import annotations

import pytest

from registry.errors import Conflict, NotFound
from registry.models import BaseModel, ModelVersion
from registry.promotion.aliases import move_alias
from registry.promotion.resolve import resolve, served_names
from registry.storage import paths
from registry.versions.lifecycle import fail_version
from tests.registry.build import begin, make_base, make_model, make_version

pytestmark = pytest.mark.django_db


def test_a_bare_name_is_the_newest_ready_version_by_number() -> None:
    model = make_model()
    versions = [make_version(model, iters=n) for n in range(11)]
    begin(model, iters=99)
    assert versions[-1].version == "0.11.0"
    assert resolve("helper").version == versions[-1]


def test_production_goes_before_newer_versions() -> None:
    model = make_model()
    one = make_version(model)
    make_version(model)
    move_alias(model, "production", one)
    assert resolve("helper").version == one


def test_a_version_and_an_alias_are_named_after_an_at() -> None:
    model = make_model()
    one, two = make_version(model), make_version(model)
    move_alias(model, "canary", two)
    served = resolve("helper@0.1.0")
    assert served.version == one
    assert served.adapter_path == paths.absolute(one.artifact_path)
    assert served.base_path == paths.absolute(model.base_model.path)
    assert resolve("Helper@canary").version == two


def test_a_base_answers_alone() -> None:
    base = make_base("tiny")
    served = resolve("base:tiny")
    assert (served.base, served.version, served.adapter_path) == (base, None, None)
    assert served.base_path == paths.base_dir("tiny")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nope", "no model 'nope'. Available: helper, base:helper-base."),
        ("", "no model ''"),
        ("helper@9.9.9", "'9.9.9'. Available: production, 0.1.0."),
        ("helper@canary", "'canary'. Available: production, 0.1.0."),
        ("helper@", "no version or alias ''"),
        ("helper@0.1.0@production", "no version or alias"),
        ("base:nope", "no base model 'nope'. Available: base:helper-base."),
        ("../helper", "no model '../helper'"),
    ],
)
def test_an_unknown_name_is_answered_with_what_exists(name: str, told: str) -> None:
    version = make_version()
    move_alias(version.model, "production", version)
    with pytest.raises(NotFound) as caught:
        resolve(name)
    assert told in str(caught.value)


def test_what_is_not_ready_is_not_served() -> None:
    version = begin()
    with pytest.raises(Conflict, match="no version that is ready"):
        resolve("helper")
    with pytest.raises(Conflict, match="is training"):
        resolve("helper@0.1.0")
    fail_version(version)
    with pytest.raises(Conflict, match="is failed"):
        resolve("helper@0.1.0")


def test_a_version_keeps_the_base_it_was_trained_on() -> None:
    version = make_version()
    version.model.base_model = make_base("another")
    version.model.save()
    assert resolve("helper").base.name == "helper-base"


def test_every_served_name_resolves_to_what_it_says() -> None:
    one, two = make_version(make_model("one")), make_version(make_model("two"))
    make_version(one.model)
    begin(two.model)
    move_alias(one.model, "production", one)
    names = served_names()
    assert [served.label for served in names] == [
        "one",
        "one@production",
        "one@0.1.1",
        "one@0.1.0",
        "two",
        "two@0.1.0",
        "base:one-base",
        "base:two-base",
    ]
    for name in names:
        version = resolve(name.label).version
        assert (version.version if version else "") == name.version


def test_of_very_many_versions_only_names_and_other_aliases_are_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make_model("one")
    first, _, last = (make_version(model) for _ in range(3))
    move_alias(model, "production", first)
    move_alias(model, "staging", last)
    make_version(make_model("two"))
    monkeypatch.setattr("registry.promotion.resolve.LISTED", 2)
    names = {name.label: name.version for name in served_names(most=2)}
    assert names == {
        "one": "0.1.0",
        "one@staging": last.version,
        "two": "0.1.0",
        "base:one-base": "",
        "base:two-base": "",
    }
    assert next(name.label for name in served_names("tw", most=1)) == "two"


def test_listing_takes_the_same_few_queries_for_many_versions(
    django_assert_max_num_queries: object,
) -> None:
    model = make_model()
    for _ in range(5):
        move_alias(model, "production", make_version(model))
    with django_assert_max_num_queries(4):  # type: ignore[operator]
        assert len(served_names()) == 8
    assert ModelVersion.objects.count() == 5


def test_base_models_are_available_where_there_is_no_model() -> None:
    with pytest.raises(NotFound, match="There is none yet"):
        resolve("anything")
    make_base("tiny")
    for name in ("anything", "base:anything"):
        with pytest.raises(NotFound, match=r"Available: base:tiny\."):
            resolve(name)


def test_every_name_has_the_context_of_its_base() -> None:
    version = make_version()
    BaseModel.objects.update(context_length=4096)
    other = make_base("tiny").context_length
    move_alias(version.model, "production", version)
    lengths = {name.label: name.context_length for name in served_names()}
    assert lengths.pop("base:tiny") == other != 4096
    assert set(lengths.values()) == {4096}
    assert resolve(version.model.name).name.context_length == 4096
