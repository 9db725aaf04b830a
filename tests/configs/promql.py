"""What a PromQL expression reads: enough of its grammar to see a name or a label that is none."""

import re
from typing import NamedTuple

FUNCTIONS = {"absent", "changes", "increase", "label_values", "max", "min", "rate", "sum", "time"}
WORDS = {"and", "or", "unless", "bool"}
_CLAUSE = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_RANGE = re.compile(r"\[[^]]*\]")
_NAME = re.compile(r"(?<![\w.$])([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?(\s*\()?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


class Selector(NamedTuple):
    """A metric that an expression reads, and what it asks of its labels."""

    metric: str
    labels: tuple[tuple[str, str, str], ...]  # name, operator, value


def selectors(expression: str) -> list[Selector]:
    """Return all metrics that are read; AssertionError for what is no PromQL that we use."""
    for opened, closed in ("()", "{}", "[]"):
        assert expression.count(opened) == expression.count(closed), expression
    bare = _RANGE.sub("", _CLAUSE.sub("", expression))
    found = []
    for name, labels, called in _NAME.findall(bare):
        if called and name not in WORDS:
            assert name in FUNCTIONS, f"{name}() is no function: {expression}"
        elif name not in WORDS:
            found.append(Selector(name, tuple(_MATCHER.findall(labels))))
    return found


def grouped_by(expression: str) -> set[str]:
    """Return the labels that clauses such as `by (…)` name."""
    named = (names.split(",") for _, names in _CLAUSE.findall(expression))
    return {name.strip() for names in named for name in names}
