"""Settings come from a file and the environment, and whatever is wrong is named."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhtmeta import const
from dhtmeta.config import CarrierName, Settings, data_home, load
from dhtmeta.errors import ConfigError

CONFIGS = Path(__file__).parents[1] / "configs"
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str) -> Path:
        path = tmp_path / "dhtmeta.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


def sections() -> dict[str, dict[str, Any]]:
    """Return section -> key -> default, as the structs have them."""
    plain: dict[str, dict[str, Any]] = msgspec.to_builtins(Settings())
    return plain


def test_without_file_and_environment_all_is_default() -> None:
    settings = load(None, {})
    assert settings == Settings()
    assert settings.dht.port == const.DAEMON_PORT == 30609
    assert settings.dht.bootstrap_nodes == list(const.MAINLINE_ROUTERS)
    assert settings.dht.metadata_republish_interval == const.REPUBLISH_INTERVAL
    assert settings.metadata_cache.ttl_seconds == const.CACHE_TTL
    assert settings.metadata_cache.stale_seconds == const.CACHE_STALE_FOR
    assert settings.metadata_cache.max_entries == const.CACHE_ENTRIES
    assert settings.peer_discovery.allow_non_global is None
    assert (settings.dht.carrier, settings.dht.listen, settings.log.level) == (
        const.DEFAULT_CARRIER,
        "",
        "warning",
    )


def test_the_carriers_of_the_settings_are_those_of_the_constants() -> None:
    assert get_args(CarrierName) == const.CARRIERS
    assert Settings().dht.carrier == const.DEFAULT_CARRIER
    for name in const.CARRIERS:
        assert load(None, {"DHTMETA_DHT__CARRIER": name}).dht.carrier == name


def test_no_two_settings_share_their_defaults() -> None:
    one, other = load(None, {}), load(None, {})
    one.dht.bootstrap_nodes.clear()
    assert other.dht.bootstrap_nodes == list(const.MAINLINE_ROUTERS)


def test_a_file_sets_what_it_names_and_leaves_the_rest(write: Write) -> None:
    path = write(
        """
        [dht]
        port = 0
        bootstrap_nodes = ["127.0.0.1:6881"]
        metadata_republish_interval = 60
        [peer_discovery]
        allow_non_global = false
        [identity]
        keys = "/schlüssel"
        """
    )
    settings = load(path, {})
    assert (settings.dht.port, settings.dht.bootstrap_nodes) == (0, ["127.0.0.1:6881"])
    assert settings.dht.metadata_republish_interval == 60.0
    assert settings.peer_discovery.allow_non_global is False
    assert settings.keys == Path("/schlüssel")
    assert settings.metadata_cache == Settings().metadata_cache


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[dth]\nport = 1", "[dth] is not a setting; did you mean 'dht'?"),
        ("[dht]\nprot = 1", "[dht] prot is not a setting; did you mean 'port'?"),
        ("[dht]\nbootstrap = []", "[dht] bootstrap is not a setting; did you mean 'bootstrap_node"),
        ("[metadata_cache]\nttl = 1", "[metadata_cache] ttl is not a setting; known: ttl_seconds,"),
        (
            "[metadata]\nttl_seconds = 1",
            "[metadata] is not a setting; did you mean 'metadata_cache'?",
        ),
        ("[Dht]\nport = 1", "[Dht] is not a setting; did you mean 'dht'?"),
        ("port = 1", "[port] is not a setting; known: dht, metadata_cache,"),
        ("'' = 1", "[] is not a setting"),
        ("[dht.port]\nx = 1", "[dht] port: Expected `int`, got `object`"),
        ("[dht.x]\nport = 1", "[dht] x is not a setting; known: port,"),
        ("dht = 5", "[dht]: Expected `object`, got `int`"),
        ("[[dht]]\nport = 5", "[dht]: Expected `object`, got `array`"),
        ("[dht]\nport = 'x'", "[dht] port: Expected `int`, got `str`"),
        ("[dht]\nport = true", "[dht] port: Expected `int`, got `bool`"),
        ("[dht]\nport = 1.0", "[dht] port: Expected `int`, got `float`"),
        ("[dht]\nport = 2020-01-01", "[dht] port: Expected `int`, got `date`"),
        ("[dht]\nport = -1", "[dht] port: Expected `int` >= 0"),
        ("[dht]\nport = 65536", "[dht] port: Expected `int` <= 65535"),
        (f"[dht]\nport = {10**40}", "[dht] port: Expected `int` <= 65535"),
        ("[dht]\nlisten = 5", "[dht] listen: Expected `str`, got `int`"),
        ("[dht]\nbootstrap_nodes = 'a:1'", "[dht] bootstrap_nodes: Expected `array`, got `str`"),
        ("[dht]\nbootstrap_nodes = ['a:1', 5]", "[dht] bootstrap_nodes[1]: Expected `str`"),
        ("[dht]\ncarrier = 'pigeon'", "[dht] carrier: Invalid enum value 'pigeon'"),
        ("[dht]\ncarrier = 'x - at `$.y'", "[dht] carrier: Invalid enum value 'x - at `$.y'"),
        ("[dht]\nmetadata_republish_interval = 0", "[dht] metadata_republish_interval: Expected"),
        ("[metadata_cache]\nttl_seconds = nan", "[metadata_cache] ttl_seconds: Expected `float` >"),
        ("[metadata_cache]\nttl_seconds = inf", "[metadata_cache] ttl_seconds: Expected `float` <"),
        ("[metadata_cache]\nttl_seconds = '5'", "[metadata_cache] ttl_seconds: Expected `float`,"),
        ("[metadata_cache]\nttl_seconds = true", "[metadata_cache] ttl_seconds: Expected `float`"),
        ("[metadata_cache]\nstale_seconds = -1", "[metadata_cache] stale_seconds: Expected"),
        ("[metadata_cache]\nmax_entries = 0", "[metadata_cache] max_entries: Expected `int` >= 1"),
        ("[peer_discovery]\nallow_non_global = 1", "[peer_discovery] allow_non_global: Expected"),
        ("[identity]\nkeys = []", "[identity] keys: Expected `str`, got `array`"),
        ("[store]\nurl = {}", "[store] url: Expected `str`, got `object`"),
        ("[log]\nlevel = 'loud'", "[log] level: Invalid enum value 'loud'"),
        ("[dht]\nport = 1\nport = 2", "is not TOML: Cannot overwrite a value"),
        ("[dht]\nport = 1\n[dht]\n", "is not TOML: "),
        ("[dht", "is not TOML: "),
        ("[dht]\nport = " + "1" * 5000, "is not TOML: "),
        ("x = " + "[" * 5000, "is not TOML: "),
        ("x = 9999-99-99", "is not TOML: "),
        ("\0", "is not TOML: "),
    ],
    ids=lambda text: repr(text[:48]),
)
def test_what_is_wrong_in_a_file_is_named(write: Write, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(write(text), {})
    assert said in str(refused.value)


@pytest.mark.parametrize("section", sections())
def test_every_key_with_a_letter_too_many_names_the_right_one(write: Write, section: str) -> None:
    for key in sections()[section]:
        with pytest.raises(ConfigError) as refused:
            load(write(f"[{section}]\n{key}s = 1"), {})
        assert f"[{section}] {key}s is not a setting; did you mean {key!r}?" == str(refused.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"# \xe9\n")
    for name, said in {
        "nowhere": "No such file",
        ".": "Is a directory",
        "latin": "is not TOML: 'utf-8' codec can't decode",
        "nul\0": "null",
    }.items():
        with pytest.raises(ConfigError, match=said):
            load(tmp_path / name, {})


@pytest.mark.parametrize(
    ("name", "text", "section", "key", "value"),
    [
        ("DHTMETA_DHT__PORT", "4", "dht", "port", 4),
        ("DHTMETA_DHT__PORT", " 4 # four", "dht", "port", 4),
        ("DHTMETA_DHT__PORT", "0x10", "dht", "port", 16),
        ("DHTMETA_Dht__Port", "4", "dht", "port", 4),
        ("DHTMETA_DHT__LISTEN", "127.0.0.1:6881", "dht", "listen", "127.0.0.1:6881"),
        ("DHTMETA_DHT__LISTEN", '"[::1]:6881"', "dht", "listen", "[::1]:6881"),
        ("DHTMETA_DHT__LISTEN", "", "dht", "listen", ""),
        (
            "DHTMETA_DHT__BOOTSTRAP_NODES",
            '["a:1", "b:2"]',
            "dht",
            "bootstrap_nodes",
            ["a:1", "b:2"],
        ),
        ("DHTMETA_DHT__BOOTSTRAP_NODES", "[]", "dht", "bootstrap_nodes", []),
        ("DHTMETA_METADATA_CACHE__TTL_SECONDS", "5", "metadata_cache", "ttl_seconds", 5.0),
        ("DHTMETA_METADATA_CACHE__TTL_SECONDS", "0.5", "metadata_cache", "ttl_seconds", 0.5),
        (
            "DHTMETA_PEER_DISCOVERY__ALLOW_NON_GLOBAL",
            "true",
            "peer_discovery",
            "allow_non_global",
            True,
        ),
        ("DHTMETA_IDENTITY__KEYS", "/a b/c", "identity", "keys", "/a b/c"),
        ("DHTMETA_IDENTITY__KEYS", "'123'", "identity", "keys", "123"),
        ("DHTMETA_IDENTITY__KEYS", "a\nb = 1", "identity", "keys", "a\nb = 1"),
        ("DHTMETA_IDENTITY__KEYS", "1\nb = 1", "identity", "keys", "1\nb = 1"),
        ("DHTMETA_STORE__URL", "sqlite:///x.db", "store", "url", "sqlite:///x.db"),
        ("DHTMETA_LOG__LEVEL", "debug", "log", "level", "debug"),
    ],
)
def test_the_environment_overrides_one_key(
    write: Write, name: str, text: str, section: str, key: str, value: Any
) -> None:
    path = write("[dht]\nport = 9\n[log]\nlevel = 'error'")
    settings = load(path, {name: text})
    found = getattr(getattr(settings, section), key)
    assert found == value
    assert type(found) is type(value)
    setattr(getattr(settings, section), key, getattr(getattr(load(path, {}), section), key))
    assert settings == load(path, {})


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("DHTMETA_DHT__PROT", "1", "[dht] prot is not a setting; did you mean 'port'?"),
        ("DHTMETA_DTH__PORT", "1", "[dth] is not a setting; did you mean 'dht'?"),
        ("DHTMETA_DHT__PORT__X", "1", "[dht] port__x is not a setting; did you mean 'port'?"),
        ("DHTMETA___PORT", "1", "[] is not a setting"),
        ("DHTMETA_DHT__", "1", "[dht]  is not a setting"),
        (
            "DHTMETA_DHT_PORT",
            "1",
            "DHTMETA_DHT_PORT is not a setting; did you mean DHTMETA_DHT__PO",
        ),
        ("DHTMETA_STORE_URL", "x", "did you mean DHTMETA_STORE__URL?"),
        ("DHTMETA_METADATA_CACHE_TTL_SECONDS", "1", "DHTMETA_METADATA_CACHE__TTL_SECONDS?"),
        ("DHTMETA_DHT__PORT", "", "[dht] port: Expected `int`, got `str`"),
        ("DHTMETA_DHT__PORT", "x", "[dht] port: Expected `int`, got `str`"),
        ("DHTMETA_DHT__PORT", "'4'", "[dht] port: Expected `int`, got `str`"),
        ("DHTMETA_DHT__PORT", "4\nx = 1", "[dht] port: Expected `int`, got `str`"),
        ("DHTMETA_DHT__PORT", "1" * 5000, "[dht] port: Expected `int`, got `str`"),
        ("DHTMETA_DHT__PORT", "[" * 5000, "[dht] port: Expected `int`, got `str`"),
        ("DHTMETA_DHT__PORT", "65536", "[dht] port: Expected `int` <= 65535"),
        ("DHTMETA_DHT__BOOTSTRAP_NODES", "a:1", "[dht] bootstrap_nodes: Expected `array`"),
        ("DHTMETA_LOG__LEVEL", "loud", "[log] level: Invalid enum value 'loud'"),
        ("DHTMETA_IDENTITY__KEYS", "1", "[identity] keys: Expected `str`, got `int`"),
    ],
    ids=lambda text: repr(text[:40]),
)
def test_what_is_wrong_in_the_environment_is_named(name: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(None, {name: text})
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "name", ["DHTMETA_TRACEBACK", "DHTMETA_", "dhtmeta_dht__port", "DHT__PORT"]
)
def test_other_variables_are_left_alone(name: str) -> None:
    assert load(None, {name: "1"}) == Settings()


def test_a_value_is_not_taken_for_a_section(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"\[dht\] is a section, not a value"):
        load(write("dht = 5"), {"DHTMETA_DHT__PORT": "1"})


@given(
    st.sampled_from(["DHTMETA_DHT__PORT", "DHTMETA_DHT__BOOTSTRAP_NODES", "DHTMETA_LOG__LEVEL"]),
    st.text(max_size=20) | st.text("[]{}\"'=#\\\n0123456789-:.Ttrue", max_size=20),
)
def test_any_text_in_the_environment_is_a_setting_or_a_config_error(name: str, text: str) -> None:
    try:
        settings = load(None, {name: text})
    except ConfigError:
        return
    assert isinstance(settings, Settings)


def test_keys_and_store_are_kept_under_the_data_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert data_home() == Path("/data/dhtmeta")
    assert load(None, {}).keys == Path("/data/dhtmeta/keys")
    assert load(None, {}).store_url == "/data/dhtmeta/store.db"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/alice")
    assert data_home() == Path("/home/alice/.local/share/dhtmeta")
    assert data_home({"XDG_DATA_HOME": ""}) == data_home({})
    assert load(None, {"DHTMETA_IDENTITY__KEYS": "~/keys"}).keys == Path("/home/alice/keys")
    assert load(None, {"DHTMETA_STORE__URL": "sqlite://"}).store_url == "sqlite://"


def test_a_home_that_nobody_knows_is_named() -> None:
    settings = load(None, {"DHTMETA_IDENTITY__KEYS": "~nobody-of-this-name/keys"})
    with pytest.raises(ConfigError, match=r"\[identity\] keys: no home directory is known"):
        _ = settings.keys


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: str(path.name))
def test_a_shipped_file_loads(path: Path) -> None:
    assert load(path, {}) != load(None, {}) or path.name == "daemon.toml"


def uncommented(name: str) -> dict[str, dict[str, Any]]:
    """Read a shipped file with the one key that has no default in TOML switched on."""
    text = (CONFIGS / name).read_text(encoding="utf-8")
    return tomllib.loads(text.replace("# allow_non_global", "allow_non_global"))


@pytest.mark.parametrize("name", ["daemon.toml", "registry.toml", "testnet.toml"])
def test_a_shipped_file_has_every_key_and_says_what_it_means(name: str) -> None:
    keys = {section: list(settings) for section, settings in uncommented(name).items()}
    assert keys == {section: list(settings) for section, settings in sections().items()}
    text = (CONFIGS / name).read_text(encoding="utf-8")
    for section in keys:
        lines = text.partition(f"[{section}]\n")[2].partition("\n[")[0].splitlines()
        for key in keys[section]:
            (line,) = [one for one in lines if one.removeprefix("# ").startswith(f"{key} = ")]
            assert len(line.partition("  # ")[2]) > 10, line


def test_the_daemons_file_holds_the_defaults() -> None:
    path = CONFIGS / "daemon.toml"
    assert load(path, {}) == Settings()
    written = tomllib.loads(path.read_text(encoding="utf-8"))
    defaults = sections()
    assert defaults["peer_discovery"].pop("allow_non_global") is None  # TOML has no word for it
    assert written == defaults


def test_the_testnets_file_is_for_loopback_and_keeps_apart_from_mainline() -> None:
    settings, default = load(CONFIGS / "testnet.toml", {}), load(None, {})
    assert settings.dht.bootstrap_nodes == ["127.0.0.1:6881"]
    assert settings.dht.carrier == default.dht.carrier
    assert settings.peer_discovery.allow_non_global is True
    assert settings.metadata_cache.ttl_seconds < default.metadata_cache.ttl_seconds
    assert settings.keys != default.keys
    assert settings.store_url != default.store_url
