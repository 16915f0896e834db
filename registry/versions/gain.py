"""What a version gained, in one sentence: over its base on the same held-out examples, and over the
version in production where both were scored on the same ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from registry.errors import HubError
from registry.models import ModelVersion
from registry.storage import artifacts, paths
from registry.versions.comparison import by_weight
from registry.versions.measures import Measure, measure

SHOWN = 3  # answers beside the sentence
_DECIDING = ("exact_match", "contains", "f1", "perplexity")
_SURE = 1.96  # standard errors, of 95 %

type Tone = Literal["ok", "warn", "bad", ""]


@dataclass(frozen=True)
class Gain:
    """`sentence` is what was gained over the base, `beside` how it stands to production, `about` on
    what it was measured, and `todo` what to do where it was not. `metric` is the figure that decides;
    empty when nothing was measured."""

    sentence: str
    beside: str = ""
    about: str = ""
    todo: str = ""
    tone: Tone = ""
    metric: str = ""


def deciding(version: ModelVersion) -> str:
    """The measured figure that decides about a version: what its model's task asks for, else exact
    answers, else the perplexity; empty when none was measured."""
    wanted = (*version.model.task.metrics, *_DECIDING)
    return next((name for name in wanted if _number(version, name) is not None), "")


def gain(version: ModelVersion, production: ModelVersion | None = None) -> Gain:
    """Both with their model, data set and scores; `production` is None when no version is there."""
    if not (name := deciding(version)):
        return _unmeasured(version)
    one, value, base = measure(name), _number(version, name), _number(version, f"base_{name}")
    assert value is not None
    rows = _rows(version) if name != "perplexity" else None
    sentence, tone = _over_base(one, value, base, rows)
    return Gain(
        sentence=sentence,
        beside=_beside(name, version, production),
        about=_about(version, name, base is not None),
        tone=tone,
        metric=name,
        todo=_todo(version, name),
    )


def _over_base(
    one: Measure, value: float, base: float | None, rows: int | None
) -> tuple[str, Tone]:
    said = one.say(value)
    if base is None:
        return _capital(f"{said}; its base was not measured."), ""
    had = one.show(base)
    if had == one.show(value):
        return f"No better than its base: {said}, as the base.", "warn"
    if (value > base) != one.higher:
        return f"Worse than its base: {said}; the base has {had}.", "bad"
    if by_chance(one, value, base, rows):
        few = f"which may be chance with {rows} examples"
        return _capital(f"{said}; the base has {had}, {few}."), "warn"
    return _capital(f"{said}; the base has {had}."), "ok"


def _beside(name: str, version: ModelVersion, production: ModelVersion | None) -> str:
    """How it stands to production, and why that cannot be said where it cannot."""
    if production is None:
        return "No version is in production yet."
    if production.pk == version.pk:
        return "It is in production."
    number = f"{production.version} in production"
    common = [
        (key, value, other)
        for key in dict.fromkeys((name, *_DECIDING))
        if (value := _number(version, key)) is not None
        and (other := _number(production, key)) is not None
    ]
    if not common:
        return f"{number} was not measured so; the two cannot be compared."
    key, value, other = common[0]
    one, rows = measure(key), _rows(version)
    by = "" if key == name and one.share else f"By {one.label.lower()}, "
    if not same_examples(version, production, key):
        return f"{number} has {one.show(other)}, but on other examples; the two cannot be compared."
    if one.show(other) == one.show(value):
        return _capital(f"{by}as good as {number}.")
    better = "better" if (value > other) == one.higher else "worse"
    few = (
        f", but with {rows} examples that may be chance"
        if by_chance(one, value, other, rows)
        else ""
    )
    return _capital(f"{by}{_difference(one, value - other)} {better} than {number}{few}.")


def _difference(one: Measure, by: float) -> str:
    if not one.share:
        return one.show(abs(by))
    points = abs(100 * by)
    said = f"{points:.0f}" if points >= 1 else f"{points:.1f}"
    return f"{said} {'point' if said == '1' else 'points'}"


def by_chance(one: Measure, value: float, other: float, rows: int | None) -> bool:
    """Whether two shares of `rows` examples differ by no more than chance makes them, in 95 of 100
    cases. Figures that count no examples, and unknown numbers of examples, are taken as they are."""
    if not one.counted or not rows:
        return False
    # Agresti and Caffo: one more right and one more wrong answer each, so that 0 of 5 is not certain.
    shares = [(share * rows + 1) / (rows + 2) for share in (value, other)]
    error = math.sqrt(sum(share * (1 - share) for share in shares) / (rows + 2))
    return abs(shares[0] - shares[1]) <= _SURE * error


def same_examples(one: ModelVersion, other: ModelVersion, metric: str) -> bool:
    """Whether both were scored on the same held-out examples."""
    scored = ("scorer", "examples")
    if metric != "perplexity" and any(
        one.evaluation.get(name) != other.evaluation.get(name) for name in scored
    ):
        return False
    if one.dataset_checksum and one.dataset_checksum == other.dataset_checksum:
        return True
    digests = [_held_out(version) for version in (one, other)]
    return digests[0] == digests[1] != ""


def _held_out(version: ModelVersion) -> str:
    """The digest of its data set's test split; empty when it has none or it cannot be read."""
    if version.dataset is None:
        return ""
    try:
        files = artifacts.read_manifest(paths.absolute(version.dataset.path)).files
    except (HubError, OSError):  # the data set's own page says what is wrong with it
        return ""
    file = files.get("test.jsonl")
    return file.sha256 if file else ""


