"""Reports by class and by field, against figures worked out by hand."""

from __future__ import annotations

import json

import pytest

from backends.reports import MATRIX, by_class, by_field

pytestmark = pytest.mark.any_database

# expected → given:      a→a a→a a→b  b→b b→c  c→c
PAIRS = [("a", "a"), ("a", "a"), ("a", "b"), ("b", "b"), ("b", " c\n"), ("c", "c")]


def test_the_figures_of_the_classes_are_those_of_scikit_learn() -> None:
    """classification_report(["a"] * 3 + ["b"] * 2 + ["c"], list("aabbcc")) gives the same."""
    found = by_class(PAIRS, "abc")
    assert found["accuracy"] == pytest.approx(4 / 6)
    figures = {one["label"]: one for one in found["classes"]}
    # a: 2 right of 2 given and 3 expected; b: 1 of 2 and 2; c: 1 of 2 and 1
    expected = {"a": (1, 2 / 3, 4 / 5, 3), "b": (1 / 2, 1 / 2, 1 / 2, 2), "c": (1 / 2, 1, 2 / 3, 1)}
    for label, (precision, recall, f1, support) in expected.items():
        one = figures[label]
        assert (one["precision"], one["recall"], one["f1"], one["support"]) == (
            pytest.approx(precision),
            pytest.approx(recall),
            pytest.approx(f1),
            support,
        )
    assert found["macro_f1"] == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)
    assert [one["label"] for one in found["classes"]] == ["a", "b", "c"]


def test_the_matrix_has_a_row_for_each_expected_label() -> None:
    found = by_class(PAIRS, "abc")["matrix"]
    assert (found["labels"], found["columns"]) == (["a", "b", "c"], ["a", "b", "c"])
    assert found["rows"] == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert found["merged"] == 0


def test_a_label_that_is_never_given_or_never_expected_counts_as_0() -> None:
    found = by_class([("a", "a"), ("b", "a")], "abcd")
    assert {one["label"]: one["f1"] for one in found["classes"]} == {
        "a": pytest.approx(2 / 3),
        "b": 0,
    }
    assert found["macro_f1"] == pytest.approx(1 / 3)  # c and d were neither expected nor given
    given = by_class([("a", "c")], "abc")
    assert given["macro_f1"] == 0
    assert [one["support"] for one in given["classes"]] == [1, 0]


def test_an_answer_that_is_no_label_is_wrong_and_no_class() -> None:
    found = by_class([("a", "a"), ("a", "well, perhaps a")], "ab")
    assert found["accuracy"] == 0.5
    assert [one["label"] for one in found["classes"]] == ["a"]
    assert found["matrix"]["columns"] == ["a", "(no label)"]
    assert found["matrix"]["rows"] == [[1, 1]]


def test_the_matrix_of_many_labels_is_bounded_and_loses_no_example() -> None:
    names = [f"label {n:02}" for n in range(50)]
    pairs = [(name, name) for n, name in enumerate(names) for _ in range(60 - n)]
    pairs += [(names[0], names[49]), (names[48], names[49]), (names[48], names[1])]
    found = by_class(pairs, names)
    matrix = found["matrix"]
    assert (len(matrix["labels"]), matrix["columns"][-1]) == (MATRIX + 1, "(other)")
    assert matrix["merged"] == 50 - MATRIX
    assert sum(map(sum, matrix["rows"])) == len(pairs)
    assert matrix["rows"][0][-1] == 1
    assert matrix["rows"][-1][1] == 1
    assert len(found["classes"]) == 50


def test_fields_are_counted_over_all_answers() -> None:
    pairs = [
        (
            json.dumps({"day": "friday", "who": ["Ana", "Bo"]}),
            json.dumps({"day": "friday", "who": ["Ana", "Cy"], "mood": "glad"}),
        ),
        (json.dumps({"day": "monday"}), '```json\n{"day": "sunday"}\n```'),
        (json.dumps({"day": "tuesday", "at": {"hour": 9}}), "no JSON"),
    ]
    found = by_field(pairs)
    figures = {
        one["field"]: (one["precision"], one["recall"], one["support"]) for one in found["fields"]
    }
    assert figures == {
        "day": (1 / 2, 1 / 3, 3),
        "who[]": (1 / 2, 1 / 2, 2),
        "at.hour": (0, 0, 1),
        "mood": (0, 0, 0),
    }
    # 2 right of 5 given and 6 expected
    assert found["precision"] == pytest.approx(2 / 5)
    assert found["recall"] == pytest.approx(2 / 6)
    assert found["f1"] == pytest.approx(4 / 11)


def test_a_report_of_no_json_is_empty() -> None:
    assert by_field([("Paris", "Paris")]) == {}


def test_whole_values_and_odd_names_have_a_name() -> None:
    found = by_field([("[1, 2]", "[1, 3]"), ("7", "7"), (json.dumps({"a\0b": 1}), "{}")])
    assert {one["field"] for one in found["fields"]} == {"[]", "(whole answer)", "a\ufffdb"}
