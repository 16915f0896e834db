"""The model card: what the hub knows about a model, in Markdown, with a person's notes.

What is unknown is shown as unknown. The page shows the card as HTML that can neither run anything nor
load anything from another host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from registry.late import Late
from registry.models import BaseModel, Dataset, Model, ModelVersion
from registry.storage import paths
from registry.task_types import METRICS
from registry.versions.comparison import flatten

if TYPE_CHECKING:
    import markdown_it
    import nh3
else:
    markdown_it, nh3 = Late("markdown_it"), Late("nh3")

_VERSIONS = 10
_METRICS = ("val_loss", "test_loss", "perplexity")
_TAGS = {
    *("p", "br", "hr", "a", "strong", "em", "del", "code", "pre", "blockquote"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}
_LICENSES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING")


def write_card(model: Model, origin: str) -> str:
    """The whole card. `origin` is the hub's address, such as `http://127.0.0.1:8000`."""
    return f"# {model.name}\n\n{write_body(model, origin)}"


def write_body(model: Model, origin: str) -> str:
    """The card below its title."""
    found = model.versions.newest_first().select_related("dataset").prefetch_related("aliases")
    found = found.defer("git_diff", "hardware", "notes", "dataset__schema", "dataset__token_stats")
    versions = list(found.exclude(status=ModelVersion.Status.TRAINING)[:_VERSIONS])
    parts = [
        *_purpose(model),
        *_base(model.base_model),
        "## Data",
        *_data(versions),
        "## Versions",
        *_table(model, versions),
        "## How it was trained",
        _training(versions),
        "## How to call it",
        _call(model, versions, origin),
        "## Limits",
        _limits(model, versions),
    ]
    if model.card_notes.strip():
        parts += ["## Notes", model.card_notes.strip()]
    return "\n\n".join(parts) + "\n"


def _purpose(model: Model) -> Iterator[str]:
    yield model.description.strip() or "No description yet."
    yield f"Task: {model.get_task_type_display()}."
    if model.tags:
        yield f"Tags: {', '.join(_plain(tag) for tag in model.tags)}."


def _base(base: BaseModel) -> Iterator[str]:
    yield "## Base model"
    origin = f", from {_plain(base.origin)}" if base.origin else ""
    size = f"{base.parameters / 1e6:.0f} M parameters" if base.parameters else "size unknown"
    yield (
        f"{base.name}{origin}: {base.architecture or 'architecture unknown'}, {size}, "
        f"quantization {base.quantization or 'unknown'}."
    )
    yield f"Licence of the base model: {_license(base)}."


def _license(base: BaseModel) -> str:
    """The first line of its licence file, else what the head of its README says."""
    folder = paths.absolute(base.path)
    for name in _LICENSES:
        lines = [line.strip(" #\t") for line in _start(folder / name).splitlines()]
        if first := next((line for line in lines if line), ""):
            return _plain(first[:100])
    head = re.match(r"---\n(.*?)\n---", _start(folder / "README.md"), re.DOTALL)
    stated = re.search(r"^license:\s*(\S.*)$", head[1], re.MULTILINE) if head else None
    return _plain(stated[1][:100]) if stated else "unknown"


def _start(path: Path) -> str:
    """The first bytes of a file as text; empty when there is none."""
    try:
        with path.open("rb") as file:
            return file.read(4096).decode(errors="replace")
    except OSError:
        return ""


def _data(versions: Sequence[ModelVersion]) -> Iterator[str]:
    seen: dict[int, Dataset] = {v.dataset.pk: v.dataset for v in versions if v.dataset}
    lines = []
    for dataset in seen.values():
        splits = ", ".join(f"{count} {name}" for name, count in sorted(dataset.splits.items()))
        lines.append(f"- {dataset} ({splits}), sha256 `{dataset.checksum[:12]}`")
    if unknown := [v.version for v in versions if v.dataset is None]:
        lines.append(f"- unknown for {', '.join(unknown)}")
    yield "\n".join(lines) or "Nothing has been trained yet."


def _table(model: Model, versions: Sequence[ModelVersion]) -> Iterator[str]:
    if not versions:
        yield "There is no version yet."
        return
    wanted = dict.fromkeys((*_METRICS, model.task.metrics[0], "exact_match"))
    metrics = [name for name in wanted if any(name in v.metrics for v in versions)]
    head = ["Version", "Status", "Aliases", *(name.replace("_", " ") for name in metrics)]
    rows = [_row(head), _row(["---"] * len(head))]
    for version in versions:
        aliases = ", ".join(alias.name for alias in version.aliases.all())
        found = [version.metrics.get(name) for name in metrics]
        figures = [f"{v:.4g}" if isinstance(v, int | float) else "unknown" for v in found]
        rows.append(_row([version.version, version.status, aliases or "–", *figures]))
    yield "\n".join(rows)
    production = [v for v in versions if any(a.name == "production" for a in v.aliases.all())]
    if production and production[0].status == ModelVersion.Status.READY:
        yield f"In production: {production[0].version}."
    elif production:
        yield f"Its alias production points at {production[0].version}, which is not served now."


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _training(versions: Sequence[ModelVersion]) -> str:
    made = (ModelVersion.Status.READY, ModelVersion.Status.ARCHIVED)
    ready = next((v for status in made for v in versions if v.status == status), None)
    if ready is None:
        return "No version is ready."
    settings = []
    for name, value in sorted(flatten(ready.params).items()):
        if isinstance(value, bool):
            value = "yes" if value else "no"
        if isinstance(value, int | float) or (isinstance(value, str) and len(value) < 40):
            settings.append(f"{name.replace('_', ' ').replace('.', ' ')} {_plain(str(value))}")
    seed = "unknown" if ready.seed is None else str(ready.seed)
    mlx = ready.packages.get("mlx-lm", "unknown")
    return (
        f"Version {ready.version}: {', '.join(settings) or 'settings unknown'}. "
        f"Seed {seed}; mlx-lm {mlx}; the hub's code at `{ready.git_commit[:10] or 'unknown'}`."
    )


def _call(model: Model, versions: Sequence[ModelVersion], origin: str) -> str:
    if model.archived_at:
        return "It is archived and not served; restore it first."
    if not any(version.status == ModelVersion.Status.READY for version in versions):
        return "It cannot be called yet: no version is ready."
    return f"""```python
from openai import OpenAI

client = OpenAI(base_url="{origin}/v1", api_key="local")
answer = client.chat.completions.create(
    model="{model.name}",
    messages=[{{"role": "user", "content": "…"}}],
)
print(answer.choices[0].message.content)
```"""


def _limits(model: Model, versions: Sequence[ModelVersion]) -> str:
    context = model.base_model.context_length
    reach = f"at most {context} tokens of context" if context else "context length unknown"
    scored = any(name in version.metrics for version in versions for name in METRICS)
    tested = "" if scored else " It was not scored on a task of its own."
    return f"Limits outside the data above are unknown; {reach}.{tested}"


def _plain(text: str) -> str:
    """Text with its Markdown characters escaped."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~])", r"\\\1", " ".join(text.split()))


@lru_cache(256)  # a page shows its card far more often than the card changes
def render(markdown: str) -> str:
    """Markdown as safe HTML, its headings one level down, below the page's."""
    # Raw HTML stays text, and an image would reveal readers to another host.
    reader = markdown_it.MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = reader.parse(markdown)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
    html = reader.renderer.render(tokens, reader.options, {})
    return nh3.clean(
        html,
        tags=_TAGS,
        attributes={"a": {"href", "title"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