def _about(version: ModelVersion, name: str, both: bool) -> str:
    data = f" of {version.dataset}" if version.dataset else ""
    if name == "perplexity":
        return f"Measured on the held-out text{data}; lower is better."
    if rows := _rows(version):
        same = ", the same for both" if both else ""
        return f"Measured on {rows:,} held-out examples{data}{same}."
    return f"Measured on held-out examples{data}."


def _todo(version: ModelVersion, name: str) -> str:
    """What is missing although something was measured."""
    if name != "perplexity":
        return ""
    return f"Its answers were not scored. {_why(version)}"


def _unmeasured(version: ModelVersion) -> Gain:
    status = ModelVersion.Status
    if version.status == status.TRAINING:
        return Gain("It is still training.", about="Its scores appear here when the job has ended.")
    if version.status == status.FAILED:
        return Gain(
            "Its job failed, so there is nothing to try.",
            todo="The job's page says why, and retries it.",
            tone="bad",
        )
    return Gain(
        "Nothing was measured, so what it gained is unknown.", todo=_why(version), tone="warn"
    )


def _why(version: ModelVersion) -> str:
    record = (
        "Or record figures of your own with POST "
        f"/api/models/{version.model_id}/versions/{version.version}/metrics."
    )
    if problem := str(version.evaluation.get("problem") or ""):
        return f"{problem} Train it again once that is right. {record}"
    scoring = version.params.get("scoring") or {}
    if scoring.get("scorer") == "none":
        return f"Scoring was off for its job: choose a scorer when you train again. {record}"
    if version.dataset and not version.dataset.splits.get("test"):
        return f"{version.dataset.name} has no test split: add one and train again. {record}"
    return f"Train it again with a test split and a scorer. {record}"


# ----------------------------------------------------------------------- sample answers


def telling(samples: Sequence[Mapping[str, Any]], most: int = SHOWN) -> list[Mapping[str, Any]]:
    """The kept answers that say most: those it got right and the base did not, and one that it still
    gets wrong where there is one. In the order of the examples."""
    wrong = [one for one in samples if one.get("tuned_score", 1) < 1]
    gained = [one for one in samples if one.get("tuned_score", 0) > one.get("base_score", 0)]
    right = [one for one in gained if one not in wrong]
    chosen = [*right[: most - bool(wrong)], *wrong[:1]]
    rest = [one for one in samples if one not in chosen]
    chosen += rest[: most - len(chosen)]
    return [one for one in samples if one in chosen]


# ----------------------------------------------------------------------- figures


def _rows(version: ModelVersion) -> int | None:
    rows = version.evaluation.get("examples")
    return rows if isinstance(rows, int) and rows > 0 else None


def _number(version: ModelVersion, name: str) -> float | None:
    value = version.metrics.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


@dataclass(frozen=True)
class Row:
    """One figure of a version, of its base and of the version in production; None where unknown."""

    name: str
    label: str
    value: Any
    base: Any
    production: Any


def table(version: ModelVersion, production: ModelVersion | None) -> list[Row]:
    """Every figure of a version once, what decides first; the base's stand beside them. Counts of
    lost examples are left out where none was lost, and what clients need has a page of its own."""
    names = dict.fromkeys((*version.model.task.metrics, *by_weight(version.metrics)))
    rows = []
    for name in names:
        plain = name.removeprefix("base_")
        beside = name.startswith("base_") and plain in version.metrics
        if name not in version.metrics or beside or name.startswith(("client_", "clients_")):
            continue
        value = version.metrics[name]
        if not value and name.endswith(("_dropped", "_truncated", "_broken")):
            continue
        other = production.metrics.get(name) if production else None
        base = version.metrics.get(f"base_{name}")
        rows.append(Row(name, measure(name).label, value, base, other))
    return rows
