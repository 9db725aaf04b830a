"""How results look in a browser: one page that holds everything it shows, and asks for nothing."""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from bench.catalogue import BENCHES
from bench.report import RATIO
from bench.results import kept, path_of
from bench.scenario import SEED, Bench, Results
from bench.tables import figure, number, ordered, seconds, spread

STYLE = Path(__file__).with_suffix(".css")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
SIGNS = {"<=": "≤", ">=": "≥", "~": "≈"}
HOLDS = {True: "yes", False: "no", None: "not measured"}
MIDDLE, END = 60, 120  # of a spread's picture: where the bar is, and twice the bar
Kept = Mapping[str, Any]  # a row, or the run of a part, as it is kept
All = Mapping[str, Results]
Barred = tuple[str, str, int, Kept]  # bench, part, place of the row in it, row


def write_page(directory: Path) -> None:
    """Write index.html from the results and plots of a directory."""
    results = {name: kept(name, directory) for name in BENCHES}
    sections = (_section(one, results[one.name], directory) for one in BENCHES.values())
    directory.mkdir(parents=True, exist_ok=True)
    page = _page(_summary(results), "".join(sections))
    (directory / "index.html").write_text(page, encoding="utf-8")


def _page(summary: str, sections: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>dhtmeta, measured</title>
<link rel="icon" href="data:,">
<style>
{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<a class="skip" href="#results">To the results</a>
{summary}<main id="results">
{sections}</main>
</body>
</html>
"""


def _summary(results: All) -> str:
    """Return the top: how many bars hold, which do not, and what benches there are."""
    barred = list(_barred(results))
    hold = sum(row["holds"] is True for *_, row in barred)
    return f"""<header>
<h1>dhtmeta, measured</h1>
<p class="lead">Each figure beside a peer in the same run, or beside the bar it has to hold.</p>
<p class="score"><strong>{hold}</strong> of {len(barred)} bars hold</p>
<div class="tiles" aria-hidden="true">{"".join(map(_tile, barred))}</div>
{_listed("What does not hold", barred, False)}{_listed("What was not measured", barred, None)}
{_contents(results)}
<p class="soft">In the spreads below, the tick is the bar (or 1x, where a ratio has none), the
shaded side is where it holds, the dot is the figure and the grey band its spread. The left end is
0, the right end twice the bar; an arrow lies beyond it.</p>
</header>
"""


def _barred(results: All) -> Iterator[Barred]:
    for name, parts in results.items():
        for part in ordered(BENCHES[name].parts, parts):
            for place, row in enumerate(parts[part]["rows"]):
                if row["bar"]:
                    yield name, part, place, row


def _tile(one: Barred) -> str:
    row = one[3]
    return f'<i class="{_kind(row["holds"])}" title="{escape(row["what"])}"></i>'


def _kind(holds: bool | None) -> str:
    return HOLDS[holds].replace(" ", "-")


def _listed(title: str, barred: Iterable[Barred], holds: bool | None) -> str:
    """Return a list of links to the rows that hold, do not, or were not measured."""
    lines = [
        f'<li><a href="#{_id(name, part, place)}">{escape(row["what"])}</a> '
        f'<span class="soft">{escape(name)}: {_figure(row)}, bar {_bar(row)}</span></li>\n'
        for name, part, place, row in barred
        if row["holds"] is holds
    ]
    return f"<h2>{title}</h2>\n<ul>\n{''.join(lines)}</ul>\n" if lines else ""


def _contents(results: All) -> str:
    heads = ("bench", "bars that hold", "figures", "last measured")
    rows = (_content(name, parts, results) for name, parts in results.items())
    return f'<nav aria-label="Benches">{_table("The benches", heads, rows)}</nav>'


def _content(name: str, parts: Results, results: All) -> str:
    holds = [row["holds"] for *_, row in _barred({name: results[name]})]
    bars = f"{holds.count(True)} of {len(holds)}" if holds else "none has a bar"
    figures = sum(row["figure"] is not None for part in parts.values() for row in part["rows"])
    when = max((part["when"][:10] for part in parts.values()), default="never here")
    bars = bars if parts else ""
    head = f'<a href="#{_id(name)}">{escape(name)}</a>'
    return _cells(head, (bars, str(figures), escape(when)))


def _section(bench: Bench, results: Results, directory: Path) -> str:
    parts = (_part(bench, part, results[part]) for part in ordered(bench.parts, results))
    never = [part for part in bench.parts if part not in results]
    left = f"<p>Not run here: {', '.join(map(escape, never))}.</p>\n" if never else ""
    plot = _plot(bench, results, path_of(bench.name, directory).with_suffix(".png"))
    return f"""<section aria-labelledby="{_id(bench.name)}">
<h2 id="{_id(bench.name)}">{escape(bench.name)}</h2>
<p class="lead">{escape(bench.about)}</p>
{plot}{"".join(parts)}{left}</section>
"""


def _plot(bench: Bench, results: Results, path: Path) -> str:
    if not path.exists():
        return ""
    curves = sorted({name for part in results.values() for name in part["series"]})
    drawn = f" Curves: {', '.join(curves)}." if curves else ""
    alt = escape(f"Plot of {bench.name}. {bench.about}{drawn} The tables have the figures.")
    data = b64encode(path.read_bytes()).decode()
    return f'<figure><img alt="{alt}" src="data:image/png;base64,{data}"></figure>\n'


def _part(bench: Bench, part: str, run: Kept) -> str:
    heads = ("figure", "spread", "bar", "holds")
    rows = [_row(_id(bench.name, part, at), row) for at, row in enumerate(run["rows"])]
    costs = _costs(run["costs"], part) if run["costs"] else ""
    shown = _table(f"{part}: figures", ("row", *heads), rows) if rows else ""
    return f"""<h3 id="{_id(bench.name, part)}">{escape(part)}</h3>
{shown}{costs}{_missing(run["missing"])}{_small_print(bench, part, run)}"""


def _row(anchor: str, row: Kept) -> str:
    note = f'<small class="soft">{escape(row["note"])}</small>' if row["note"] else ""
    holds = HOLDS[row["holds"]] if row["bar"] else ""
    mark = f'<span class="mark {_kind(row["holds"])}">{holds}</span>' if holds else ""
    cells = (_figure(row), _spread(row), _bar(row), mark)
    return _cells(escape(row["what"]) + note, cells, anchor)


def _figure(row: Kept) -> str:
    return escape(figure(row))


def _bar(row: Kept) -> str:
    """Return a bar with its unit; nothing where there is none."""
    if not row["bar"]:
        return ""
    sign, value, *within = row["bar"].split(" ", 2)
    return escape(" ".join([SIGNS[sign], number(float(value), row["unit"]), *within]))


def _spread(row: Kept) -> str:
    """Return where a figure and its spread lie from 0 to twice the bar, drawn and in words."""
    scale = _scale(row)
    if row["figure"] is None or scale is None:
        return ""
    words = f'<small class="soft">{spread(row)}</small>' if spread(row) else ""
    tick = f'<path class="tick" d="M{MIDDLE} 1v16"/>' if row["bar"] or _ratio(row) else ""
    drawn = f"{_zone(row)}{tick}{_range(row, scale)}{_dot(row, scale)}"
    return f"""<svg viewBox="0 0 {END} 18" width="{END}" height="18" aria-hidden="true">
<path class="axis" d="M0 9h{END}"/>{drawn}</svg>{words}"""


def _scale(row: Kept) -> float | None:
    """Return what the middle stands for: the bar, equality with a peer, or the figure itself."""
    if row["bar"]:
        return float(row["bar"].split()[1])
    if _ratio(row):
        return 1.0
    return row["figure"] if spread(row) else None


def _ratio(row: Kept) -> bool:
    return bool(row["unit"] == RATIO)


def _at(value: float, scale: float) -> float:
    """Return where a value lies; the ends take whatever lies beyond them."""
    if value == scale:
        return MIDDLE
    share = value / scale if scale else 2.0 * (value > 0)
    return MIDDLE * min(max(share, 0.0), 2.0)


def _zone(row: Kept) -> str:
    """Return the side on which a bar holds."""
    if not row["bar"]:
        return ""
    sign, _, *within = row["bar"].split()
    half = MIDDLE * float(within[1].rstrip("%")) / 100 if within else 0.0
    ends = {"<=": (0.0, MIDDLE), ">=": (MIDDLE, END), "~": (MIDDLE - half, MIDDLE + half)}
    start, end = ends[sign]
    return f'<path class="zone" d="M{start:.1f} 3H{end:.1f}V15H{start:.1f}z"/>'


def _range(row: Kept, scale: float) -> str:
    if not spread(row):
        return ""
    low, high = _at(row["low"], scale), _at(row["high"], scale)
    return f'<path class="range" d="M{low:.1f} 9H{high:.1f}"/>'


def _dot(row: Kept, scale: float) -> str:
    """Return the mark of a figure: an arrow where it lies beyond the end."""
    at = _at(row["figure"], scale)
    kind = _kind(row["holds"]) if row["bar"] else "plain"
    if row["figure"] > 2 * scale and at == END:
        return f'<path class="dot {kind}" d="M{END - 9} 4l9 5l-9 5z"/>'
    return f'<circle class="dot {kind}" cx="{min(max(at, 4), END - 4):.1f}" cy="9" r="4"/>'


def _costs(costs: Iterable[Kept], part: str) -> str:
    times = ("p50", "p95", "p99")
    heads = ("operation", "loss", "runs", *times, "datagrams", "bytes", "found")
    rows = (
        _cells(
            escape(one["what"]),
            (
                *(f"{one['loss']:.0%}", f"{one['count']:,}"),
                *(seconds(one[name]) for name in times),
                *(f"{one['datagrams']:.1f}", f"{one['bytes']:,.0f}", f"{one['found']:.3f}"),
            ),
        )
        for one in costs
    )
    return _table(f"{part}: what one of each costs", heads, rows, "costs")


def _missing(missing: Iterable[str]) -> str:
    lines = "".join(f"<li>{escape(one)}</li>\n" for one in missing)
    return f'<h4>Not measured</h4>\n<ul class="missing">\n{lines}</ul>\n' if lines else ""


def _small_print(bench: Bench, part: str, run: Kept) -> str:
    versions = [f"{name} {version}" for name, version in run["versions"].items()]
    said = (
        f"Measured {run['when']} on {_machine(run['machine'])}",
        *([f"in {run['took_s']:,.0f} s"] if run["took_s"] is not None else []),
        f"{'quick' if run['quick'] else 'full'} run, seed {run['seed']}",
        *([", ".join(versions)] if versions else ["versions not kept"]),
    )
    again = escape(_again(bench, part, run))
    return (
        f'<p class="print">{escape("; ".join(said))}.<br>Again: <code tabindex="0">{again}</code>'
        "</p>\n"
    )


def _machine(machine: Kept) -> str:
    known = {"cpu": "{}", "cores": "{} cores", "python": "Python {}"}
    return ", ".join(said.format(machine[name]) for name, said in known.items() if name in machine)


def _again(bench: Bench, part: str, run: Kept) -> str:
    """Return the command that runs the same once more."""
    seed = [] if run["seed"] == SEED else [f"--seed {run['seed']}"]
    values = [f"--{name} {value}" for name, value in run["parameters"].items()]
    words = [*(["--quick"] if run["quick"] else []), *seed, *values]
    return " ".join([f"dhtmeta bench {bench.name} --part {part}", *words])


def _table(caption: str, heads: Iterable[str], rows: Iterable[str], kind: str = "rows") -> str:
    """Return a table that scrolls by keys where the window is too narrow for it."""
    columns = "".join(f'<th scope="col">{head}</th>' for head in heads)
    label = escape(caption)
    return f"""<div class="scroll" role="region" aria-label="{label}" tabindex="0">
<table class="{kind}"><caption>{label}</caption>
<thead><tr>{columns}</tr></thead>
<tbody>
{"".join(rows)}</tbody></table></div>
"""


def _cells(head: str, cells: Iterable[str], anchor: str = "") -> str:
    """Return a row of a table; head and cells are HTML."""
    name = f' id="{anchor}"' if anchor else ""
    rest = "".join(f"<td>{one}</td>" for one in cells)
    return f'<tr{name}><th scope="row">{head}</th>{rest}</tr>\n'


def _id(*words: object) -> str:
    return escape("-".join(map(str, words)).replace(" ", "-"))
