"""Search for base models on a model hub: mlx-community's first, each with its config.json.

Nothing is asked of the hub before a person searches, and nobody waits longer than the deadline: what
has not been answered by then is left out, and said. Answers are kept for some minutes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from registry.bases import downloads
from registry.bases.offers import HUB, Offer, foreseen, together
from registry.errors import HubError, Invalid, TooManyRequests
from registry.models import BaseModel

DEADLINE_S = 5.0
_FIRST = "mlx-community"
_EACH = 12  # of that owner, and of all
_LONGEST = 100  # characters that are searched for
_KEPT_S = 300.0
_MOST_KEPT = 200
_LONGEST_CONFIG = 1 << 20  # bytes
_EXPAND = ("cardData", "downloads", "gated", "safetensors", "sha", "siblings", "tags")
_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
}  # fmt: skip  # others have one


@dataclass(frozen=True)
class Search:
    """What was found; `note` says in a sentence what is missing, and what to do."""

    offers: tuple[Offer, ...] = ()
    note: str = ""


_kept: dict[tuple[str, str], tuple[float, Search]] = {}
_configs: dict[tuple[str, str, str], Mapping[str, Any]] = {}
_limited: dict[str, float] = {}
"""Until when a hub is not asked again, since it limits requests."""


def search(words: str, deadline_s: float = DEADLINE_S) -> Search:
    """Models whose id has these words, those of mlx-community first. Raises nothing: what goes wrong
    is the note of the answer."""
    words, hub = " ".join(words.split())[:_LONGEST], downloads.endpoint()
    if not words:
        return Search()
    now = time.monotonic()
    if (kept := _kept.get((hub, words))) and now - kept[0] < _KEPT_S:
        return kept[1]
    if (seconds := _limited.get(hub, 0.0) - now) > 0:
        return Search(note=_limits(hub, seconds))
    until = now + deadline_s
    lists = together([partial(_list, words, _FIRST), partial(_list, words)], until)
    infos = {info.id: info for found in lists if isinstance(found, list) for info in found}
    if not infos and (note := _note(hub, lists, deadline_s)):
        return Search(note=note)
    chosen = list(infos.values())[: 2 * _EACH]
    configs = together([partial(_config, info.id, str(info.sha)) for info in chosen], until)
    offers = tuple(map(_offer, chosen, configs))
    missing = any(config is None for config in configs) or not all(
        isinstance(found, list) for found in lists
    )
    note = "" if infos else f"Nothing on {hub} has “{words}” in its name."
    if missing:
        note = "The model hub is slow: some answers are missing. Search again to get them."
    # What cannot be used comes last; everything else stays as the hub ranks it.
    found = Search(tuple(sorted(offers, key=lambda offer: offer.prospect is None)), note)
    if not missing:
        while len(_kept) >= _MOST_KEPT:
            _kept.pop(next(iter(_kept)), None)
        _kept[hub, words] = (time.monotonic(), found)
    return found


def _list(words: str, author: str = "") -> list[Any]:
    """What the hub's search gives, as huggingface_hub describes it. Its own `list_models` waits and
    asks again where the hub limits requests, which nobody has time for here."""
    from huggingface_hub import ModelInfo

    described: Any = ModelInfo
    asked = {
        "search": words,
        "author": author or None,
        "filter": "safetensors",
        "sort": "downloads",
        "limit": _EACH,
        "expand": list(_EXPAND),
    }
    answer = _get(
        f"{downloads.endpoint()}/api/models",
        {name: value for name, value in asked.items() if value},
    )
    infos = []
    for item in answer.json():
        with suppress(TypeError, ValueError, KeyError, AttributeError):  # an odd one
            infos.append(described(**{"siblings": None, **item}))
    return infos


def _get(url: str, params: Mapping[str, Any] | None = None) -> Any:
    """An answer by huggingface_hub's client and token. Raises its errors."""
    from huggingface_hub.utils._headers import build_hf_headers
    from huggingface_hub.utils._http import get_session, hf_raise_for_status

    answer = get_session().get(url, params=params, headers=build_hf_headers(), timeout=DEADLINE_S)
    hf_raise_for_status(answer)
    return answer


