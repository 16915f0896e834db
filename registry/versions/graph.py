"""A version's lineage as nodes and edges: what it was made from, and what was made of it.

What a row does not record is a node that says unknown; nothing is concluded from other rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse

from registry.models import ModelVersion

_SHOWN = 6  # of a kind; the rest is one node that counts them


@dataclass(frozen=True)
class Node:
    """`column` counts from the origin (0) to the derived bases (4); without `known` the text says unknown."""

    id: str
    kind: str
    label: str
    detail: str = ""
    url: str = ""
    column: int = 0
    known: bool = True


@dataclass(frozen=True)
class Edge:
    """`source` led to `target`; both are ids of nodes."""

    source: str
    target: str
    relation: str


@dataclass(frozen=True)
class Graph:
    nodes: list[Node]
    edges: list[Edge]


def graph(version: ModelVersion) -> Graph:
    """Base → data set → job → version → aliases → requests, with parent and descendants."""
    nodes = [_base(version), _dataset(version), _job(version)]
    edges = [
        Edge("base", "job", "adapted by"),
        Edge("dataset", "job", "trained on by"),
        Edge("job", "version", "made"),
    ]
    if version.parent:  # most versions start from the base; then there is none to show
        nodes.append(_version_node("parent", "parent version", version.parent, column=0))
        edges.append(Edge("parent", "job", "continued by"))
    nodes.append(_version_node("version", "version", version, column=2))

    for alias in version.aliases.all():
        url = version.model.get_absolute_url()
        nodes.append(Node(f"alias-{alias.name}", "alias", alias.name, "points here", url, 3))
        edges.append(Edge("version", f"alias-{alias.name}", "is named by"))

    url = f"{reverse('requests')}?version={version.pk}"
    nodes.append(Node("requests", "requests", version.answered, "kept in the log", url, 3))

    children = list(version.children.select_related("model")[: _SHOWN + 1])
    later = [
        _version_node(f"child-{c.pk}", "later version", c, column=3) for c in children[:_SHOWN]
    ]
    if len(children) > _SHOWN:
        later.append(Node("child-more", "later version", "and more", column=3))
    nodes += later
    edges += [Edge("version", child.id, "was continued by") for child in later]
    edges.append(Edge("version", "requests", "answered"))

    bases = _bases(version)
    return Graph([*nodes, *bases.nodes], [*edges, *bases.edges])


def _version_node(id_: str, kind: str, version: ModelVersion, column: int) -> Node:
    status, url = version.get_status_display(), version.get_absolute_url()
    return Node(id_, kind, str(version), status, url, column)


def facts(version: ModelVersion) -> dict[str, Any]:
    """All that is recorded of where a version comes from; None and empty mean unknown."""
    base, dataset = version.base_model, version.dataset
    job = getattr(version, "job", None)
    return {
        "version": str(version),
        "status": version.status,
        "created_at": version.created_at.isoformat(),
        "git_commit": version.git_commit,
        "git_dirty": version.git_dirty,
        "git_diff": version.git_diff,
        "dataset": dataset.name if dataset else None,
        "dataset_revision": dataset.revision if dataset else None,
        "dataset_checksum": version.dataset_checksum,
        "labels": version.labels,
        "base_model": base.name,
        "base_origin": base.origin,
        "base_revision": base.revision,
        "base_checksum": version.base_checksum,
        "parent": str(version.parent) if version.parent else None,
        "job": job.pk if job else None,
        "params": version.params,
        "seed": version.seed,
        "packages": version.packages,
        "hardware": version.hardware,
        "manifest_sha256": version.manifest_sha256,
        "size_bytes": version.size_bytes if version.manifest_sha256 else None,
        "mlflow_run_id": version.mlflow_run_id,
        "metrics": version.metrics,
        # Without sample answers: they are examples, which may not leave with a lineage.
        "evaluation": {k: v for k, v in version.evaluation.items() if k != "samples"},
        "reproduction": version.reproduction,
        "notes": version.notes,
    }


def _base(version: ModelVersion) -> Node:
    base = version.base_model
    changed = version.base_checksum and version.base_checksum != base.manifest_sha256
    detail = "other weights than now" if changed else base.revision or base.architecture
    if not version.base_checksum:
        detail = "checksum unknown"
    return Node("base", "base model", base.name, detail, _models_of(base.name))


def _models_of(base: str) -> str:
    return f"{reverse('models')}?{urlencode({'base': base})}"


def _dataset(version: ModelVersion) -> Node:
    dataset = version.dataset
    if dataset is None:
        return Node("dataset", "data set", "unknown", column=0, known=False)
    detail = f"revision {dataset.revision}"
    if not version.dataset_checksum:
        detail += ", checksum unknown"
    return Node("dataset", "data set", dataset.name, detail, dataset.get_absolute_url(), 0)


def _job(version: ModelVersion) -> Node:
    job = getattr(version, "job", None)
    if job is None:
        return Node("job", "training job", "unknown", column=1, known=False)
    label = f"Job {job.pk}"
    return Node("job", "training job", label, job.get_status_display(), job.get_absolute_url(), 1)


def _bases(version: ModelVersion) -> Graph:
    """Base models that were fused from the version, and those quantized from these."""
    nodes, edges = [], []
    for base in version.fused.prefetch_related("derived")[:_SHOWN]:
        fused = f"base-{base.pk}"
        url = _models_of(base.name)
        nodes.append(Node(fused, "base model", base.name, base.quantization, url, 3))
        edges.append(Edge("version", fused, "was fused into"))
        for derived in list(base.derived.all())[:_SHOWN]:
            id_, url = f"base-{derived.pk}", _models_of(derived.name)
            nodes.append(Node(id_, "base model", derived.name, derived.quantization, url, 4))
            edges.append(Edge(fused, id_, "was converted into"))
    return Graph(nodes, edges)
