"""What Prometheus is told: every metric's name and meaning, read from the rooms at each scrape."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from dhtmeta.daemon.census import UNKNOWN, Census
from dhtmeta.daemon.finding import registry_requests
from dhtmeta.daemon.responses import VERSION
from dhtmeta.daemon.status import State, Status
from dhtmeta.dht.direct.carrier import DirectCarrier
from dhtmeta.dht.direct.core import Traffic
from dhtmeta.discovery.finder import Finder
from dhtmeta.engine.counts import Counts
from dhtmeta.errors import NetworkUnreachable
from dhtmeta.node import Node

COPIES_BUCKETS = (0, 1, 2, 4, 6, 8, 12, 16, 20)  # 8 is k of BEP 5, 20 what a put stores on
METHODS = {"GET", "HEAD", "PUT"}  # others are counted as one: a client can send any word

_CACHE = {  # counter of the cache -> metric and its meaning
    "hits": ("dhtmeta_cache_hits", "Queries that a fresh cached record answered."),
    "misses": ("dhtmeta_cache_misses", "Queries that found nothing in the cache."),
    "stale": ("dhtmeta_cache_stale", "Queries that found a stale record in the cache."),
    "lookups": ("dhtmeta_lookups", "Lookups started on the DHT."),
}
_COUNTS = {  # field of Counts -> metric and its meaning
    "topped_up": ("dhtmeta_topups", "Nodes a kept record was stored on, since they lacked it."),
    "copies_lost": ("dhtmeta_copies_lost", "Copies there at one look and gone at the next."),
    "records_lost": ("dhtmeta_records_lost", "Looks that found no copy of a stored record."),
    "conflicts": ("dhtmeta_conflicts", "Looks that met another value under the same seq."),
    "adopted": ("dhtmeta_adopted", "Looks that met a newer item of the owner."),
}
_STATUS = {  # field of Status -> metric and its meaning
    "kept": ("dhtmeta_records_kept", "Records that are kept alive."),
    "due": ("dhtmeta_records_due", "Kept records that are to be looked at now."),
    "late": ("dhtmeta_records_late", "Kept records due for more than one republish interval."),
    "damaged": ("dhtmeta_records_damaged", "Rows of the ledger that do not verify any more."),
    "unfinished": ("dhtmeta_records_unfinished", "Records reserved, not known to be stored."),
    "speed": ("dhtmeta_copy_death_speed", "How fast copies die, beside the survival law."),
}
_SEARCH = {  # field of SourceCounts -> its meaning
    "asked": "How often a source of candidates was asked.",
    "failed": "How often it could not be asked.",
    "candidates": "Candidates that it named.",
    "found": "Peers that were not known before.",
}
_GOSSIP = {  # field of GossipCounts -> its meaning
    "hints": "Known peers that others told us of.",
    "wanted": "Records that we asked for.",
    "taken": "Records that were new here.",
    "refused": "Records that were refused: forged, of no topic of ours, or old.",
    "told": "Known peers that we told others of.",
}


class Metrics:
    """All metrics of one daemon, in a registry of their own."""

    def __init__(
        self,
        node: Node,
        counts: Counts,
        status: Callable[[], Status],
        census: Census,
        finder: Finder | None = None,
    ) -> None:
        self._finder = finder
        self._node, self._counts, self._status, self._census = node, counts, status, census
        self._requests: Counter[tuple[str, str, str]] = Counter()  # method, route, status
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)

    def count_request(self, method: str, route: str, status: int) -> None:
        """Count a request; `route` is the template that it met, never what a client made up."""
        known = method if method in METHODS else "other"
        self._requests[known, route, str(status)] += 1

    async def scrape(self) -> bytes:
        """Return the text for Prometheus."""
        connectable = (await self._census.count()).connectable
        scraped = _Scraped([*self._families(connectable, await dht_nodes(self._node))])
        self._registry.register(scraped)
        try:
            return generate_latest(self._registry)
        finally:
            self._registry.unregister(scraped)

    def _families(self, connectable: int, nodes: int) -> Iterator[Metric]:
        status = self._status()
        yield _gauge("dhtmeta_build_info", "Always 1.", "version", {VERSION: 1})
        states = {str(one): int(one is status.state) for one in State}
        yield _gauge("dhtmeta_state", "1 for the state it is in, else 0.", "state", states)
        yield from self._of_the_node(connectable, nodes)
        yield from self._of_the_counts()
        if self._finder is not None:
            yield from _of_the_search(self._finder)
            yield from _of_the_exchange(self._finder)
            yield from _of_ourselves(self._finder)
        for name, (metric, help_) in _STATUS.items():
            yield GaugeMetricFamily(metric, help_, value=getattr(status, name))
        yield self._http()

    def _of_the_node(self, connectable: int, nodes: int) -> Iterator[Metric]:
        counters = self._node.counters
        for name, (metric, help_) in _CACHE.items():
            yield CounterMetricFamily(metric, help_, value=counters[name])
        for metric, help_, value in (
            ("dhtmeta_cache_entries", "Records in the cache.", counters["entries"]),
            ("dhtmeta_known_peers", "Known public keys.", len(self._node.known_peers)),
            ("dhtmeta_connectable_peers", "Peers whose record says how to connect.", connectable),
            ("dhtmeta_dht_nodes", "Nodes of the routing table that answered lately.", nodes),
        ):
            yield GaugeMetricFamily(metric, help_, value=value)
        seen = traffic(self._node)
        if seen is not None:
            yield _by_direction("dhtmeta_datagrams", seen.datagrams_in, seen.datagrams_out)
            yield _by_direction("dhtmeta_bytes", seen.bytes_in, seen.bytes_out)

    def _of_the_counts(self) -> Iterator[Metric]:
        counts = self._counts
        yield _by_result(
            "dhtmeta_publishes", "Publishes.", counts.publishes_ok, counts.publishes_failed
        )
        yield _by_result(
            "dhtmeta_looks", "Looks at kept records.", counts.looks_ok, counts.looks_failed
        )
        for name, (metric, help_) in _COUNTS.items():
            yield CounterMetricFamily(metric, help_, value=getattr(counts, name))
        yield _histogram(counts.copies)

    def _http(self) -> Metric:
        requests = CounterMetricFamily(
            "dhtmeta_http_requests", "HTTP requests.", labels=["method", "route", "status"]
        )
        for labels, count in self._requests.items():
            requests.add_metric(labels, count)
        return requests


def _of_the_search(finder: Finder) -> Iterator[Metric]:
    sources = finder.ladder.counts
    for name, help_ in _SEARCH.items():
        by_source = {source: getattr(counts, name) for source, counts in sources.items()}
        yield _counter(f"dhtmeta_discovery_{name}", help_, "source", by_source)
    help_ = "HTTP requests that registries were sent."
    yield CounterMetricFamily("dhtmeta_registry_requests", help_, value=registry_requests(finder))


def _of_the_exchange(finder: Finder) -> Iterator[Metric]:
    outbound = sum(link.outbound for link in finder.exchange.links)
    directions = {"in": len(finder.exchange.links) - outbound, "out": outbound}
    help_ = "Open connections with peers, by who dialled."
    yield _gauge("dhtmeta_exchange_connections", help_, "direction", directions)
    dials = finder.dialler.counts
    yield _by_result("dhtmeta_exchange_dials", "Candidates dialled.", dials.ok, dials.failed)
    for name, help_ in _GOSSIP.items():
        value = getattr(finder.gossip.counts, name)
        yield CounterMetricFamily(f"dhtmeta_gossip_{name}", help_, value=value)


def _of_ourselves(finder: Finder) -> Iterator[Metric]:
    us = finder.ourselves
    types = {one: int(one == (us.node_type or UNKNOWN)) for one in ("public", "private", UNKNOWN)}
    yield _gauge("dhtmeta_node_type", "1 for what we are to others, else 0.", "type", types)
    for metric, help_, value in (
        ("dhtmeta_has_topic", "1 if peers of a topic are looked for.", bool(us.topic)),
        ("dhtmeta_attached", "1 if a relay holds us.", finder.attachment.session is not None),
        ("dhtmeta_relay_sessions", "Peers that we hold as a relay.", finder.desk.load),
    ):
        yield GaugeMetricFamily(metric, help_, value=int(value))


class _Scraped(Collector):
    """The families of one scrape, which had to be waited for: a registry cannot wait."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


