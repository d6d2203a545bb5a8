"""`Embeddings`: vectors in one piece of memory."""

from __future__ import annotations

import binascii
import sys
from array import array
from collections.abc import Iterable, Iterator
from typing import Any, cast, overload

import msgspec

from .._models import Response
from ._types import Usage

__all__ = ["Embeddings"]


class Embeddings:
    """Vectors, in the order of the texts: a sequence of memoryviews of float32.

    Attributes:
        data: all of them, one after the other, as an array("f").
        dimensions: floats per vector.
        usage: tokens, as far as known. model: that made them.
        response: the HTTP response.
    """

    __slots__ = ("_count", "data", "dimensions", "model", "response", "usage")

    def __init__(
        self,
        rows: Iterable[str | list[float]],
        *,
        model: str,
        usage: Usage,
        response: Response,
    ) -> None:
        """`rows`: lists of floats, or base64 of little-endian float32.

        Raises:
            ValueError: rows of unequal length, or what is no vector.
        """
        data = array("f")
        self.dimensions = 0
        self._count = 0
        for row in rows:
            before = len(data)
            if isinstance(row, str):
                data.frombytes(binascii.a2b_base64(row, strict_mode=True))
                if sys.byteorder == "big":
                    tail = data[before:]
                    tail.byteswap()
                    data[before:] = tail
            else:
                data.extend(row)
            size = len(data) - before
            if self._count and size != self.dimensions:
                raise ValueError(f"vectors of {self.dimensions} and {size} floats in one answer")
            self.dimensions = size
            self._count += 1
        self.data = data
        self.model = model
        self.usage = usage
        self.response = response

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> memoryview[float]: ...
    @overload
    def __getitem__(self, index: slice) -> list[memoryview[float]]: ...
    def __getitem__(self, index: int | slice) -> memoryview[float] | list[memoryview[float]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if index < 0:
            index += self._count
        if not 0 <= index < self._count:
            raise IndexError("no such vector")
        start = index * self.dimensions
        floats = cast("memoryview[float]", memoryview(self.data))
        return floats[start : start + self.dimensions]

    def __iter__(self) -> Iterator[memoryview[float]]:
        return (self[i] for i in range(self._count))

    def numpy(self) -> Any:
        """A numpy array of (texts, dimensions) over the same memory. ImportError without numpy."""
        import numpy

        return numpy.frombuffer(self.data, dtype=numpy.float32).reshape(
            self._count, self.dimensions
        )

    def tolist(self) -> list[list[float]]:
        """Lists of floats."""
        flat = self.data.tolist()
        size = self.dimensions
        return [flat[i * size : (i + 1) * size] for i in range(self._count)]

    def json(self) -> Any:
        """The provider's whole answer."""
        return msgspec.json.decode(self.response.content)

    def __repr__(self) -> str:
        return f"<Embeddings {self._count} x {self.dimensions}>"
