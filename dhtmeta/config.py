"""Which settings there are and where they come from: TOML, then the environment, then checked.

`DHTMETA_DHT__PORT=30609` overrides `port` in section `[dht]`. An unknown key is an error that
names the nearest known one.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from dhtmeta.const import (
    CACHE_ENTRIES,
    CACHE_STALE_FOR,
    CACHE_TTL,
    CLEANUP_INTERVAL,
    DAEMON_PORT,
    DEFAULT_CARRIER,
    DISCOVERY_INTERVAL,
    EXCHANGE_PORT,
    GETS_PER_MINUTE,
    HTTP_LISTEN,
    MAINLINE_ROUTERS,
    MAX_KEPT_FOR_OTHERS,
    MAX_LOSS,
    MAX_SHARED,
    MAX_TOPIC_BYTES,
    PUTS_PER_MINUTE,
    REGISTRY_LISTEN,
    RELAY_SESSIONS,
    REPUBLISH_INTERVAL,
    REPUBLISH_PACKETS,
)
from dhtmeta.errors import ConfigError

PREFIX = "DHTMETA_"
CarrierName = Literal["libtorrent", "direct"]  # const.CARRIERS, for type checkers and msgspec
Seconds = Annotated[float, Meta(gt=0, le=31_536_000)]


def data_home(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where keys and store are kept by default: $XDG_DATA_HOME/dhtmeta."""
    base = environment.get("XDG_DATA_HOME") or "~/.local/share"
    return _expanded(base, "$XDG_DATA_HOME") / "dhtmeta"


