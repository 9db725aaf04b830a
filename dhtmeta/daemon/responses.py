"""What each HTTP answer says, as plain JSON; and which status each error becomes, in one place."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from dhtmeta.const import RETRY_AFTER
from dhtmeta.daemon.status import State, Status
from dhtmeta.dht.carrier import Rejection
from dhtmeta.discovery.peer import Peer
from dhtmeta.engine.connectability import Connectability
from dhtmeta.engine.publish import Published
from dhtmeta.engine.resolve import Answer
from dhtmeta.errors import (
    CallerError,
    Conflict,
    DeadlineExceeded,
    DhtmetaError,
    InvalidKey,
    InvalidRecord,
    InvalidSalt,
    InvalidValue,
    LocalError,
    NetworkUnreachable,
    NotFound,
    NotStored,
    RemoteError,
)
from dhtmeta.values.item import SignedItem
from dhtmeta.values.plain import to_builtins

VERSION = version("dhtmeta")

# errors

_STATUS: dict[type[BaseException], int] = {  # of a class that is not here its base decides
    CallerError: 400,
    InvalidKey: 400,
    InvalidSalt: 400,
    InvalidValue: 422,
    InvalidRecord: 422,
    NotFound: 404,
    Conflict: 409,
    NotStored: 502,
    RemoteError: 502,
    LocalError: 503,
    NetworkUnreachable: 503,
    DeadlineExceeded: 504,
    BaseException: 500,
}


class Refused(CallerError):
    """A request that HTTP itself refuses, with its status; `retry_after` in s, `headers` beside."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.retry_after = retry_after
        self.headers = dict(headers or {})
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as RFC 9457 has it: the JSON, its status, and headers that go with it."""

    status: int
    detail: str
    more: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> dict[str, Any]:
        """The members of application/problem+json."""
        title = HTTPStatus(self.status).phrase
        said = {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail}
        return said | self.more


def problem(error: BaseException, cas: int | None = None) -> Problem:
    """Return what an error is over HTTP; what is no error of dhtmeta's is a 500 without details.

    `cas` is the seq that the request made its condition.
    """
    if isinstance(error, Refused):
        return Problem(error.status, str(error), {}, error.headers | _retry(error.retry_after))
    status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    if not isinstance(error, DhtmetaError):
        return Problem(500, "this is a mistake in dhtmeta; its log says more")
    if isinstance(error, Conflict):
        return _conflict(error, cas)
    return Problem(status, str(error), {}, _retry(RETRY_AFTER if status == 503 else None))


def _conflict(error: Conflict, cas: int | None) -> Problem:
    """Return a 409 with the seqs; a 412 where the network does not hold the seq it should."""
    failed = cas is not None and error.network_seq not in (None, cas)
    seqs = {"ledger_seq": error.ledger_seq, "network_seq": error.network_seq}
    return Problem(412 if failed else 409, str(error), seqs)


def _retry(seconds: float | None) -> dict[str, str]:
    return {} if seconds is None else {"Retry-After": str(max(1, round(seconds + 0.5)))}


# the daemon


def health(status: Status, now: float) -> dict[str, Any]:
    """Return the body of /health and /ready; `now` in Unix s."""
    return {
        "state": str(status.state),
        "problems": list(status.problems),
        "started_at": status.started_at,
        "uptime": max(0.0, round(now - status.started_at, 3)),
        "version": VERSION,
        "kept": status.kept,
        "due": status.due,
        "late": status.late,
        "damaged": status.damaged,
        "unfinished": status.unfinished,
    }


def is_healthy(status: Status) -> bool:
    """Whether nothing needs a person: being offline heals by itself."""
    return status.state not in (State.DEGRADED, State.STOPPING)


# records


def etag(item: SignedItem) -> str:
    """Return the entity tag of an item, without quotes: what seq says it is, and whose bytes."""
    return f"{item.seq}-{item.sig[:16].hex()}"


def signed(item: SignedItem) -> dict[str, Any]:
    """Return the fields of a signed file, so that it can be verified, or put elsewhere."""
    return {
        "public_key": item.public_key.hex(),
        "salt": item.salt.hex(),
        "seq": item.seq,
        "v": item.v.hex(),
        "sig": item.sig.hex(),
        "target": item.target.hex(),
    }


def found(answer: Answer) -> dict[str, Any]:
    """Return the body of a record that was found: signed, and as plain JSON.

    `followed` is the key asked for where that was rotated: all else is of its successor then.
    """
    rotation = {"followed": answer.followed, "successor": answer.successor}
    said: dict[str, Any] = {name: key.hex() for name, key in rotation.items() if key is not None}
    try:
        record, verdict = answer.record, answer.connectability
    except InvalidRecord as error:
        record, verdict = None, None
        said["invalid_record"] = str(error)
    said["value" if record is None else "record"] = to_builtins(answer.value)
    return {
        **signed(answer.item),
        **said,
        "source": str(answer.source),
        "age": round(answer.age, 3),
        "connectability": verdict and connectability(verdict),
    }


def connectability(verdict: Connectability) -> dict[str, Any]:
    """Return verdict, reason and address (null where there is none)."""
    return {
        "verdict": str(verdict.verdict),
        "reason": verdict.reason,
        "address": verdict.address or None,
    }


def peer(one: Peer) -> dict[str, Any]:
    """Return an entry of /peers; null stands for what is not known."""
    verdict = one.connectability
    return {
        "peer_id": one.peer_id.hex(),
        "public_key": one.public_key.hex(),
        "topic": one.topic,
        "source": one.source,
        "first_seen": one.first_seen,
        "last_seen": one.last_seen,
        "seq": one.seq,
        "age": one.age if one.age is None else round(one.age, 3),
        "verdict": verdict and str(verdict.verdict),
        "reason": verdict and verdict.reason,
        "address": one.address or None,
    }


def stored(published: Published, not_kept: str | None) -> dict[str, Any]:
    """Return the body of a put that was accepted; `not_kept` says why it is not kept alive."""
    item = published.item
    return {
        "public_key": item.public_key.hex(),
        "salt": item.salt.hex(),
        "seq": item.seq,
        "target": item.target.hex(),
        "accepted": published.accepted,
        "rejected": [_rejection(one) for one in published.rejected],
        "silent": published.silent,
        "copies": published.copies,
        "kept": not_kept is None,
        "not_kept_because": not_kept,
    }


def _rejection(rejection: Rejection) -> dict[str, Any]:
    return dataclasses.asdict(rejection)
