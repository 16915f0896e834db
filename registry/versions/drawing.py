"""Where the nodes of a lineage lie in its picture. Sizes are in the picture's own units."""

from __future__ import annotations

from dataclasses import dataclass

from registry.versions.graph import Graph, Node

WIDTH, HEIGHT = 200, 58
_GAP_X, _GAP_Y, _MARGIN = 30, 16, 4
_LABEL, _DETAIL = 21, 26  # characters that fit


@dataclass(frozen=True)
class Box:
    """A node with its upper left corner and the text that fits into it."""

    node: Node
    x: int
    y: int

    @property
    def label(self) -> str:
        return _cut(self.node.label, _LABEL)

    @property
    def detail(self) -> str:
        return _cut(self.node.detail, _DETAIL)


@dataclass(frozen=True)
class Picture:
    """Boxes, the paths between them, sentences that say the same, and the whole size."""

    boxes: list[Box]
    lines: list[str]
    sentences: list[str]
    width: int
    height: int
    box_width: int = WIDTH
    box_height: int = HEIGHT


def draw(graph: Graph) -> Picture:
    """Columns from left to right, each centred; a tall one sets the height."""
    columns: dict[int, list[Node]] = {}
    for node in graph.nodes:
        columns.setdefault(node.column, []).append(node)
    tallest = max(len(nodes) for nodes in columns.values())
    step_x, step_y = WIDTH + _GAP_X, HEIGHT + _GAP_Y
    boxes: dict[str, Box] = {}
    for place, number in enumerate(sorted(columns)):
        nodes = columns[number]
        top = _MARGIN + (tallest - len(nodes)) * step_y // 2
        for row, node in enumerate(nodes):
            boxes[node.id] = Box(node, _MARGIN + place * step_x, top + row * step_y)
    return Picture(
        boxes=list(boxes.values()),
        lines=[_path(boxes[edge.source], boxes[edge.target]) for edge in graph.edges],
        sentences=[
            f"{_named(boxes[edge.source].node)} {edge.relation} {_named(boxes[edge.target].node)}"
            for edge in graph.edges
        ],
        width=len(columns) * step_x - _GAP_X + 2 * _MARGIN,
        height=tallest * step_y - _GAP_Y + 2 * _MARGIN,
    )


def _path(source: Box, target: Box) -> str:
    x1, y1 = source.x + WIDTH, source.y + HEIGHT // 2
    x2, y2 = target.x, target.y + HEIGHT // 2
    bend = _GAP_X // 2
    return f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"


def _named(node: Node) -> str:
    return f"{node.kind} {node.label}"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
