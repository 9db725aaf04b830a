"""The promises of the sans-IO core, whatever comes in, from whom and when, as a script decides.

No exception; each operation ends, once, with an outcome; only items that verify are found; every
answer is at most ANSWER_RATIO times its query; what is asked for and remembered stays within caps;
only nodes that answered from their address are remembered.
"""

from contextlib import suppress
from random import Random

from dhtmeta.const import ANSWER_RATIO, CONTACTS, MAX_QUERIED, MAX_TRANSACTION_BYTES
from dhtmeta.dht.carrier import GetOutcome, PutOutcome
from dhtmeta.dht.direct.core import Core, Ended, Found, Operation
from dhtmeta.dht.direct.search import Search
from dhtmeta.dht.direct.top_up import TopUp
from dhtmeta.errors import MalformedMessage
from dhtmeta.krpc import messages
from dhtmeta.krpc.codec import decode, encode
from dhtmeta.krpc.compact import Contact, Endpoint, split_contacts
from tests.fuzz import stage
from tests.fuzz.script import Script
from tests.krpc.datagrams import WRITTEN

MAX_BYTES = 2000
MAX_OPERATIONS = 6
MAX_TIMERS = 10_000  # far more than the tries of every query there can be

Asked = tuple[messages.Query, Endpoint]
QUERIES = [one for _, one in WRITTEN.values() if isinstance(one, messages.Query)]
OTHERS = [data for data, one in WRITTEN.values() if not isinstance(one, messages.Query)]


