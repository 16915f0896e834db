"""docs/clients.md lists what is asked and what was run."""

import json
import re

import pytest

from inference.clients.behaviours import BEHAVIOURS
from inference.clients.faces import FACES
from inference.clients.sessions import FOLDER, sessions
from tests.running import ROOT

pytestmark = pytest.mark.any_database
TEXT = (ROOT / "docs" / "clients.md").read_text()


def test_every_behaviour_is_listed_with_the_apis_that_have_no_words_for_it() -> None:
    for behaviour in BEHAVIOURS:
        [row] = re.findall(rf"^\| `{behaviour.name}` \|.*", TEXT, re.MULTILINE)
        lacking = [face.title for face in FACES if behaviour.name in face.lacks]
        said = row.rsplit("|", 2)[1].strip()
        assert said == ", ".join(title.removesuffix(" messages") for title in lacking)


def test_every_session_is_listed_and_names_no_machine() -> None:
    for session in sessions():
        assert f"| `{session.name}` | {session.client}, " in TEXT
        whole = (FOLDER / f"{session.name}.json").read_text()
        assert not re.search(r"/(tmp|root|Users|work)\b|@[\w-]+\.\w", whole)
        assert set(re.findall(r"/home/\w+", whole)) <= {"/home/ada"}
        assert len(whole) < 64_000
        for wanted, request in session.steps:
            assert wanted in ("call", "answer")
            assert json.dumps(request)


def test_every_lack_is_of_a_behaviour() -> None:
    names = {behaviour.name for behaviour in BEHAVIOURS}
    assert {name for face in FACES for name in face.lacks} <= names