async def dht_nodes(node: Node) -> int:
    """Return how many nodes of the routing table answered lately; 0 if we are offline."""
    try:
        return len(await node.carrier.live_nodes())
    except NetworkUnreachable:
        return 0


def traffic(node: Node) -> Traffic | None:
    """Return what our own lookups sent and got; None where the carrier does not count that."""
    try:
        carrier = node.carrier
    except NetworkUnreachable:
        return None
    return carrier.core.traffic if isinstance(carrier, DirectCarrier) else None


def _gauge(name: str, help_: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, help_, labels=[label])
    for one, value in values.items():
        family.add_metric([one], value)
    return family


def _counter(name: str, help_: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, help_, labels=[label])
    for one, value in values.items():
        family.add_metric([one], value)
    return family


def _by_result(name: str, help_: str, ok: int, failed: int) -> Metric:
    return _counter(name, help_, "result", {"ok": ok, "failed": failed})


def _by_direction(name: str, came_in: int, went_out: int) -> Metric:
    return _counter(
        name, "Of our own lookups (UDP).", "direction", {"in": came_in, "out": went_out}
    )


def _histogram(copies: Counter[int]) -> Metric:
    """Return looks by how many copies they found, from exact counts."""
    buckets = [
        (str(float(most)), float(sum(n for found, n in copies.items() if found <= most)))
        for most in COPIES_BUCKETS
    ]
    family = HistogramMetricFamily(
        "dhtmeta_record_copies", "Copies found by looks, of the closest."
    )
    total = float(copies.total())
    summed = float(sum(found * n for found, n in copies.items()))
    family.add_metric([], [*buckets, ("+Inf", total)], summed)
    return family
