"""One question to the backend in a process of its own: `python -m registry.base_import`.

Arguments: the backend's name, `import_gguf` or `inspect`, and its paths. The last line of the
output is the answer as JSON: an `ImportedModel`, or `error`, a sentence for a person.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from backends import get_backend
from backends.base import BackendError


def main(backend: str, method: str, *folders: str) -> None:
    """Print the answer."""
    try:
        answer = dataclasses.asdict(getattr(get_backend(backend), method)(*map(Path, folders)))
    except BackendError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
