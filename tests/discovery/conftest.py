"""Fixtures of discovery: daemons on an internet of namespaces."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest_asyncio

from dhtmeta.testing.netns import Internet
from tests.discovery.town import Town


@pytest_asyncio.fixture
async def town(internet: Internet, tmp_path: Path) -> AsyncIterator[Town]:
    """Run daemons on hosts of `internet` for one test."""
    async with AsyncExitStack() as stack:
        yield Town(tmp_path, stack)
