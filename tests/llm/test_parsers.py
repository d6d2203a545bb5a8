"""The native push parsers as Python objects; their rules are tested in tests/core."""

from __future__ import annotations

import gc
import json

import pytest
from llmcurl._native import DeltaParser, EventParser, LineParser


def chunk(text: str, **more: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    return json.dumps({"id": "c", "choices": [{**choice, **more}]}).encode()


def sse(*datas: bytes) -> bytes:
    return b"".join(b"data: " + data + b"\n\n" for data in datas)


def at_every_split(make, data: bytes) -> list:
    """The same result for every way to cut the input in two, and byte for byte."""
    whole = make()
    expected = [*whole.feed(data), *whole.finish()]
    for cut in range(len(data) + 1):
        parser = make()
        assert [*parser.feed(data[:cut]), *parser.feed(data[cut:]), *parser.finish()] == expected
    parser = make()
    bytewise = [item for i in range(len(data)) for item in parser.feed(data[i : i + 1])]
    assert [*bytewise, *parser.finish()] == expected
    return expected


class TestEvents:
    def test_fields(self):
        data = (
            b"\xef\xbb\xbf: hello\r\nevent: a\r\nid: 7\r\ndata: x\r\ndata:y\r\n\r\n"
            b"retry: 250\rdata\r\rdata: \xe2\x80\xa8 \xc3\xa9\n\nevent: gone\n\ndata: last"
        )
        assert at_every_split(EventParser, data) == [
            ("a", b"x\ny", "7", None),
            ("message", b"", "7", 250),
            ("message", b"\xe2\x80\xa8 \xc3\xa9", "7", None),
            ("message", b"last", "7", None),
        ]

    def test_without_flush_the_rest_is_dropped_as_in_browsers(self):
        parser = EventParser(flush=False)
        assert parser.feed(b"data: 1\n\ndata: 2") == [("message", b"1", "", None)]
        assert parser.finish() == []

    def test_retry(self):
        parser = EventParser()
        assert parser.retry is None
        parser.feed(b"retry: 12\n\n")
        assert parser.retry == 12

    def test_names_that_are_not_utf8(self):
        assert EventParser().feed(b"event: \xff\ndata: \xff\n\n") == [("\ufffd", b"\xff", "", None)]


class TestLines:
    def test_lines(self):
        data = b'{"a":1}\n\n  \r\n{"b":"\xe2\x80\xa8"}\r\nrest'
        assert at_every_split(LineParser, data) == [b'{"a":1}', b'{"b":"\xe2\x80\xa8"}', b"rest"]

    def test_takes_any_buffer(self):
        assert LineParser().feed(memoryview(bytearray(b"x\n"))) == [b"x"]


class TestDeltas:
    def test_openai(self):
        data = sse(chunk(""), chunk("a"), chunk("é\n\U0001f600"), chunk("x", index=1), b"[DONE]")
        found = at_every_split(lambda: DeltaParser("openai"), data)
        assert found == [chunk(""), "a", "é\n\U0001f600", chunk("x", index=1), b"[DONE]"]

    def test_the_first_event_is_raw_whatever_it_holds(self):
        assert DeltaParser("openai").feed(sse(chunk("a"), chunk("b"))) == [chunk("a"), "b"]

    def test_an_event_named_error_is_told_apart(self):
        parser = DeltaParser("openai")
        assert parser.feed(b"event: error\n" + sse(chunk("a"))) == [("error", chunk("a"))]

    def test_each_block_of_anthropic_begins_raw(self):
        def delta(index: int, text: str) -> bytes:
            inner = {"type": "text_delta", "text": text}
            return json.dumps(
                {"type": "content_block_delta", "index": index, "delta": inner}
            ).encode()

        parser = DeltaParser("anthropic")
        events = [b'{"type":"message_start"}', delta(0, "a"), delta(0, "b"), delta(2, "c")]
        assert parser.feed(sse(*events, delta(2, "d"))) == [*events[:2], "b", events[3], "d"]

    def test_gemini_keeps_the_last_usage(self):
        def answer(text: str, count: int) -> bytes:
            candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
            usage = {"candidatesTokenCount": count}
            return json.dumps({"candidates": [candidate], "usageMetadata": usage}).encode()

        parser = DeltaParser("gemini")
        assert parser.usage is None
        assert parser.feed(sse(answer("a", 1), answer("b", 2), answer("c", 3)))[1:] == ["b", "c"]
        assert parser.usage == answer("c", 3)

    def test_ollama_is_framed_by_lines(self):
        def line(text: str, done: bool) -> bytes:
            message = {"role": "assistant", "content": text}
            return json.dumps({"model": "m", "message": message, "done": done}).encode()

        data = b"\n".join([line("a", False), line("b", False), line("", True)])
        found = at_every_split(lambda: DeltaParser("ollama"), data)
        assert found == [line("a", False), "b", line("", True)]


@pytest.mark.parametrize(
    "make, data",
    [
        (lambda: EventParser(64), b"data: ok\n\ndata: " + b"x" * 100),
        (lambda: LineParser(64), b"ok\n" + b"x" * 100),
        (lambda: DeltaParser("openai", 64), b"data: ok\n\ndata: " + b"x" * 100),
        (lambda: DeltaParser("ollama", 64), b"ok\n" + b"x" * 100),
    ],
)
class TestCeiling:
    def test_what_came_before_is_given_first(self, make, data):
        parser = make()
        assert len(parser.feed(data)) == 1
        for call in (lambda: parser.feed(b""), parser.finish):
            with pytest.raises(ValueError, match="larger than 64 bytes"):
                call()

    def test_raised_at_once_if_nothing_is_lost_by_it(self, make, data):
        with pytest.raises(ValueError, match="larger than 64 bytes"):
            make().feed(data[10:] if b"data" in data else data[3:])


@pytest.mark.parametrize("make", [EventParser, LineParser, lambda: DeltaParser("gemini")])
def test_after_the_end(make):
    parser = make()
    parser.finish()
    for call in (lambda: parser.feed(b""), parser.finish):
        with pytest.raises(ValueError, match="ended"):
            call()


def test_arguments():
    with pytest.raises(ValueError):
        DeltaParser("other")
    with pytest.raises(ValueError):
        EventParser(0)
    with pytest.raises(TypeError):
        LineParser().feed("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        EventParser.feed = None  # type: ignore[method-assign, assignment]
    assert not gc.is_tracked(EventParser())
