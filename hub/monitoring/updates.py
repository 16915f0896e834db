"""Whether a newer version of the hub has been released, asked of the package index that `HUB_UPDATE_URL` names:
by the sampler, once a day, in a thread that nothing waits for. Pages read the answer from a file. Nothing about
this hub is sent."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import structlog

from hub.config import IS_INSTALLED, config
from hub.monitoring.telemetry import release
from registry.storage import paths

EVERY_S = 24 * 3600.0
_LIMIT_S = 10.0
_NAME = "mlx-model-hub"
_looking = threading.Lock()
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Update:
    """A newer version, and the command that installs it."""

    version: str
    command: str


def look() -> None:
    """Ask in a thread if that is wanted and due. An answer that does not come is due again in a day, too."""
    if not config.update_url or time.time() - _looked_at() < EVERY_S:
        return
    if _looking.acquire(blocking=False):
        threading.Thread(target=_look, name="updates", daemon=True).start()


def newest() -> Update | None:
    """What to tell, if anything; reads a small file, and nothing where it is switched off."""
    if not config.update_url:
        return None
    version = str(_known().get("version", ""))
    return Update(version, command()) if _parts(version) > _parts(release()) else None


def command() -> str:
    """What updates a hub that was installed as this one was."""
    if not IS_INSTALLED:
        return "git pull && uv sync"
    where = Path(sys.prefix).as_posix()
    if "/Cellar/" in where:
        return f"brew upgrade {_NAME}"
    if "/uv/tools/" in where:
        return f"uv tool upgrade {_NAME}"
    return f"{sys.executable} -m pip install --upgrade {_NAME}"


def _look() -> None:
    found = dict(_known())
    try:
        # The setting takes web addresses alone.
        asked = Request(config.update_url, headers={"User-Agent": _NAME})  # noqa: S310
        with urlopen(asked, timeout=_LIMIT_S) as answer:  # noqa: S310  # nosec B310
            found["version"] = str(json.load(answer)["info"]["version"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        log.info("no_answer_about_updates", reason=str(error))
    finally:
        found["looked_at"] = time.time()
        _write(found)
        _looking.release()


def _looked_at() -> float:
    looked_at = _known().get("looked_at")
    # A clock that was wrong then must not keep it from asking for ever.
    return looked_at if isinstance(looked_at, float) and looked_at <= time.time() else 0.0


def _known() -> dict[str, object]:
    try:
        return dict(json.loads(_file().read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _write(found: dict[str, object]) -> None:
    new = _file().with_suffix(".new")
    try:
        new.write_text(json.dumps(found))
        new.replace(_file())
    except OSError as error:
        log.warning("update_not_noted", reason=str(error))


def _file() -> Path:
    return paths.run_dir() / "update.json"


def _parts(version: str) -> tuple[int, ...]:
    """To compare by; of what is no released version, an empty one."""
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6}){1,3}", version):
        return ()
    return tuple(map(int, version.split(".")))
