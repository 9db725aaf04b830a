"""How the daemon's log lines look: one line each on stderr, text for people or JSON for machines.

Tracebacks never show variables: one of them may be a private key.
"""

import logging
import sys
from typing import Any

import structlog

from dhtmeta.config import Log

_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def configure_logs(settings: Log) -> None:
    """Let all that is logged, by whatever library, come out in one form and from one level on."""
    json = settings.format == "json"
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([_TRACEBACKS] if json else []),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(json)],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    logging.getLogger("quic").setLevel(_QUIC_LEVEL)


_QUIC_LEVEL = logging.ERROR  # below it aioquic tells of handshakes, and of what peers do wrong


def _renderer(json: bool) -> Any:
    if json:
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        pad_event_to=0,
        exception_formatter=structlog.dev.plain_traceback,
    )
