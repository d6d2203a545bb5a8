"""Waiting for what must come true."""

from __future__ import annotations

import asyncio


async def until(condition, timeout: float = 20.0) -> None:
    end = asyncio.get_running_loop().time() + timeout
    while not condition():
        assert asyncio.get_running_loop().time() < end, "it did not come true in time"
        await asyncio.sleep(0.005)
