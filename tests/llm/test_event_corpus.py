"""The event streams of the web platform's EventSource tests, at every split: what a browser must make of them.

The inputs and what is to come out are those that the tests named here describe; a browser drops what no blank line ends.
"""

from __future__ import annotations

import pytest
from llmcurl._native import EventParser
from test_parsers import at_every_split

LONG = b"x" * 2048


def plain(*texts: bytes, id: str = "") -> list[tuple]:
    """Events with nothing but data."""
    return [("message", text, id, None) for text in texts]


def with_retry(text: bytes, retry: int) -> list[tuple]:
    return [("message", text, "", retry)]


CORPUS = {
    "event-data": (
        b"data:msg\ndata: msg\n\n:\nfalsefield:msg\n\nfalsefield:msg\nData:data\n\ndata\n\ndata:end\n\n",
        plain(b"msg\nmsg", b"", b"end"),
    ),
    "format-bom": (
        b"\xef\xbb\xbfdata:1\n\n\xef\xbb\xbfdata:2\n\ndata:3\n\n",
        plain(b"1", b"3"),
    ),
    "format-bom-2": (b"\xef\xbb\xbf\xef\xbb\xbfdata:1\n\ndata:2\n\ndata:3\n\n", plain(b"2", b"3")),
    "format-comments": (
        b"data:1\r:\0\n:\r\ndata:2\n:" + LONG + b"\rdata:3\n:data:fail\r:" + LONG + b"\ndata:4\n\n",
        plain(b"1\n2\n3\n4"),
    ),
    "format-data-before-final-empty-line": (
        b"retry:1000\ndata:test1\n\nid:test\ndata:test2",
        with_retry(b"test1", 1000),
    ),
    "format-field-data": (b"data:\n\ndata\ndata\n\ndata:test\n\n", plain(b"", b"\n", b"test")),
    "format-field-event": (
        b"event:test\ndata:x\n\ndata:x\n\n",
        [("test", b"x", "", None), ("message", b"x", "", None)],
    ),
    "format-field-event-empty": (b"event: \ndata:data\n\n", plain(b"data")),
    "format-field-id": (b"id: \xe2\x80\xa6\ndata:hello\n\n", plain(b"hello", id="\u2026")),
    "format-field-id-2": (
        b"id: \xe2\x80\xa6\ndata:hello\n\ndata:again\n\ndata:again\n\n",
        plain(b"hello", b"again", b"again", id="\u2026"),
    ),
    "format-field-id-3 persists": (b"id: 1\ndata: 1\n\ndata:2\n\n", plain(b"1", b"2", id="1")),
    "format-field-id-3 changes": (
        b"id: 1\ndata: 1\n\nid: 2\ndata:2\n\ndata:3\n\n",
        plain(b"1", id="1") + plain(b"2", b"3", id="2"),
    ),
    "format-field-id-3 resets": (
        b"id: 1\ndata: 1\n\nid:\ndata:2\n\ndata:3\n\n",
        plain(b"1", id="1") + plain(b"2", b"3"),
    ),
    "format-field-id-null": (b"id: \0\0\ndata:hello\n\n", plain(b"hello")),
    "format-field-id-null-2": (
        b"id: ok\n\nid: x\0y\ndata:hello\n\n",
        plain(b"hello", id="ok"),
    ),
    "format-field-parsing": (
        b"data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\ndata:4\n\n",
        plain(b"\0\n 2\n1\n3\n\n4"),
    ),
    "format-field-retry": (b"retry:02000\ndata:x\n\n", with_retry(b"x", 2000)),
    "format-field-retry-bogus": (b"retry:2000\nretry:1000x\ndata:x\n\n", with_retry(b"x", 2000)),
    "format-field-retry-empty": (b"retry\ndata:test\n\n", plain(b"test")),
    "format-field-unknown": (
        b"data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\ndata:test\n\n",
        plain(b"test\n\ntest"),
    ),
    "format-leading-space": (b"data:\ttest\rdata: \ndata:test\n\n", plain(b"\ttest\n\ntest")),
    "format-newlines": (b"data:test\r\ndata\ndata:test\r\n\r", plain(b"test\n\ntest")),
    "format-null-character": (b"data:\0\n\n\n\n", plain(b"\0")),
    "format-utf-8": (b"data:ok\xe2\x80\xa6\n\n", plain("ok\u2026".encode())),
    "eventsource-reconnect": (
        b"retry:2\ndata:opened\n\n",
        with_retry(b"opened", 2),
    ),
    "eventsource-onmessage": (b"data:data\n\n", plain(b"data")),
}


@pytest.mark.parametrize("name", CORPUS)
def test_corpus(name):
    data, events = CORPUS[name]
    assert at_every_split(lambda: EventParser(flush=False), data) == events


@pytest.mark.parametrize("name", CORPUS)
def test_corpus_in_three_pieces(name):
    data, events = CORPUS[name]
    if len(data) > 200:
        data = data.replace(LONG, b"x")
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            parser = EventParser(flush=False)
            found = (
                parser.feed(data[:first])
                + parser.feed(data[first:second])
                + parser.feed(data[second:])
            )
            assert found + parser.finish() == events, (first, second)
