"""What many answers say together: a report by class, and one by field of a JSON answer.

Knows expected and given texts, neither models nor tokens.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from backends.scorers import fields_of

MATRIX = 20
"""Labels of a confusion matrix; the rarer ones share the row and column OTHER."""
FIELDS = 100  # that a report keeps
OTHER, NO_LABEL = "(other)", "(no label)"
_WIDTH = 120  # characters of a field's name

type Pairs = Sequence[tuple[str, str]]
"""(expected, given) of each example."""


def by_class(pairs: Pairs, labels: Collection[str]) -> dict[str, Any]:
    """`accuracy`, `macro_f1`, `classes` (label, precision, recall, f1, support; the most frequent
    first) and a confusion `matrix`, of at least one pair.

    As scikit-learn's classification_report: a ratio without a denominator is 0, and the macro
    average is over the labels that were expected or given. An answer that is none of `labels`, nor
    expected anywhere, is wrong and no class of its own.
    """
    plain = [(_clean(expected), _clean(given)) for expected, given in pairs]
    known = {*labels, *(expected for expected, _ in plain)}
    said = [(expected, given if given in known else None) for expected, given in plain]
    support = Counter(expected for expected, _ in said)
    given = Counter(given for _, given in said if given is not None)
    right = Counter(expected for expected, given in said if expected == given)
    classes = [
        _ratios(right[label], given[label], support[label]) | {"label": label}
        for label in sorted(support.keys() | given.keys(), key=lambda one: (-support[one], one))
    ]
    return {
        "accuracy": right.total() / len(pairs),
        "macro_f1": sum(one["f1"] for one in classes) / len(classes),
        "classes": classes,
        "matrix": _matrix(said, [one["label"] for one in classes]),
    }


def _clean(text: str) -> str:
    return text.strip().replace("\0", "\ufffd")  # PostgreSQL cannot store NUL


def _matrix(said: Sequence[tuple[str, str | None]], labels: list[str]) -> dict[str, Any]:
    """`rows` of counts, each an expected label of `labels` by the given ones in `columns`. OTHER,
    which stands for `merged` rare labels, and NO_LABEL come last where they are needed."""
    shown = labels if len(labels) <= MATRIX + 1 else labels[:MATRIX]
    merged = len(labels) - len(shown)
    names = [*shown, *([OTHER] if merged else [])]
    place: dict[str | None, int] = {label: n for n, label in enumerate(shown)}
    unlabelled = any(given is None for _, given in said)
    if unlabelled:
        place[None] = len(names)
    width = len(names) + unlabelled
    rows = [[0] * width for _ in names]
    for expected, given in said:
        rows[place.get(expected, len(shown))][place.get(given, len(shown))] += 1
    columns = [*names, *([NO_LABEL] if unlabelled else [])]
    return {"labels": names, "columns": columns, "rows": rows, "merged": merged}


def by_field(pairs: Pairs) -> dict[str, Any]:
    """`precision`, `recall` and `f1` over all fields, and the same with `support` for each of
    `fields`, where an item of a list is named by its list: `guests[]`.

    A field is right when the answer has it in the same place with the same value. Pairs whose
    expected answer is not JSON are left out; an answer that is not JSON has no field. {} when no
    pair is left.
    """
    support: Counter[str] = Counter()
    given: Counter[str] = Counter()
    right: Counter[str] = Counter()
    read = 0
    for expected, answer in pairs:
        wanted = fields_of(expected)
        if wanted is None:
            continue
        read += 1
        said = fields_of(answer) or Counter()
        for found, counted in ((support, wanted), (given, said), (right, wanted & said)):
            for (path, _), times in counted.items():
                found[_name(path)] += times
    if not read:
        return {}
    names = sorted(support.keys() | given.keys(), key=lambda name: (-support[name], name))
    fields = [
        _ratios(right[name], given[name], support[name]) | {"field": name}
        for name in names[:FIELDS]
    ]
    whole = _ratios(right.total(), given.total(), support.total())
    return {**whole, "fields": fields, "more": max(0, len(names) - FIELDS)}


def named_fields(answer: str) -> list[tuple[str, str]]:
    """The leaves of a JSON answer as (name, value), each item of a list by its number; [] for other
    text."""
    leaves = list(fields_of(answer) or ())
    return [(_name(path, numbered=True), _shown(value)) for path, value in leaves]


def _shown(value: str) -> str:
    """A leaf's JSON as a person reads it: a text without quotes, a whole number without a point."""
    plain = json.loads(value)
    if isinstance(plain, float) and plain.is_integer():
        plain = int(plain)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _name(path: Sequence[str | int], *, numbered: bool = False) -> str:
    """`("guests", 0, "name")` → `guests[].name`."""
    return _clean("".join(_parts(path, numbered)).removeprefix("."))[:_WIDTH] or "(whole answer)"


def _parts(path: Sequence[str | int], numbered: bool) -> Iterator[str]:
    for part in path:
        number = part if numbered else ""
        yield f"[{number}]" if isinstance(part, int) else f".{part}"


def _ratios(right: int, given: int, support: int) -> dict[str, Any]:
    return {
        "precision": right / given if given else 0.0,
        "recall": right / support if support else 0.0,
        "f1": 2 * right / (given + support) if given + support else 0.0,
        "support": support,
    }
