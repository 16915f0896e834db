"""Which languages a row is written in, as far as that is certain (py3langid, a model of 4 MB)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from itertools import islice
from typing import Any

SURE = 0.95
MOST = 0.9
"""Share of a data set's rows from which another language is noted as an issue."""

_LETTERS = 40  # of a text that can be told; below, names and code decide by chance
_MOST_PIECES = 6  # of a row, of each text the first two: a tenth of a millisecond each
_WIDTH = 300  # characters of a piece
_CODE = re.compile(r"```.*?```|`[^`\n]*`|https?://\S+|[{}\[\]\"=<>_]", re.DOTALL)


def written_in(texts: Iterable[str]) -> set[str]:
    """ISO codes of the languages that are certain, such as {"en", "de"}; code is left out."""
    found: set[str] = set()
    begins = (text[start : start + _WIDTH] for text in texts for start in (0, _WIDTH))
    words = (_CODE.sub(" ", piece) for piece in begins)
    pieces = (piece for piece in words if sum(map(str.isalpha, piece)) >= _LETTERS)
    for piece in islice(pieces, _MOST_PIECES):
        language, share = _model().classify(piece)
        if share >= SURE and language != "zxx":  # which is no language at all
            found.add(language)
    return found


@cache
def _model() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
