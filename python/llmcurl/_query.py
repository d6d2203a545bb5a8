"""`QueryParams`: the query of a URL as an immutable multi-dict, as in httpx."""

from __future__ import annotations

from collections.abc import Iterator, KeysView, Mapping, Sequence
from typing import Any, Union
from urllib.parse import parse_qs, urlencode

from ._redact import mask_query

__all__ = ["QueryParamTypes", "QueryParams", "param_text"]

PrimitiveData = str | int | float | bool | None
QueryParamTypes = Union[
    "QueryParams",
    Mapping[str, PrimitiveData | Sequence[PrimitiveData]],
    Sequence[tuple[str, PrimitiveData]],
    str,
    bytes,
]


def param_text(value: object) -> str:
    """One parameter as text: true/false as in JSON, None as nothing.

    Raises:
        TypeError: a dict, list, bytes... that has no obvious text.
    """
    if value is True:
        return "true"
    if value is False:
        return "false"
    if value is None:
        return ""
    if isinstance(value, (dict, list, tuple, set, frozenset, bytes, bytearray)):
        raise TypeError(f"a parameter must be str, int, float, bool or None, not {value!r}")
    return str(value)


def _as_dict(value: Any) -> dict[str, list[str]]:
    """The parameters in the order of first appearance."""
    if value is None:
        return {}
    if isinstance(value, (str, bytes)):
        text = value.decode("ascii") if isinstance(value, bytes) else value
        return parse_qs(text.removeprefix("?"), keep_blank_values=True)
    if isinstance(value, QueryParams):
        return {key: values.copy() for key, values in value._dict.items()}
    result: dict[str, list[str]] = {}
    if isinstance(value, Mapping):
        for key, item in value.items():
            many = item if isinstance(item, (list, tuple)) else (item,)
            if many:
                result[str(key)] = [param_text(one) for one in many]
        return result
    for key, item in value:
        result.setdefault(str(key), []).append(param_text(item))
    return result


class QueryParams(Mapping[str, str]):
    """Query parameters; the first value of a name is what ``params["name"]`` gives.

    Args:
        params: a query string, a mapping (values may be lists), or pairs.
        kwargs: parameters by name, instead of `params`.

    Raises:
        TypeError: both given, or a value without obvious text.
    """

    __slots__ = ("_dict",)

    _dict: dict[str, list[str]]

    def __init__(self, params: QueryParamTypes | None = None, **kwargs: Any) -> None:
        if params is not None and kwargs:
            raise TypeError("give parameters either as one object or by name, not both")
        self._dict = _as_dict(kwargs if kwargs else params)

    @classmethod
    def _of(cls, values: dict[str, list[str]]) -> QueryParams:
        self = cls.__new__(cls)
        self._dict = values
        return self

    def keys(self) -> KeysView[str]:
        """All names, each once."""
        return self._dict.keys()

    def values(self) -> Any:
        """The first value of each name."""
        return {key: values[0] for key, values in self._dict.items()}.values()

    def items(self) -> Any:
        """(name, its first value)."""
        return {key: values[0] for key, values in self._dict.items()}.items()

    def multi_items(self) -> list[tuple[str, str]]:
        """(name, value) for every value."""
        return [(key, value) for key, values in self._dict.items() for value in values]

    def get(self, key: str, default: Any = None) -> Any:
        """The first value of a name, or `default`."""
        values = self._dict.get(str(key))
        return values[0] if values else default

    def get_list(self, key: str) -> list[str]:
        """All values of a name."""
        return list(self._dict.get(str(key), ()))

    def set(self, key: str, value: Any = None) -> QueryParams:
        """A copy in which `key` has this one value."""
        return self._of({**_as_dict(self), str(key): [param_text(value)]})

    def add(self, key: str, value: Any = None) -> QueryParams:
        """A copy with one more value."""
        values = _as_dict(self)
        values.setdefault(str(key), []).append(param_text(value))
        return self._of(values)

    def remove(self, key: str) -> QueryParams:
        """A copy without `key`."""
        values = _as_dict(self)
        values.pop(str(key), None)
        return self._of(values)

    def merge(self, params: QueryParamTypes | None = None) -> QueryParams:
        """A copy in which the names of `params` replace those here."""
        return self._of({**_as_dict(self), **_as_dict(params)})

    def __getitem__(self, key: str) -> str:
        return self._dict[key][0]

    def __contains__(self, key: object) -> bool:
        return key in self._dict

    def __iter__(self) -> Iterator[str]:
        return iter(self._dict)

    def __len__(self) -> int:
        return len(self._dict)

    def __bool__(self) -> bool:
        return bool(self._dict)

    def __hash__(self) -> int:
        return hash(tuple(sorted(self.multi_items())))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QueryParams):
            return False
        return sorted(self.multi_items()) == sorted(other.multi_items())

    def __str__(self) -> str:
        return urlencode(self.multi_items())

    def __repr__(self) -> str:
        return f"QueryParams({mask_query(str(self))!r})"