class Stage:
    """One core, the nodes around it, and what is under way."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.now = 1000.0
        self.core = Core(
            Random(script.byte()),
            node_id=stage.NODE_ID,
            sends_per_second=script.pick([None, 20, 1]),
        )
        self.asked: list[Asked] = []  # queries that wait for an answer, newest last
        self.said: list[tuple[bytes, Endpoint]] = []  # what came in, to be replayed
        self.true: set[Contact] = set()  # who said, from there, that it has this id
        self.begun: list[Operation] = []
        self.ended: list[Operation] = []
        self.core.greet(stage.ENDPOINTS[:8])
        self.settle()

    def play(self) -> None:
        """Do what the script says, then let the time pass until everything is over."""
        acts = [
            *([self.answer] * 6),
            *(self.refuse, self.look_up, self.store, self.wait, self.ask),
            *(self.forge, self.replay, self.damage, self.rubbish, self.greet, self.cancel),
        ]
        while not self.script.over:
            self.script.pick(acts)()
            self.settle()
        self.let_time_pass()

    # what others do

    def hear(self, data: bytes, source: Endpoint) -> None:
        """Take a datagram in, and remember it."""
        self.said = [*self.said[-15:], (data, source)]
        with suppress(MalformedMessage):
            message = decode(data)
            if isinstance(message, messages.Response):
                self.true.add(Contact(message.node_id, source))
        self.core.receive_datagram(data, source, self.now)

    def next_asked(self) -> Asked | None:
        """Return one of the queries that were sent last."""
        return self.script.pick(self.asked[-16:][::-1]) if self.asked else None

    def response(self, t: bytes, node_id: bytes) -> messages.Response:
        """Return an answer of whatever kind."""
        script = self.script
        fields = stage.shown(script.pick(stage.ITEMS)) if script.byte() % 2 else {}
        if script.byte() % 4 == 3:
            fields = script.pick(stage.LIES)
        return messages.Response(
            t=t,
            node_id=node_id,
            token=script.pick(stage.TOKENS),
            **split_contacts(script.some(stage.CONTACTS)),
            **fields,  # type: ignore[arg-type]
        )

    def answer(self) -> None:
        """Answer a query from where it was sent to, by the id that is known there or another."""
        if (asked := self.next_asked()) is not None:
            query, endpoint = asked
            named = [one.node_id for one in stage.CONTACTS if one.endpoint == endpoint]
            node_id = self.script.pick([*named, *stage.IDS])
            self.hear(encode(self.response(query.t, node_id)), endpoint)

    def refuse(self) -> None:
        """Answer a query with an error."""
        if (asked := self.next_asked()) is not None:
            error = messages.Error(t=asked[0].t, code=self.script.pick(stage.CODES), message="no")
            self.hear(encode(error), asked[1])

    def forge(self) -> None:
        """Send an answer from the wrong address, or to a query that was never sent."""
        asked = self.next_asked()
        t = asked[0].t if asked is not None and self.script.byte() % 2 else b"aaaa"
        answer = self.response(t, self.script.pick(stage.IDS))
        self.hear(encode(answer), self.script.pick(stage.ENDPOINTS))

    def replay(self) -> None:
        """Send what was sent before, from the same address or another."""
        if self.said:
            data, source = self.script.pick(self.said)
            self.hear(data, self.script.pick([source, *stage.ENDPOINTS]))

    def damage(self) -> None:
        """Send an answer with a byte changed."""
        if (asked := self.next_asked()) is not None:
            data = bytearray(encode(self.response(asked[0].t, self.script.pick(stage.IDS))))
            place = (self.script.byte() << 8 | self.script.byte()) % len(data)
            data[place] = self.script.byte()
            self.hear(bytes(data), asked[1])

    def rubbish(self) -> None:
        """Send bytes of the script, or an answer to nothing."""
        data = self.script.raw() if self.script.byte() % 2 else self.script.pick(OTHERS)
        self.hear(data, self.script.pick(stage.ENDPOINTS))

    def ask(self) -> None:
        """Send a query; what is answered must be small."""
        data = encode(self.script.pick(QUERIES))
        t = b"t" * (self.script.byte() % (MAX_TRANSACTION_BYTES + 1))
        data = data.replace(b"1:t2:aa", b"1:t%d:%b" % (len(t), t))
        source = self.script.pick(stage.ENDPOINTS)
        self.settle()
        before = self.core.traffic.bytes_out
        self.hear(data, source)
        answers = [
            (sent, to)
            for sent, to in self.core.datagrams_to_send(self.now)
            if not self.note_sent(sent, to)
        ]
        assert len(answers) <= 1
        for sent, to in answers:
            assert to == source
            assert decode(sent).t == t
            assert len(sent) <= ANSWER_RATIO * len(data)
            assert self.core.traffic.bytes_out >= before + len(sent)

    # what we do

    def look_up(self) -> None:
        """Begin a lookup."""
        if len(self.begun) < MAX_OPERATIONS:
            script = self.script
            salt, enough = script.pick(stage.SALTS), script.pick([None, 0, 2])
            closest = script.pick([8, 1, 20])
            known = script.pick([None, *(one for one in stage.ITEMS if one.salt == salt)])
            self.begun.append(
                self.core.look_up(
                    stage.OURS.public_key,
                    salt,
                    self.now,
                    closest=closest,
                    enough=enough,
                    known=known,
                )
            )

    def store(self) -> None:
        """Store an item where an ended lookup of its key found nodes."""
        searches = [one for one in self.ended if isinstance(one, Search)]
        if searches and len(self.begun) < MAX_OPERATIONS:
            search = self.script.pick(searches[::-1])
            items = [one for one in stage.ITEMS if one.target == search.target]
            item, cas = self.script.pick(items), self.script.pick([None, 0, 2])
            copies = self.script.pick([20, 1, 8])
            if self.script.byte() % 2:
                self.begun.append(self.core.top_up(search, item, copies))
            else:
                self.begun.append(self.core.store(search, item, copies=copies, cas=cas))

    def greet(self) -> None:
        """Ask nodes who they are."""
        self.core.greet(self.script.some(stage.ENDPOINTS))

    def cancel(self) -> None:
        """End something that is under way."""
        if self.begun:
            self.core.cancel(self.script.pick(self.begun))

    def wait(self) -> None:
        """Let up to 2 s pass, or what is left until the next timer."""
        due, passed = self.core.next_timer(), self.script.byte()
        if due is not None and passed % 2:
            self.now = max(self.now, due)
        else:
            self.now += passed / 128
        self.core.handle_timer(self.now)

    # what must hold

    def settle(self) -> None:
        """Take what the core sends and tells."""
        for data, to in self.core.datagrams_to_send(self.now):
            self.note_sent(data, to)
        while (event := self.core.next_event()) is not None:
            if isinstance(event, Found):
                assert event.item in stage.ITEMS
            elif isinstance(event, Ended):
                self.begun.remove(event.operation)  # ValueError for what had ended before
                self.ended = [*self.ended[-7:], event.operation]
                self.check(event.operation)
        assert len(self.core.contacts) <= CONTACTS

    def note_sent(self, data: bytes, to: Endpoint) -> bool:
        """Remember a query that we sent; says whether it is one."""
        message = decode(data)
        if not isinstance(message, messages.Query):
            return False
        assert 1 <= to[1] <= 65535
        self.asked = [*self.asked[-63:], (message, to)]
        return True

    def check(self, operation: Operation) -> None:
        """Check that what an operation tells can be true."""
        if isinstance(operation, TopUp):
            assert operation.sent >= len(operation.stored) + len(operation.rejected)
        else:
            self.check_outcome(operation.outcome)
        if isinstance(operation, Search):
            assert operation.sent >= operation.lookup.queried

    def check_outcome(self, outcome: GetOutcome | PutOutcome) -> None:
        """Check that what is told can be true."""
        if isinstance(outcome, PutOutcome):
            assert outcome.silent >= 0
            assert outcome.copies is None or outcome.copies >= 0
            return
        assert outcome.item is None or outcome.item in stage.ITEMS
        assert outcome.holding >= 0
        assert 0 <= outcome.answered <= outcome.queried <= MAX_QUERIED

    def let_time_pass(self) -> None:
        """Answer nothing any more, until there is nothing to wait for."""
        self.settle()
        for _ in range(MAX_TIMERS):
            due = self.core.next_timer()
            if due is None:
                break
            self.now = max(self.now, due)
            self.core.handle_timer(self.now)
            self.settle()
        else:
            raise AssertionError("there is always another timer")
        assert not self.begun, "an operation waits for nothing, and has not ended"
        assert set(self.core.contacts) <= self.true, "a node is remembered that was never there"


def check(data: bytes) -> None:
    """Play the script that `data` is; AssertionError, or whatever comes, on a broken promise."""
    Stage(Script(data)).play()


def _all_goes_well() -> bytes:
    """Return the script of a lookup that finds an item and passes a lie by, and of a put."""
    start = bytes(2)
    known = b"".join(bytes([0, asked, 0, 0, 0, 0, 0]) for asked in range(8))
    lie = bytes([0, 0, 0, 0, 3, 8, 0, 0])
    shown = b"".join(bytes([0, asked, 0, 1, 0, 0, 0, 0]) for asked in range(16)) * 4
    look_up, store = bytes([7, 0, 0, 0]), bytes([8, 0, 0, 0, 0])
    return start + known + look_up + lie + shown + store + shown


SEEDS = [bytes(60), _all_goes_well()]
SEEDS += [Random(size).randbytes(size) for size in range(100, 1500, 200)]
