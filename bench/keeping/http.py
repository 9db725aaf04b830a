"""What 10,000 requests that schemathesis makes up of the served document are answered with."""

from collections import Counter

import uvloop

from bench.http_fuzz import REQUESTS, serve
from bench.report import Bar, Part, Row
from bench.scenario import Options


def http(options: Options) -> Part:
    """Send them to a server on a real swarm, and check every answer against the document."""
    found = uvloop.run(serve(300 if options.quick else REQUESTS))
    by_status: Counter[int] = Counter()
    for (_, status), count in found.statuses.items():
        by_status[status] += count
    said = ", ".join(f"{status}: {count:,}" for status, count in sorted(by_status.items()))
    what = f"HTTP, {found.sent:,} generated requests"
    return Part(
        [
            Row(f"{what}: answered with 5xx", found.server_errors, bar=Bar("<=", 0), note=said),
            Row(f"{what}: not as documented", len(found.wrong), bar=Bar("<=", 0)),
        ]
    )
