"""A FastAPI service in front of a model: `uvicorn --app-dir examples fastapi_app:app`.

POST /generate {"prompt": "..."} answers with {"text": "..."}; with "stream": true it answers
with server-sent events, one per piece of text. A client that goes away ends the call to the
model, too: the generator is closed, and with it the block of the stream.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from llmcurl.llm import LLMError, OpenAI, RateLimitError, Stream
from pydantic import BaseModel


class Prompt(BaseModel):
    prompt: str
    stream: bool = False


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # One client for the whole life of the service: its connections are kept.
    async with OpenAI(model=os.environ.get("LLMCURL_MODEL", "gpt-5-mini")) as llm:
        app.state.llm = llm
        yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(LLMError)
async def failed(request: Request, error: LLMError) -> JSONResponse:
    """The model's trouble as ours: 429 stays 429, the rest is a bad gateway."""
    status = 429 if isinstance(error, RateLimitError) else 502
    headers = {} if error.retry_after is None else {"Retry-After": f"{error.retry_after:g}"}
    return JSONResponse({"error": error.message}, status, headers)


@app.post("/generate", response_model=None)
async def generate(request: Request, given: Prompt) -> JSONResponse | StreamingResponse:
    llm: OpenAI = request.app.state.llm
    if not given.stream:
        reply = await llm.chat(given.prompt)
        return JSONResponse({"text": reply.text, "tokens": reply.usage.total_tokens})
    # Entered here, so that what fails before the first token gets a status of its own.
    stream = llm.stream(given.prompt)
    await stream.__aenter__()
    return StreamingResponse(events(stream), media_type="text/event-stream")


async def events(stream: Stream) -> AsyncIterator[str]:
    """The pieces of text as server-sent events."""
    try:
        async for text in stream.text_stream:
            yield f"data: {json.dumps({'text': text})}\n\n"
        yield "data: [DONE]\n\n"
    except LLMError as error:
        yield f"event: error\ndata: {json.dumps({'error': error.message})}\n\n"
    finally:
        await stream.__aexit__(None, None, None)
