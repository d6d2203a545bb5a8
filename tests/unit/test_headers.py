"""Headers: httpx's behaviour, order and casing kept, injection refused, secrets masked."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import httpx
import pytest
from llmcurl._exceptions import InvalidHeader
from llmcurl._headers import Headers

# Values only: without native objects and descriptors there is nothing to leave behind.
pytestmark = pytest.mark.leaves_traces

PAIRS = [("Accept", "a"), ("X-One", "1"), ("accept", "b, c"), ("X-Two", "2")]


def both(value: Any) -> tuple[Headers, httpx.Headers]:
    return Headers(value), httpx.Headers(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"A": "1"},
        PAIRS,
        {b"A": b"1"},
        [(b"A", b"1"), (b"a", b"2")],
        [("A", "")],
        iter([("A", "1")]),
    ],
)
def test_headers_read_as_in_httpx(value: Any) -> None:
    value = list(value) if hasattr(value, "__next__") else value
    ours, theirs = both(value)
    assert ours.raw == theirs.raw
    assert list(ours) == list(theirs) and len(ours) == len(theirs)
    assert list(ours.items()) == list(theirs.items()) and ours.multi_items() == theirs.multi_items()
    assert list(ours.values()) == list(theirs.values())
    for name in ("accept", "ACCEPT", "A", "missing"):
        assert ours.get(name) == theirs.get(name) and (name in ours) == (name in theirs)
        assert ours.get_list(name) == theirs.get_list(name)
        assert ours.get_list(name, split_commas=True) == theirs.get_list(name, split_commas=True)


def change(headers: Any) -> None:
    headers["ACCEPT"] = "new"
    headers["X-Three"] = "3"
    del headers["x-one"]
    headers.update({"X-Two": "two", "Y": "y"})
    headers.setdefault("y", "ignored")
    headers.setdefault("z", "set")


def test_headers_change_as_in_httpx() -> None:
    ours, theirs = both(PAIRS)
    change(ours), change(theirs)
    assert ours.raw == theirs.raw
    assert ours.pop("y") == theirs.pop("y")
    with pytest.raises(KeyError):
        del ours["nothing"]
    with pytest.raises(KeyError):
        ours["nothing"]


def test_a_copy_is_independent() -> None:
    first = Headers(PAIRS)
    for again in (
        first.copy(),
        Headers(first),
        copy.copy(first),
        copy.deepcopy(first),
        pickle.loads(pickle.dumps(first)),
    ):
        assert again == first and again.raw == first.raw
    other = first.copy()
    other["x-one"] = "changed"
    assert first["x-one"] == "1"


def test_headers_equal_without_regard_to_casing_and_order() -> None:
    assert (
        Headers(PAIRS)
        == Headers(list(reversed(PAIRS)))
        == [(name.upper(), value) for name, value in PAIRS]
    )
    assert Headers({"a": "1"}) != Headers({"a": "2"}) and Headers() != 5


def test_add_keeps_what_is_there() -> None:
    headers = Headers({"A": "1"})
    headers.add("a", "2")
    assert headers.raw == [(b"A", b"1"), (b"a", b"2")] and headers["A"] == "1, 2"


@pytest.mark.parametrize("value", ["héllo", "日本", "plain"])
def test_text_beyond_ascii_goes_as_utf_8_and_comes_back(value: str) -> None:
    headers = Headers({"X": value})
    assert headers.raw == [(b"X", value.encode())] and headers["x"] == value


@pytest.mark.parametrize(
    ("raw", "encoding"), [(b"abc", "ascii"), ("é".encode(), "utf-8"), (b"\xe9", "iso-8859-1")]
)
def test_received_values_are_read_in_the_encoding_that_fits(raw: bytes, encoding: str) -> None:
    ours, theirs = both([(b"X", raw)])
    assert ours["x"] == theirs["x"] and ours.encoding == theirs.encoding == encoding


def test_the_encoding_can_be_chosen_and_follows_changes() -> None:
    assert Headers({"X": "é"}, encoding="iso-8859-1").raw == [(b"X", b"\xe9")]
    headers = Headers({"X": "a"})
    assert headers.encoding == "ascii"
    headers["Y"] = "é"
    assert headers["Y"] == "é" and headers.encoding == "utf-8"


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\0b", "a\r\nX-Evil: 1", b"a\nb", "secret\n"])
def test_a_value_cannot_forge_a_header_and_is_not_shown(value: Any) -> None:
    for make in (
        lambda: Headers({"X-Key": value}),
        lambda: Headers().__setitem__("X-Key", value),
        lambda: Headers().update({"X-Key": value}),
    ):
        with pytest.raises(InvalidHeader, match="X-Key") as caught:
            make()
        assert "Evil" not in str(caught.value) and "secret" not in str(caught.value)


def test_a_line_break_at_the_end_is_called_that() -> None:
    with pytest.raises(InvalidHeader, match="ends with a line break"):
        Headers({"Authorization": "Bearer x\n"})


@pytest.mark.parametrize(
    "name", ["", "a b", "a:b", "a\r\nb", "ä", "a\0", "(a)", b"a b", "X-A\r\nAuthorization: hush"]
)
def test_a_name_must_be_a_token(name: Any) -> None:
    with pytest.raises(InvalidHeader) as caught:
        Headers([(name, "1")])
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("value", [{"a": 1}, {"a": None}, {1: "a"}, "a: b", b"x", 5, [1], [("a",)]])
def test_what_is_no_header_at_all_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Headers(value)


def test_a_received_block_is_parsed_whatever_the_server_did() -> None:
    block = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nSet-Cookie: a=1\r\nX-Fold: one\r\n two\r\n\tthree\r\n"
        b"set-cookie: b=2\r\nNo colon here\r\nX-Space :  padded \t\r\nX-Empty:\r\nX-Bare: a\rb\r\n"
    )
    headers = Headers.from_block(block)
    assert headers.raw == [
        (b"Content-Type", b"text/plain"),
        (b"Set-Cookie", b"a=1"),
        (b"X-Fold", b"one two three"),
        (b"set-cookie", b"b=2"),
        (b"X-Space", b"padded"),
        (b"X-Empty", b""),
        (b"X-Bare", b"a\rb"),
    ]
    assert headers.get_list("set-cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize(
    "block", [b"", b"HTTP/2 200 \r\n", b"HTTP/1.1 200 OK", b" x\r\n", b"\r\n\r\n", b"A: 1\nB: 2\n"]
)
def test_any_block_can_be_parsed(block: bytes) -> None:
    assert len(Headers.from_block(block)) == block.count(b": ")


def test_a_repr_masks_secrets() -> None:
    names = [
        "Authorization",
        "proxy-authorization",
        "Cookie",
        "Set-Cookie",
        "X-API-Key",
        "api-key",
        "x-goog-api-key",
    ]
    text = repr(Headers([*((name, "hush") for name in names), ("Accept", "shown")]))
    assert "hush" not in text and text.count("[secure]") == len(names) and "shown" in text
    assert repr(Headers({"Authorization": "hush"})) == repr(
        httpx.Headers({"Authorization": "hush"})
    )
    assert repr(Headers([("a", "1"), ("a", "2")])) == repr(httpx.Headers([("a", "1"), ("a", "2")]))


def test_the_memory_of_known_names_is_bounded() -> None:
    from llmcurl import _headers

    for number in range(2000):
        Headers({f"x-{number}": "1"})
    assert len(_headers._names) <= _headers._NAMES_MAX
