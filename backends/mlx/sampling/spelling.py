"""How byte-level tokenizers write a token: a printable character for each of its bytes."""

from __future__ import annotations


def spell(word: str) -> bytes:
    """The bytes of a token that is written so."""
    return b"".join(_BYTES.get(character) or character.encode() for character in word)


def _byte_characters() -> dict[str, bytes]:
    """GPT-2's alphabet: the printable bytes are themselves, the others follow from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {chr(byte): bytes([byte]) for byte in printable}
    return characters | {chr(256 + n): bytes([byte]) for n, byte in enumerate(others)}


_BYTES = _byte_characters()
