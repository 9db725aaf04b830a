"""The fuzzer's targets hold for their seeds and what hypothesis makes up, and do notice faults."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhtmeta.dht.direct.core import Core
from dhtmeta.dht.direct.put import Put
from dhtmeta.dht.direct.search import Search
from dhtmeta.krpc.exchange import Ask, Frames
from dhtmeta.krpc.exchange import decode as decode_frame
from dhtmeta.krpc.exchange import encode as wire_encode
from dhtmeta.krpc.messages import Message, Response
from tests.fuzz import datagrams, direct, frames
from tests.fuzz.script import Script
from tests.krpc import exchange_strategies, strategies

played = settings(deadline=None, max_examples=100)


@pytest.mark.parametrize("seed", datagrams.SEEDS)
def test_the_codec_keeps_its_promise_for_the_seeds(seed: bytes) -> None:
    datagrams.check(seed)


@given(data=strategies.hostile)
@played
def test_the_codec_keeps_its_promise(data: bytes) -> None:
    datagrams.check(data)


@pytest.mark.parametrize("seed", direct.SEEDS, ids=len)
def test_the_core_keeps_its_promises_for_the_seeds(seed: bytes) -> None:
    direct.check(seed)


@given(data=st.binary(max_size=direct.MAX_BYTES))
@played
def test_the_core_keeps_its_promises(data: bytes) -> None:
    direct.check(data)


def test_the_seeds_reach_lookups_and_puts_that_succeed() -> None:
    play_seeds()


def play_seeds() -> None:
    """Play the seeds and check how far they come together."""
    stages = [direct.Stage(Script(seed)) for seed in direct.SEEDS]
    for one in stages:
        one.play()
    ended = [operation for one in stages for operation in one.ended]
    outcomes = [one.outcome for one in ended if isinstance(one, Search)]
    assert any(one.item is not None for one in outcomes)
    assert any(one.refused for one in outcomes)
    assert any(one.converged for one in outcomes)
    assert any(isinstance(one, Put) and one.outcome.accepted for one in ended)


@pytest.mark.parametrize("seed", frames.SEEDS, ids=len)
def test_the_exchanges_codec_keeps_its_promise_for_the_seeds(seed: bytes) -> None:
    assert frames.read(seed[1:], 5)[1] is None
    frames.check(seed)


@given(data=exchange_strategies.streams)
@played
def test_the_exchanges_codec_keeps_its_promise(data: bytes) -> None:
    frames.check(data)


def test_an_exchange_that_loses_a_field_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "encode", lambda message: wire_encode(Ask()))
    with pytest.raises(AssertionError):
        frames.check(frames.SEEDS[0])


def test_frames_that_depend_on_how_they_are_cut_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Frames, "feed", lambda self, data: iter([decode_frame(data[4:])]))
    with pytest.raises(AssertionError):
        frames.check(frames.SEEDS[0])


def test_a_codec_that_loses_something_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(message: Message) -> bytes:
        return datagrams.SEEDS[0]

    monkeypatch.setattr(datagrams, "encode", forgetful)
    with pytest.raises(AssertionError):
        datagrams.check(datagrams.SEEDS[-1])


def test_a_codec_that_takes_anything_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def credulous(data: bytes) -> Message:
        return Response(t=b"", node_id=bytes(20))

    monkeypatch.setattr(datagrams, "decode", credulous)
    with pytest.raises(AssertionError):
        datagrams.check(b"d1:x")


@pytest.mark.parametrize("verb", ["receive_datagram", "handle_timer", "end"])
def test_a_core_that_does_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    def idle(*arguments: object) -> None:
        pass

    monkeypatch.setattr(Core, verb, idle)
    with pytest.raises(AssertionError):
        play_seeds()


def test_a_core_that_tells_an_end_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    end = Core.end

    def twice(self: Core, operation: Search | Put) -> None:
        end(self, operation)
        end(self, operation)

    monkeypatch.setattr(Core, "end", twice)
    with pytest.raises(ValueError, match="not in list"):
        play_seeds()
