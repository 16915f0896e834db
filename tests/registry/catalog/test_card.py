"""The model card: facts, a person's words, and nothing that runs or loads."""

from __future__ import annotations

import re

import pytest

from registry.catalog.card import render, write_card
from registry.maintenance.removal import remove_model
from registry.models import Model, ModelVersion
from registry.promotion.aliases import move_alias
from registry.storage import paths
from tests.registry.build import make_model, make_version

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "[click](JaVaScRiPt&#58;alert(1))",
    "[click](data:text/html;base64,PHNjcmlwdD4=)",
    "[click](vbscript:msgbox)",
    '[click](https://a.example "x\\" onmouseover=\\"alert(1)")',
    "![pixel](https://tracker.example/p.png)",
    "![pixel](data:image/svg+xml;base64,PHN2Zz4=)",
    "<javascript:alert(1)>",
    '<a href="https://a.example" onclick="alert(1)">x</a>',
    "<iframe src=https://a.example></iframe><style>*{}</style>",
    "```<script>\nalert(1)\n```",
    "[x]: javascript:alert(1)\n\n[x]",
)
_ATTRIBUTE = re.compile(r"<(\w+)((?:\s[^<>]*)?)>")


@pytest.mark.parametrize("markdown", HOSTILE)
def test_hostile_markdown_neither_runs_nor_loads(markdown: str) -> None:
    for tag, attributes in _ATTRIBUTE.findall(render(markdown)):
        assert tag in {"p", "a", "pre", "code"}
        assert re.findall(r'(\w+)="', attributes) in ([], ["href", "rel"], ["href", "title", "rel"])
        if href := re.search(r'href="([^"]*)"', attributes):
            assert href[1].startswith("https://")


def test_plain_markdown_is_rendered() -> None:
    html = render("# A\n\n**b** [c](https://c.example)\n\n| x |\n| --- |\n| 1 |")
    for part in ("<h2>A</h2>", "<strong>b</strong>", 'href="https://c.example"', "<td>1</td>"):
        assert part in html


def card_of(model: Model) -> str:
    return write_card(Model.objects.get(pk=model.pk), "http://hub.test")


@pytest.mark.django_db
def test_a_card_tells_the_facts_and_a_persons_words() -> None:
    version = make_version(make_model(description="Dates.", card_notes="Not for **law**."))
    move_alias(version.model, "production", version)
    card = card_of(version.model)
    for part in (
        "# helper\n",
        "Dates.",
        "helper-base",
        "| 0.1.0 | ready | production | 0.5 |",
        "In production: 0.1.0.",
        version.dataset_checksum[:12],
        'base_url="http://hub.test/v1"',
        "Not for **law**.",
        "iters 10",
    ):
        assert part in card


@pytest.mark.django_db
def test_what_a_card_does_not_know_it_says() -> None:
    version = make_version()
    ModelVersion.objects.filter(pk=version.pk).update(
        dataset=None, seed=None, packages={}, git_commit="", params={}
    )
    card = card_of(version.model)
    for part in (
        "Licence of the base model: unknown",
        "unknown for 0.1.0",
        "settings unknown",
        "Seed unknown; mlx-lm unknown; the hub's code at `unknown`",
    ):
        assert part in card
    assert "There is no version yet." in card_of(make_model("other"))


@pytest.mark.django_db
def test_the_licence_is_read_from_the_bases_files() -> None:
    model = make_model()
    folder = paths.absolute(model.base_model.path)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Base\n")
    assert "Licence of the base model: apache-2.0." in card_of(model)
    (folder / "LICENSE").write_text("\n   MIT License\n\nCopyright")
    assert "Licence of the base model: MIT License." in card_of(model)


@pytest.mark.django_db
def test_tags_are_text_in_the_card() -> None:
    model = make_model(tags=["[x](https://a.example)", "<b>"])
    html = render(card_of(model))
    assert "https://a.example</a>" not in html
    assert 'href="https://a.example"' not in html
    assert "&lt;b&gt;" in html


@pytest.mark.django_db
def test_an_archived_model_is_not_said_to_serve() -> None:
    version = make_version(lora={"rank": 16}, mask_prompt=True)
    move_alias(version.model, "production", version)
    card = card_of(version.model)
    assert "In production: 0.1.0." in card
    assert "learn last\\_answer, lora rank 16" in card
    remove_model(version.model)
    card = card_of(version.model)
    assert "In production" not in card
    assert "points at 0.1.0, which is not served now" in card
    assert "archived and not served" in card
    assert "client.chat" not in card
