"""`Headers`: names without case, several values per name, order and casing kept.

Rules: RFC 9110 section 5.1 (a name is a token), 5.5 (a value has no CR, LF, NUL), 5.3
(values of one name may be joined by ", "); RFC 9112 section 5.2 (obs-fold when reading).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping, MutableMapping
from typing import Any, Union, cast

from ._exceptions import InvalidHeader
from ._redact import SECRET_HEADERS

__all__ = ["HeaderTypes", "Headers", "WatchedHeaders"]

HeaderTypes = Union[
    "Headers",
    Mapping[str, str],
    Mapping[bytes, bytes],
    Iterable[tuple[str, str]],
    Iterable[tuple[bytes, bytes]],
]

_Text = str | bytes
_Item = tuple[bytes, bytes, bytes]  # name as given, name in lower case, value

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SECRET = frozenset(name.encode() for name in SECRET_HEADERS)

# Programs use few names: their check and lower-casing is done once. Bounded, because
# names may come from outside.
_names: dict[_Text, tuple[bytes, bytes]] = {}
_NAMES_MAX = 512


def _name(name: _Text, encoding: str | None) -> tuple[bytes, bytes]:
    """The name as bytes, as given and in lower case.

    Raises:
        TypeError: neither str nor bytes.
        InvalidHeader: not a token (RFC 9110 5.6.2).
    """
    known = _names.get(name) if isinstance(name, (str, bytes)) else None
    if known is not None:
        return known
    if isinstance(name, str):
        try:
            raw = name.encode(encoding or "ascii")
        except UnicodeEncodeError:
            raise InvalidHeader(f"Header name {name!r} is not ASCII") from None
    elif isinstance(name, bytes):
        raw = name
    else:
        raise TypeError(f"Header name must be str or bytes, not {type(name).__name__}")
    if _TOKEN.fullmatch(raw) is None:
        what = "is empty" if not raw else "has a character that is not allowed in a name"
        # Cut short: a whole "Name: value" line may have been put here by mistake.
        shown = re.split(rb"[\r\n:]", raw, maxsplit=1)[0][:64]
        raise InvalidHeader(f"Header name {shown.decode('latin-1')!r} {what}")
    pair = (raw, raw.lower())
    if len(_names) >= _NAMES_MAX:
        _names.clear()
    _names[name] = pair
    return pair


def _value(name: bytes, value: _Text, encoding: str | None) -> bytes:
    """The value as bytes: ASCII if it is that, else UTF-8 (or `encoding`).

    Raises:
        TypeError: neither str nor bytes.
        InvalidHeader: CR, LF or NUL inside, which would let a value forge other headers.
    """
    if isinstance(value, str):
        try:
            raw = value.encode(encoding or "utf-8")
        except UnicodeEncodeError:
            shown = f"Header {name.decode('latin-1')!r}"
            raise InvalidHeader(f"{shown}: the value cannot be {encoding or 'utf-8'}") from None
    elif isinstance(value, bytes):
        raw = value
    else:
        raise TypeError(
            f"Header {name.decode('latin-1')!r}: the value must be str or bytes, "
            f"not {type(value).__name__}"
        )
    if b"\r" in raw or b"\n" in raw or b"\0" in raw:
        # A key read from a file with its newline is the usual case; say so.
        inner = raw.rstrip(b"\r\n")
        at_end = not (b"\r" in inner or b"\n" in inner or b"\0" in inner)
        what = "ends with a line break" if at_end else "holds CR, LF or NUL"
        raise InvalidHeader(
            f"Header {name.decode('latin-1')!r}: the value {what}, which HTTP does not allow"
        )
    return raw


def _parse_block(block: bytes) -> list[_Item]:
    """The fields of a received header block, status line first; lines without colon drop out."""
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    items: list[_Item] = []
    first = True
    for line in block.split(b"\n"):
        if first:
            first = False
            if line.startswith(b"HTTP/"):
                continue
        if not line:
            continue
        if line[0] in b" \t":
            # obs-fold: the line continues the value before it (RFC 9112 5.2).
            if items:
                name, lower, value = items[-1]
                items[-1] = (name, lower, value + b" " + line.strip(b" \t"))
            continue
        name, colon, value = line.partition(b":")
        if colon:
            name = name.rstrip(b" \t")
            items.append((name, name.lower(), value.strip(b" \t")))
    return items


class Headers(MutableMapping[str, str]):
    """HTTP headers, as in httpx.

    ``headers["x"]`` joins several values with ", "; `get_list` gives them apart; `raw` is
    what goes over the wire.

    Args:
        headers: a mapping, pairs, or other Headers; str or bytes.
        encoding: for str values; by default UTF-8 (of which ASCII is a part).

    Raises:
        InvalidHeader: a bad name or value; the text has the name, never the value.
        TypeError: something that is neither str nor bytes.
    """

    __slots__ = ("_encoding", "_list")

    _list: list[_Item]
    _encoding: str | None

    def __init__(self, headers: HeaderTypes | None = None, encoding: str | None = None) -> None:
        self._encoding = encoding
        if headers is None:
            self._list = []
            return
        if isinstance(headers, Headers):
            self._list = headers._list.copy()
            if encoding is None:
                self._encoding = headers._encoding
            return
        pairs: Iterable[Any]
        if type(headers) is dict or isinstance(headers, Mapping):
            pairs = headers.items()
        elif isinstance(headers, (str, bytes)):
            raise TypeError("headers must be a mapping or pairs, not one string")
        else:
            pairs = headers
        items: list[_Item] = []
        for key, value in pairs:
            raw, lower = _names.get(key) or _name(key, encoding)
            # The usual case by two C calls; "printable" excludes CR, LF, NUL and surrogates.
            if type(value) is str and encoding is None and value.isprintable():
                items.append((raw, lower, value.encode()))
            else:
                items.append((raw, lower, _value(raw, value, encoding)))
        self._list = items

    @classmethod
    def from_block(cls, block: bytes) -> Headers:
        """Headers of a received block: status line first, CRLF or LF, folded lines joined.

        Nothing is refused: what the server sent is shown as it is.
        """
        self = cls.__new__(cls)
        self._encoding = None
        self._list = _parse_block(block)
        return self

    @property
    def encoding(self) -> str:
        """How values are read: what was set, else the first of ascii, utf-8, iso-8859-1
        that fits all of them."""
        return self._encoding or self._guess()

    @encoding.setter
    def encoding(self, value: str) -> None:
        self._encoding = value

    def _guess(self) -> str:
        ascii_only = True
        for name, _, value in self._list:
            if not (value.isascii() and name.isascii()):
                ascii_only = False
                try:
                    name.decode()
                    value.decode()
                except UnicodeDecodeError:
                    return "iso-8859-1"
        return "ascii" if ascii_only else "utf-8"

    def _decode(self, data: bytes) -> str:
        if data.isascii():
            return data.decode("ascii")
        return data.decode(self.encoding, "replace")

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """(name, value) as they go over the wire."""
        return [(name, value) for name, _, value in self._list]

    def keys(self) -> KeysView[str]:
        """The names in lower case, each once."""
        return {self._decode(lower): None for _, lower, _ in self._list}.keys()

    def values(self) -> Any:
        """The values, joined per name."""
        return self._merged().values()

    def items(self) -> Any:
        """(name in lower case, values joined by ", ")."""
        return self._merged().items()

    def _merged(self) -> dict[str, str]:
        merged: dict[str, str] = {}
        for _, lower, raw in self._list:
            name, value = self._decode(lower), self._decode(raw)
            merged[name] = f"{merged[name]}, {value}" if name in merged else value
        return merged

    def multi_items(self) -> list[tuple[str, str]]:
        """(name in lower case, value), one per field, nothing joined."""
        return [(self._decode(lower), self._decode(value)) for _, lower, value in self._list]

    def get(self, key: str, default: Any = None) -> Any:
        """The joined value, or `default`."""
        found = self._find(key)
        return default if found is None else found

    def get_list(self, key: str, split_commas: bool = False) -> list[str]:
        """All values of a name; with `split_commas` also what commas separate inside them."""
        wanted = _lower(key)
        values = [self._decode(value) for _, lower, value in self._list if lower == wanted]
        if not split_commas:
            return values
        return [part.strip() for value in values for part in value.split(",")]

    def update(self, headers: HeaderTypes | None = None) -> None:  # type: ignore[override]
        """Names in `headers` replace all of theirs here; the rest stays."""
        new = Headers(headers, self._encoding)._list
        if not new:
            return
        if self._list:
            names = {lower for _, lower, _ in new}
            self._list = [item for item in self._list if item[1] not in names]
        self._list.extend(new)

    def setdefault(self, key: str, default: str = "") -> str:
        """Adds the header if it is not there; gives what is there then."""
        found = self._find(key)
        if found is not None:
            return found
        self[key] = default
        return default

    def copy(self) -> Headers:
        """An independent copy."""
        return Headers(self)

    def add(self, key: str, value: str) -> None:
        """Adds a field beside others of that name (httpx has no word for this)."""
        raw, lower = _name(key, self._encoding)
        self._list.append((raw, lower, _value(raw, value, self._encoding)))

    def _find(self, key: str) -> str | None:
        wanted = _lower(key)
        found: str | None = None
        for _, lower, value in self._list:
            if lower == wanted:
                text = self._decode(value)
                found = text if found is None else f"{found}, {text}"
        return found

    def __getitem__(self, key: str) -> str:
        found = self._find(key)
        if found is None:
            raise KeyError(key)
        return found

    def __setitem__(self, key: str, value: str) -> None:
        raw, wanted = _name(key, self._encoding)
        item = (raw, wanted, _value(raw, value, self._encoding))
        for index, (_, lower, _) in enumerate(self._list):
            if lower == wanted:
                rest = [other for other in self._list[index + 1 :] if other[1] != wanted]
                self._list[index:] = [item, *rest]
                break
        else:
            self._list.append(item)

    def __delitem__(self, key: str) -> None:
        wanted = _lower(key)
        left = [item for item in self._list if item[1] != wanted]
        if len(left) == len(self._list):
            raise KeyError(key)
        self._list = left

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, (str, bytes)):
            return False
        wanted = _lower(key)
        return any(lower == wanted for _, lower, _ in self._list)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._list)

    def __bool__(self) -> bool:
        return bool(self._list)

    def __eq__(self, other: object) -> bool:
        try:
            theirs = other if isinstance(other, Headers) else Headers(cast(HeaderTypes, other))
        except (TypeError, ValueError, InvalidHeader):
            return False
        mine = sorted((lower, value) for _, lower, value in self._list)
        return mine == sorted((lower, value) for _, lower, value in theirs._list)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        pairs = [
            (self._decode(lower), "[secure]" if lower in _SECRET else self._decode(value))
            for _, lower, value in self._list
        ]
        as_dict = dict(pairs)
        inner = repr(as_dict) if len(as_dict) == len(pairs) else repr(pairs)
        extra = "" if self.encoding == "ascii" else f", encoding={self.encoding!r}"
        return f"Headers({inner}{extra})"


class WatchedHeaders(Headers):
    """Headers of which somebody made copies that must follow: `changed` is called after each
    change. Copies of it, pickled ones too, are plain `Headers`."""

    __slots__ = ("_changed",)

    def __init__(self, headers: Headers, changed: Callable[[], None]) -> None:
        super().__init__(headers)
        self._changed = changed

    def __reduce__(self) -> tuple[Any, ...]:
        return Headers, (self.raw, self._encoding)

    @property
    def encoding(self) -> str:
        """As of `Headers`."""
        return self._encoding or self._guess()

    @encoding.setter
    def encoding(self, value: str) -> None:
        self._encoding = value
        self._changed()

    def update(self, headers: HeaderTypes | None = None) -> None:  # type: ignore[override]
        super().update(headers)
        self._changed()

    def add(self, key: str, value: str) -> None:
        super().add(key, value)
        self._changed()

    def __setitem__(self, key: str, value: str) -> None:
        super().__setitem__(key, value)
        self._changed()

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._changed()


def _lower(key: _Text) -> bytes:
    """A name to look for; one that cannot be in the list simply is not found."""
    known = _names.get(key)
    if known is not None:
        return known[1]
    if isinstance(key, bytes):
        return key.lower()
    return key.lower().encode("utf-8", "replace")