def _config(repo: str, commit: str) -> Mapping[str, Any]:
    """config.json at a commit, which never changes and so is kept."""
    from huggingface_hub import hf_hub_url

    place = (downloads.endpoint(), repo, commit)
    if place in _configs:
        return _configs[place]
    url = hf_hub_url(repo, "config.json", revision=commit, endpoint=downloads.endpoint())
    answer = _get(url)
    found = answer.json() if len(answer.content) <= _LONGEST_CONFIG else None
    if not isinstance(found, dict):
        raise Invalid("Its config.json is not one that can be read.")
    while len(_configs) >= _MOST_KEPT:
        _configs.pop(next(iter(_configs)), None)
    _configs[place] = found
    return found


def _offer(info: Any, config: Mapping[str, Any] | Exception | None) -> Offer:
    nbytes, values = _size(info)
    offer = Offer(
        HUB,
        info.id,
        BaseModel.Source.HUB,
        size_bytes=nbytes,
        licence=downloads.licence_of(info),
        downloads=info.downloads or 0,
        gated=bool(info.gated),
    )
    if info.siblings:
        try:
            downloads.wanted_files(info.id, info.siblings)
        except HubError as error:
            return replace(offer, why=str(error))
    if isinstance(config, Mapping):
        quantized = "quantization" in config
        return foreseen(offer, config, nbytes, 0 if quantized else values)
    if config is None:
        return replace(offer, why="The hub has not sent its config.json yet; search again.")
    status = getattr(getattr(config, "response", None), "status_code", 0)
    if status in (401, 403):
        return replace(
            offer,
            gated=True,
            why="Gated: accept its terms on the hub and set HF_TOKEN to your token.",
        )
    if status == 404:
        return replace(offer, why="It has no config.json, so it is no model that can be used here.")
    said = str(config) if isinstance(config, HubError) else "The hub did not send its config.json."
    return replace(offer, why=said)


def _size(info: Any) -> tuple[int, int]:
    """(bytes, values) of its weights, as the hub has counted them."""
    counts = (info.safetensors and info.safetensors.parameters) or {}
    nbytes = sum(_BYTES.get(dtype, 1) * int(count) for dtype, count in counts.items())
    return nbytes, sum(map(int, counts.values()))


def _note(hub: str, lists: list[Any], deadline_s: float) -> str:
    """Why the hub has given no list; "" when it has."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if any(isinstance(found, list) for found in lists):
        return ""
    here = "What is on this machine can be imported all the same."
    for error in lists:
        if isinstance(error, OfflineModeIsEnabled):
            return f"HF_HUB_OFFLINE is set, so no model hub is asked. {here}"
        if isinstance(error, HfHubHTTPError):
            known = downloads.refused_by(error)
            if isinstance(known, TooManyRequests):
                _limited[hub] = time.monotonic() + known.retry_after
                return _limits(hub, known.retry_after)
            if isinstance(known, Invalid):
                return str(known)
            status = error.response.status_code
            return f"The model hub at {hub} answered {status}; try again later. {here}"
    if None in lists:
        return f"The model hub at {hub} did not answer within {deadline_s:.0f} s. {here}"
    if any(isinstance(error, httpx2.HTTPError | OSError) for error in lists):
        return f"The model hub at {hub} cannot be reached. {here}"
    return f"{hub} answers, but not as a model hub does: check HF_ENDPOINT. {here}"


def _limits(hub: str, seconds: float) -> str:
    return (
        f"The model hub at {hub} limits requests: try again in {max(1, round(seconds))} s. With "
        "HF_TOKEN set it allows more."
    )
