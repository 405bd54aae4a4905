"""What a shared library says of itself: an ELF reader of what the tests look at."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_DYNSYM, _DYNAMIC = 11, 6
_LOAD, _GNU_STACK = 1, 0x6474E551
_NEEDED, _TEXTREL = 1, 22


@dataclass(frozen=True)
class Elf:
    """A 64-bit little-endian ELF file (System V ABI, chapters 4 and 5).

    symbols: name of each dynamic symbol to its file offset, None where it is undefined.
    needed: how many other libraries it needs. relocates_code: whether its code is written to when
    it is loaded. executable_stack: whether it asks for one.
    """

    symbols: dict[str, int | None]
    needed: int
    relocates_code: bool
    executable_stack: bool

    @staticmethod
    def of(data: bytes) -> Elf:
        assert data[:6] == b"\x7fELF\2\1"
        segments_at, sections_at = struct.unpack_from("<QQ", data, 32)
        _, segment_count, _, section_count = struct.unpack_from("<4H", data, 54)
        segments = [
            struct.unpack_from("<IIQQQQQQ", data, segments_at + 56 * k)
            for k in range(segment_count)
        ]
        sections = [
            struct.unpack_from("<IIQQQQIIQQ", data, sections_at + 64 * k)
            for k in range(section_count)
        ]
        (symbols,) = (s for s in sections if s[1] == _DYNSYM)
        (dynamic,) = (s for s in sections if s[1] == _DYNAMIC)
        tags = [struct.unpack_from("<q", data, dynamic[4] + k)[0] for k in range(0, dynamic[5], 16)]
        strings = sections[symbols[6]][4]
        found: dict[str, int | None] = {}
        for place in range(symbols[4] + 24, symbols[4] + symbols[5], 24):
            name_at, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", data, place)
            name = data[strings + name_at : data.index(b"\0", strings + name_at)].decode()
            found[name] = _offset(segments, value) if section else None
        return Elf(
            found,
            tags.count(_NEEDED),
            _TEXTREL in tags,
            any(s[0] == _GNU_STACK and s[1] & 1 for s in segments),
        )


def _offset(segments: list[tuple[int, ...]], address: int) -> int:
    """The place in the file of an address."""
    for kind, _, offset, start, _, size, _, _ in segments:
        if kind == _LOAD and start <= address < start + size:
            return offset + address - start
    raise AssertionError(address)