class Dht(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """[dht]: the port the daemon takes (UDP), whom to ask first, which carrier, how often (s)."""

    port: Annotated[int, Meta(ge=0, le=65535)] = DAEMON_PORT
    listen: str = ""
    bootstrap_nodes: list[str] = field(default_factory=lambda: list(MAINLINE_ROUTERS))
    carrier: CarrierName = DEFAULT_CARRIER
    metadata_republish_interval: Seconds = REPUBLISH_INTERVAL


class MetadataCache(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """[metadata_cache]: lifetimes in seconds, and how many records are held in memory.

    With `learn`, `ttl_seconds` is where a record's lifetime starts from: those that hardly change
    get up to six times that, those that change often down to a fifth.
    """

    ttl_seconds: Seconds = CACHE_TTL
    learn: bool = True
    stale_seconds: Annotated[float, Meta(ge=0, le=31_536_000)] = CACHE_STALE_FOR
    cleanup_interval: Seconds = CLEANUP_INTERVAL
    max_entries: Annotated[int, Meta(ge=1, le=100_000_000)] = CACHE_ENTRIES


class Republish(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """[republish]: the chance to lose a kept record that is accepted, and what it may cost."""

    max_loss: Annotated[float, Meta(gt=0, lt=1)] = MAX_LOSS
    packets_per_second: Annotated[float, Meta(gt=0, le=1_000_000)] = REPUBLISH_PACKETS


class PeerDiscovery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """[peer_discovery]: whose peers we are, how often they are looked for (s), and where.

    `topic` is for a node whose record does not name one, `contacts` are HOST:PORT (UDP) of the
    exchange of peers that are known by hand. `allow_non_global` unset means "on
    networks that are on loopback only".
    """

    topic: Annotated[str, Meta(max_length=MAX_TOPIC_BYTES)] = ""
    contacts: list[str] = field(default_factory=list)
    discovery_interval: Annotated[float, Meta(ge=1, le=86_400)] = DISCOVERY_INTERVAL
    max_known_peers_to_share: Annotated[int, Meta(ge=0, le=MAX_SHARED)] = MAX_SHARED
    lan: bool = True
    allow_non_global: bool | None = None


class ExchangeSettings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """[exchange]: whether peers may connect to us and we to them, and at which UDP port (QUIC).

    `listen` (IP:PORT) unset is the address that the DHT listens on, at `port`; 0 is any free one.
    """

    enabled: bool = True
    port: Annotated[int, Meta(ge=0, le=65535)] = EXCHANGE_PORT
    listen: str = ""


class RelaySettings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """[relay]: whether we serve as one if we can, for how many, and use one if we have to.

    `turn_port` is the UDP port of a TURN server that runs on this machine, 0 for none.
    """

    serve: bool = True
    max_sessions: Annotated[int, Meta(ge=1, le=10_000)] = RELAY_SESSIONS
    use: bool = True
    turn_port: Annotated[int, Meta(ge=0, le=65535)] = 0


class RegistrySettings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """[registry]: which ones are asked where nobody else knows anybody, and how one is served.

    `certificate` and `private_key` are PEM files; with neither it speaks plain HTTP.
    """

    urls: list[str] = field(default_factory=list)
    listen: str = REGISTRY_LISTEN
    hosts: list[str] = field(default_factory=list)
    certificate: str = ""
    private_key: str = ""


class IdentitySettings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """[identity]: the directory of the key files, and the record the daemon publishes (JSON)."""

    keys: str = ""
    record: str = ""


class StoreSettings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """[store]: a path or an SQLAlchemy URL."""

    url: str = ""


class Http(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """[http]: where the daemon answers ("" nowhere), for which Host names, and how much.

    `keep` lets whoever may PUT have records kept alive, `max_kept` of them in all; the quotas are
    per address (IPv4) or /64 (IPv6).
    """

    listen: str = HTTP_LISTEN
    hosts: list[str] = field(default_factory=list)
    keep: bool = False
    max_kept: Annotated[int, Meta(ge=0, le=100_000_000)] = MAX_KEPT_FOR_OTHERS
    puts_per_minute: Annotated[int, Meta(ge=1, le=1_000_000)] = PUTS_PER_MINUTE
    gets_per_minute: Annotated[int, Meta(ge=1, le=10_000_000)] = GETS_PER_MINUTE


class Log(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """[log]: what goes to stderr, and the form of the daemon's lines there."""

    level: Literal["debug", "info", "warning", "error"] = "warning"
    format: Literal["text", "json"] = "text"


class Settings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Every section with its defaults."""

    dht: Dht = field(default_factory=Dht)
    metadata_cache: MetadataCache = field(default_factory=MetadataCache)
    peer_discovery: PeerDiscovery = field(default_factory=PeerDiscovery)
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    republish: Republish = field(default_factory=Republish)
    exchange: ExchangeSettings = field(default_factory=ExchangeSettings)
    relay: RelaySettings = field(default_factory=RelaySettings)
    registry: RegistrySettings = field(default_factory=RegistrySettings)
    http: Http = field(default_factory=Http)
    log: Log = field(default_factory=Log)

    @property
    def keys(self) -> Path:
        """The directory of the key files."""
        keys = self.identity.keys
        return _expanded(keys, "[identity] keys") if keys else data_home() / "keys"

    @property
    def store_url(self) -> str:
        """The store's path or URL."""
        return self.store.url or str(data_home() / "store.db")


def load(path: Path | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings of the file (if any), overridden by the environment.

    Raises ConfigError that names the key, and for an unknown one the nearest known.
    """
    raw = {} if path is None else _read(path)
    for name, text in environment.items():
        if name.startswith(PREFIX) and "__" in name:
            _override(raw, name, text)
        elif name in _MISSPELT:
            raise ConfigError(f"{name} is not a setting; did you mean {_MISSPELT[name]}?")
    _refuse_unknown(raw, Settings, "")
    try:
        return msgspec.convert(raw, Settings)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).rpartition(" - at `$.")
        section, dot, key = where.rstrip("`").partition(".")
        raise ConfigError(f"[{section}]{dot and ' '}{key}: {reason}") from error


def _expanded(path: str, what: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{what}: no home directory is known for {path!r}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, a syntax error, 5,000 digits
        raise ConfigError(f"{path} is not TOML: {error}") from error


def _override(raw: dict[str, Any], name: str, text: str) -> None:
    """Set one key from the environment; its text is read as a TOML value, else as a string."""
    section, _, key = name.removeprefix(PREFIX).lower().partition("__")
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        parsed = {}
    value = parsed["value"] if parsed.keys() == {"value"} else text
    table = raw.setdefault(section, {})
    if not isinstance(table, dict):
        raise ConfigError(f"[{section}] is a section, not a value")
    table[key] = value


def _refuse_unknown(raw: dict[str, Any], struct: Any, section: str) -> None:
    known = {one.name: one.type for one in msgspec.structs.fields(struct)}
    for key, value in raw.items():
        where = f"[{section}] {key}" if section else f"[{key}]"
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"
            raise ConfigError(f"{where} is not a setting; {hint}")
        if not section and isinstance(value, dict):
            _refuse_unknown(value, known[key], key)


_MISSPELT = {  # with one underscore, an override that nothing would read
    f"{PREFIX}{section.name}_{key}".upper(): f"{PREFIX}{section.name}__{key}".upper()
    for section in msgspec.structs.fields(Settings)
    for key in section.type.__struct_fields__
}
