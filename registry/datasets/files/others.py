"""Files that are something else than their name says, by their first bytes: each refused with what to
do about it."""

from __future__ import annotations

from pathlib import PurePath

from registry.errors import Invalid

START = 4096
"""Bytes by which a file is known."""

_UNPACK = "unpack it and send what it holds"
_KNOWN: tuple[tuple[bytes, str, str], ...] = (
    (b"PAR1", "a Parquet file", "call it .parquet"),
    (b"\x1f\x8b", "a gzip file", "call it .gz after its own kind, such as .jsonl.gz"),
    (b"\x28\xb5\x2f\xfd", "a zstd file", "call it .zst after its own kind, such as .jsonl.zst"),
    (b"BZh", "a bzip2 file", _UNPACK),
    (b"\xfd7zXZ\0", "an xz file", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"ARROW1", "an Arrow file", "save it as Parquet"),
    (b"SQLite format 3\0", "an SQLite database", "export a table as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", "save it as CSV UTF-8"),
    (
        b"version https://git-lfs",
        "a pointer of Git LFS and not the file itself",
        "download that (git lfs pull)",
    ),
)
_TAR = b"ustar"
_TAR_AT = 257  # bytes before its mark
_EXCEL = (b"xl/", b"[Content_Types].xml")


def check_kind(start: bytes, suffix: str, name: str) -> None:
    """Raises Invalid for what is no text, or not Parquet where `suffix` says so."""
    for mark, what, do in _KNOWN:
        if start.startswith(mark) and not (suffix == ".parquet" and mark == b"PAR1"):
            raise Invalid(f"{name} is {what}; {do}.")
    if start.startswith(b"PK\x03\x04"):
        if any(mark in start for mark in _EXCEL) or name.lower().endswith(".xlsx"):
            raise Invalid(f"{name} is an Excel file; save it as CSV UTF-8.")
        raise Invalid(f"{name} is a ZIP archive; {_UNPACK}.")
    if start[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        raise Invalid(f"{name} is a tar archive; {_UNPACK}.")
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:14].lower().startswith((b"<!doctype html", b"<html")):
        raise Invalid(f"{name} is a web page; download the file that the page is about.")
    if not suffix and PurePath(name).suffix and text and text[:1] not in (b"{", b"["):
        raise Invalid(
            f"{name} is not a kind of file that the hub reads; write an example per line, such as "
            '{"text": "…"}, and call it .jsonl, or save it as CSV or Parquet.'
        )
