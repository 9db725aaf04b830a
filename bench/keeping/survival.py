"""Rows of the simulated months: what stays retrievable, node-puts and datagrams, and a baseline."""

from statistics import fmean

from bench.keeping.month import DAY, Month, Scenario, hourly_baseline, hourly_libtorrent, run
from bench.report import Bar, Part, Row
from bench.scenario import Options

KEYS = 2000
FIRST = 6  # beside the seed: the months that are kept began with 7


def law(options: Options) -> Part:
    """Let copies die as the survival law has it."""
    keys, days = (200, 2.0) if options.quick else (KEYS, 30.0)
    seed = FIRST + options.seed
    month = run(Scenario("law", keys, days, seed=seed))
    ours = month.datagrams_a_day
    frugal = hourly_baseline(50, 6 if options.quick else 24, seed)
    plain = hourly_libtorrent(200, seed)
    rows = [
        *_rows(f"{days:g} days, {keys:,} keys", month, bar=0.999),
        Row("node-puts a key and hour", month.node_puts, bar=Bar("<=", 0.3)),
        Row("datagrams a key and day", ours, note=f"{month.looks_a_day:.2f} looks"),
        Row(
            "hourly to 8 nodes through libtorrent's rules / ours, datagrams",
            plain / ours,
            "x",
            bar=Bar(">=", 15),
            note=f"{plain:,.0f} a key and day",
        ),
        Row(
            "hourly to 8 nodes through our own lookups / ours, datagrams",
            frugal / ours,
            "x",
            bar=Bar(">=", 15),
            note=f"{frugal:,.0f} a key and day",
        ),
    ]
    return Part(rows, {"found": month.found, "speed": month.speeds})


def fast(options: Options) -> Part:
    """Let copies die three times as fast, and tell nobody."""
    keys, days = (200, 2.0) if options.quick else (KEYS, 5.0)
    month = run(Scenario("fast", keys, days, speed=3.0, seed=FIRST + options.seed))
    rows = [
        *_rows(f"dying 3 times as fast, {days:g} days, {keys:,} keys", month, bar=0.999),
        Row("3 times as fast: node-puts a key and hour", month.node_puts),
        Row("3 times as fast: datagrams a key and day", month.datagrams_a_day),
    ]
    return Part(rows, {"found": month.found, "speed": month.speeds})


def outage(options: Options) -> Part:
    """Let the daemon be away for a day; what it remembers heals what died."""
    keys, begin = (200, 1.0) if options.quick else (KEYS, 2.0)
    away, seed = (begin * DAY, (begin + 1) * DAY), FIRST + options.seed
    month = run(Scenario("outage", keys, begin + 2, outage=away, seed=seed))
    back = round((begin + 1) * 24)
    before, after = month.found[round(begin * 24) - 1], month.found[back:]
    healed = next((i + 1 for i, one in enumerate(after) if one >= 0.999), None)
    rows = [
        Row("outage of 24 h: found at its end", month.found[back - 1], note=f"before {before:.4f}"),
        Row("outage of 24 h: hours until 99.9 % are found", healed, "h", bar=Bar("<=", 1)),
        Row("outage of 24 h: found a day later", fmean(after[-4:]), bar=Bar(">=", 0.999)),
        Row(
            "outage of 24 h: records lost from the ledger", keys - month.in_ledger, bar=Bar("<=", 0)
        ),
    ]
    return Part(rows, {"found": month.found})


def _rows(what: str, month: Month, bar: float) -> list[Row]:
    low, high = min(month.found), max(month.found)
    strangers = f"{sum(month.strangers):,} of {len(month.strangers):,}"
    return [
        Row(f"{what}: retrievable", month.retrievable, "", low, high, Bar(">=", bar)),
        Row(f"{what}: held anywhere", fmean(month.anywhere)),
        Row(f"{what}: found by strangers", fmean(month.strangers), note=strangers),
    ]
