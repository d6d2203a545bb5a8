"""The switches of a build with LLMCURL_FAULT=1 (csrc/fault), through ctypes."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass


@dataclass(frozen=True)
class Site:
    """A place in the source that can fail: "function file:line"."""

    pointer: int
    text: str
    hits: int  # since the counters began anew
    fired: int  # in all


class Faults:
    def __init__(self, path: str) -> None:
        self._lib = ctypes.CDLL(path)
        self._lib.lc_fault_arm.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_int]
        self._lib.lc_fault_count.restype = ctypes.c_long
        self._lib.lc_fault_site_at.restype = ctypes.c_void_p
        self._lib.lc_fault_site_at.argtypes = [
            ctypes.c_long,
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        self._lib.lc_fault_fired.argtypes = [ctypes.c_char_p, ctypes.c_size_t]

    def arm(self, nth: int = 0, site: Site | None = None, in_libcurl: bool = False) -> None:
        """The nth call from now on fails (of a site, of all, or of libcurl's allocations); 0 = none does."""
        self._lib.lc_fault_arm(site.pointer if site else None, nth, int(in_libcurl))

    def count(self) -> int:
        return self._lib.lc_fault_count()

    def fired(self) -> str | None:
        text = ctypes.create_string_buffer(200)
        return text.value.decode() if self._lib.lc_fault_fired(text, len(text)) else None

    def sites(self) -> list[Site]:
        found = []
        text, hits, fired = ctypes.create_string_buffer(200), ctypes.c_long(), ctypes.c_long()
        while pointer := self._lib.lc_fault_site_at(
            len(found), text, len(text), ctypes.byref(hits), ctypes.byref(fired)
        ):
            found.append(Site(pointer, text.value.decode(), hits.value, fired.value))
        return found
