r"""What servers send that msgspec does not take for JSON.

Foremost strings cut within a character: ``"\ud83d"`` in one event, ``"\ude00"`` in the next. RFC 8259
(8.2) allows halves of surrogate pairs, and servers that count UTF-16 code units end their events
there; two halves that follow each other are the character, one that stays alone becomes U+FFFD.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

__all__ = ["EventDecoder", "repaired"]

_decode = msgspec.json.Decoder().decode


#: OpenAI writes -9999 for a probability of nothing, and servers in Python what has no JSON.
_CONSTANTS = {"-Infinity": -9999.0}


def _lenient(data: bytes) -> Any:
    """The value of what is almost JSON: with halves, a byte order mark, bytes that are not
    UTF-8, NaN or Infinity. None if it is not even that."""
    try:
        return json.loads(data.decode("utf-8-sig", "replace"), parse_constant=_CONSTANTS.get)
    except (ValueError, RecursionError):
        return None


def _joined(text: str) -> str:
    """Pairs become their character, single halves U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class EventDecoder:
    """Decodes the events of one stream, one after the other."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        #: First halves that wait for their second, by the string's place in the event.
        self._held: dict[tuple[Any, ...], str] = {}

    def __call__(self, data: bytes) -> Any:
        """The JSON object.

        Raises:
            ValueError: it is none.
        """
        try:
            value = _decode(data)
            odd = bool(self._held)
        except (ValueError, RecursionError) as error:
            value, odd = _lenient(data), True
            if value is None:
                raise ValueError(str(error)) from error
        if type(value) is not dict:
            raise ValueError("it is no JSON object")
        return self._whole(value, ()) if odd else value

    def _whole(self, node: Any, place: tuple[Any, ...]) -> Any:
        """The value, with what was held back before and without what is held back now. Of the
        parts of lists those with an "index" are known by it."""
        if isinstance(node, str):
            if not node:
                return node
            text = self._held.pop(place, "") + node
            if "\ud800" <= text[-1] <= "\udbff":
                self._held[place] = text[-1]
                text = text[:-1]
            return _joined(text)
        if isinstance(node, dict):
            here = (*place, node.get("index"))
            return {key: self._whole(value, (*here, key)) for key, value in node.items()}
        if isinstance(node, list):
            return [
                self._whole(
                    item, place if isinstance(item, dict) and "index" in item else (*place, at)
                )
                for at, item in enumerate(node)
            ]
        return node


def _clean(node: Any) -> Any:
    if isinstance(node, str):
        return _joined(node)
    if isinstance(node, dict):
        return {_joined(key): _clean(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_clean(item) for item in node]
    return node


def repaired(body: bytes) -> bytes | None:
    """A body of JSON without a byte order mark, and with U+FFFD instead of single halves; None
    if that is not its fault."""
    value = _lenient(body)
    return None if value is None else msgspec.json.encode(_clean(value))
