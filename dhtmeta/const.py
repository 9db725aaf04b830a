"""Every cap and default of dhtmeta, each with its unit and its reason or source."""

from typing import Final

# BEP 44, "storing mutable items"
MAX_VALUE_BYTES: Final = 1000  # bytes of v as encoded; nodes answer 205 to more
MAX_SALT_BYTES: Final = 64  # bytes; nodes answer 207 to more
MAX_SEQ: Final = 2**63 - 1  # seq is a signed 64-bit integer that may not be negative
PUBLIC_KEY_BYTES: Final = 32  # Ed25519, RFC 8032
SEED_BYTES: Final = 32  # Ed25519, RFC 8032: what is kept in ed25519_private.key
SIGNATURE_BYTES: Final = 64  # Ed25519, RFC 8032
NODE_ID_BYTES: Final = 20  # SHA1; BEP 5 node ids, targets and peer ids share the space

# bencode
MAX_VALUE_DEPTH: Final = 32  # levels inside v; a record of ours needs 5, libtorrent stops at 100
MAX_TEXT_BYTES: Final = 256 * 1024  # a JSON file for one value of 1,000 bytes; stops /dev/zero
MAX_SIGNED_FILE_BYTES: Final = 8 * 1024  # a signed file takes 2,600 at most; some have indents

# KRPC
MAX_DATAGRAM_BYTES: Final = 4096  # the largest that is read; an item with nodes takes 1,500
MAX_KRPC_DEPTH: Final = 36  # levels in a datagram: MAX_VALUE_DEPTH inside a and v
MAX_TRANSACTION_BYTES: Final = 32  # of another's t, which we echo; ours are 4, libtorrent's 2
MAX_TOKEN_BYTES: Final = 256  # of another's token, which we echo; libtorrent's are 4, others' 20
MAX_CONTACTS: Final = 32  # nodes read of one response and family: 8 is the rule, 20 is seen

# record (DESIGN: NodeRecord), mirrored by networks that already publish such records
REPUBLISH_INTERVAL: Final = 3600.0  # s; nodes of such networks republish hourly
STALE_AFTER_INTERVALS: Final = 3  # republish intervals; two may be missed before we give up
ENDPOINTS_PARSED: Final = 4096  # addresses remembered as parsed, about 250 B each
GLOBAL_HOSTS: Final = 4096  # addresses remembered as global or not, about 200 B each
MAX_AHEAD: Final = 300.0  # s a timestamp may lie in our future: clocks are rarely worse
MAX_REPUTATION: Final = 10_000  # reputation_score, per ten thousand

# cache and query
CACHE_TTL: Final = 300.0  # s a fetched record counts as fresh at first: the networks' 5 minutes
CACHE_STALE_FOR: Final = 300.0  # s more in which it is served while a lookup renews it
PRICE_OF_A_LOOK: Final = 0.13  # twice what one is worth, in CACHE_TTLs of being out of date
BELIEVED_CHANGES: Final = 0.3  # seen before the first look, as it were: one real one outweighs it
SIGNING_COUNTS: Final = 0.5  # of a change; every second signing, for all we know, is a renewal
CHANGES_AT_ONCE: Final = 16  # seqs from one look to the next; more are a clock, and count as one
WATCHED_FOR: Final = 96.0  # CACHE_TTLs: 8 h, after which what was seen fades; habits change
SHORTEST_LIFETIME: Final = 0.2  # CACHE_TTLs: who changes all the time costs a lookup a minute
LONGEST_LIFETIME: Final = 6.0  # CACHE_TTLs: half an hour until a quiet one's return is seen
RENEW_AHEAD: Final = 3.0  # s before the next query that is expected; a lookup takes 1.4 (p99 2.3)
RENEWALS_AHEAD: Final = 10_000  # that wait for their time, about 300 B each
DECODED: Final = 2048  # records that are kept decoded, about 1.5 KB each: those asked for last
KINDS: Final = 1024  # topics that records share an object for, up to 300 B each
FLOOR_LIFETIME: Final = 3e9  # s: floors are bounded in number; a clock that steps ends none
SIGNED_FOR: Final = 10_800.0  # s a NodeRecord counts from its signing: 3 intervals (DESIGN)
NEGATIVE_TTL: Final = 10.0  # s "not found" is believed, so a missing key costs 1 lookup per 10 s
CACHE_ENTRIES: Final = 100_000  # records in memory, about 1 KB each: 100 MB when full
NEGATIVE_ENTRIES: Final = 10_000  # missing keys remembered
SEQ_FLOORS: Final = 100_000  # highest seqs remembered; one costs about 100 B
SEQ_FLOOR_KEPT: Final = 30 * 86_400.0  # s a floor outlives its item: longer than any copy (FACTS)
SEQ_FLOOR_REFRESH: Final = 86_400.0  # s after which a floor seen again is written again
MAX_LOOKUPS: Final = 10_000  # lookups wanted at once before a query is refused: bounds memory

# carriers
LOOKUP_DEADLINE: Final = 40.0  # s; libtorrent needs 15 s per layer of dead nodes, rarely two
JOIN_WITHIN: Final = 1.0  # s for which a running lookup is as good as a new one to `freshest`
RELAY_WAIT: Final = 1.0  # s an answer waits at most for the record of the relay it names
PUT_DEADLINE: Final = 60.0  # s; a put looks up first, then stores
LOOKUP_LOST: Final = 90.0  # s after which libtorrent's alert must have been lost: 6 layers of 15 s
LOOKUP_WINDOW: Final = 64  # lookups in flight; past about 100 libtorrent loses packets (FACTS)
READY_DEADLINE: Final = 10.0  # s until the first node answered; a dead network is named by then
CONTACT_INTERVAL: Final = 1.0  # s between pings to bootstrap nodes that have not answered
RESOLVE_AFTER: Final = 3.0  # s until names of routers are tried as plain nodes, too
RESOLVE_DEADLINE: Final = 5.0  # s a name may take to resolve
POLL_INTERVAL: Final = 0.01  # s between looks at the routing table while joining
LISTEN_DEADLINE: Final = 2.0  # s the operating system may take to bind a port
LISTEN_TRIES: Final = 3  # free ports tried: one is rarely taken while it is being bound
GIVE_BACK_DEADLINE: Final = 0.5  # s gateways may take to end our mappings; 0.1 are usual
COPIES: Final = 8  # nodes libtorrent stores on: k of BEP 5
SOCKET_BUFFER_BYTES: Final = 4 * 2**20  # the kernel's default loses packets at 64 lookups (FACTS)
MAX_PEERS: Final = 2000  # peers kept of one get_peers answer: a liar may send any number
DAEMON_PORT: Final = 30609  # UDP, DHT; what networks of this kind already use
MAINLINE_ROUTERS: Final = (  # long-running public bootstrap nodes of mainline
    "router.bittorrent.com:6881",
    "dht.transmissionbt.com:6881",
    "dht.libtorrent.org:25401",
    "router.utorrent.com:6881",
)

CARRIERS: Final = ("libtorrent", "direct")  # names of what takes items to the DHT and back
DEFAULT_CARRIER: Final = "direct"  # one of them: what is used where nobody says

# direct lookups
CLOSEST: Final = 8  # k of BEP 5: a get ends when so many of the closest have answered
DIRECT_COPIES: Final = 20  # nodes a put stores on: 99.64 % retrievable after 2 days (FACTS)
MAX_CLOSEST: Final = 40  # nodes a put looks for where some of the closest store nothing
TRANSACTION_BYTES: Final = 4  # of our t: cannot be guessed within the life of a query
IDS_DRAWN: Final = 256  # transaction ids drawn at once: one system call for all of them
TRANSACTION_KEPT: Final = 2.0  # s a late answer is still known as one: what it took is learnt
QUERY_TRIES: Final = 2  # with 5 % loss a live node misses both tries in 1 of 100
ROUND_TRIP_MEAN: Final = 0.16  # s; mainline's: 20 ms + lognormal, median 120 ms (FACTS)
ROUND_TRIP_DEVIATION: Final = 0.07  # s; the mean deviation of that law
ROUND_TRIP_PRIOR: Final = 4  # answers that weigh as much as what was believed before
LOCAL_ROUND_TRIP: Final = 0.05  # s; loopback answers in 0.3 ms, but a busy machine in 20
MIN_TIMEOUT: Final = 0.1  # s; below it a busy machine would pass for a dead node
MAX_TIMEOUT: Final = 1.0  # s; who takes longer is passed over
LAST_DEVIATIONS: Final = 2.5  # the same for the second try
SLOW_DEVIATIONS: Final = 0.5  # mean deviations above the mean: 3 of 4 answers are here
TIMEOUT_DEVIATIONS: Final = 2.5  # mean deviations above the mean: 95 of 100 are here
ROUND_TRIPS: Final = 10_000  # nodes whose round trip is remembered, about 300 B each
CONTACTS: Final = 10_000  # nodes remembered for the next lookup, about 400 B each
SAVED_CONTACTS: Final = 2000  # of them written down for the next start: 52 KB
DEAD_CONTACTS: Final = 10_000  # silent nodes remembered
DEAD_FOR: Final = 120.0  # s a silent node is not asked again: 1 in 100 was only unlucky
FAR_IN_FLIGHT: Final = 1  # queries at once on the way to the target: any one answer is enough
MAX_FAR_IN_FLIGHT: Final = 3  # the same where many nodes were slow
SETBACKS: Final = 2  # slow nodes for which one more query is in flight
NEAR_IN_FLIGHT: Final = 8  # and among the closest nodes, who all have to be asked
WIDENING_ASKED: Final = 2  # nodes asked for each target beside: one may be dead
MAX_QUERIED: Final = 400  # nodes a lookup asks at most: 25 is usual, liars could make it endless
MAX_MET: Final = 1000  # hosts of nodes that others told us to know, each about 150 B
MAX_CANDIDATES: Final = 200  # nodes a lookup keeps in mind; the farthest are let go
MAX_HEARD: Final = 2000  # nodes a lookup hears of: 200 is usual
MAX_PER_HOST: Final = 3  # nodes of one address that a lookup asks while they do not answer
UNREACHABLE_AFTER: Final = 24  # nodes that do not answer, and none that does: no network
DOUBT: Final = 1.0  # s without any answer after which silent nodes are not taken for dead
OUTAGE: Final = 3.0  # s without any answer that are no chain of dead nodes, but our network
GREETED: Final = 16  # remembered nodes asked whether the network is there
HEARD_LATELY: Final = 60.0  # s without an answer after which that is asked again
MAX_OTHERS: Final = 2  # further addresses tried for one id: who lies may name any number
MAX_OPERATIONS: Final = 10_000  # lookups and puts under way, about 20 KB each
ANSWER_RATE: Final = 20  # answers a second to one /24: a node asks us a few a minute
ANSWER_NETWORKS: Final = 4096  # networks whose answers are counted, about 200 B each
ANSWERS_IN_ALL: Final = 1000  # answers a second: forged senders may be of any network
ANSWER_RATIO: Final = 4  # bytes we answer for each that came in: 8 nodes to a get of 100 bytes
ERROR_UNKNOWN: Final = 204  # BEP 5: method unknown
RECEIVE_BATCH: Final = 256  # datagrams read before other work has its turn: about 10 ms of it
SEND_BACKLOG: Final = 10_000  # datagrams that wait while the socket's buffer is full
OPERATIONS_AT_ONCE: Final = 256  # lookups and puts under way; the others wait their turn
LIVE_NODES_INTERVAL: Final = 60.0  # s between looks at what libtorrent's table gained
DIRECT_SEND_RATE: Final = 2000  # queries a second on mainline: 200 KB/s up; a swarm has no limit

# store
CLEANUP_INTERVAL: Final = 60.0  # s between deletions of what expired: the networks' own figure
KNOWN_PEERS: Final = 100_000  # public keys we know, about 200 B each; those seen last stay
WRITE_BEHIND_INTERVAL: Final = 1.0  # s between batches; what a crash may cost is only cache
WRITE_BEHIND_ROWS: Final = 1000  # rows a batch: 55,000 rows/s at this size (FACTS)
WRITE_BEHIND_PENDING: Final = 100_000  # rows waiting while the disk fails; the oldest go first
STORE_CLOSE_DEADLINE: Final = 3.0  # s the last batches may take at the end: SD cards stall so long
BUSY_TIMEOUT: Final = 5.0  # s another process may hold the SQLite write lock
WRITE_BEHIND_BUSY: Final = 0.2  # s the same for cache rows: two tries fit STORE_CLOSE_DEADLINE
UNFINISHED_ROWS: Final = 32  # unfinished publishes in hand at once: half of LOOKUP_WINDOW
FINISH_WITHIN: Final = 86_400.0  # s an offline start may last and still finish them afterwards
DUE_ROWS: Final = 1000  # due rows read at once: 1.5 MB, and 55 ms to verify
VERIFIED_AT_ONCE: Final = 50  # of them before other work has its turn: 3 ms
DUE_ROWS_CHANGED: Final = 2000  # rows made due in one transaction: others wait 0.2 s for it
HTTP_ROWS: Final = 100_000  # rows of what visitors put and nobody keeps, about 1.6 KB each
HTTP_ROWS_DROPPED: Final = 1000  # of them deleted in one transaction: others wait 0.2 s for it
MAX_HOLDERS_BYTES: Final = 256  # who held a row at the last look: 8 bytes for each of 32 nodes

# republish
MAX_LOSS: Final = 0.001  # chance that a kept record cannot be found, at any time (DESIGN)
REPUBLISH_PACKETS: Final = 200.0  # datagrams a second sent to keep records: 600,000 looks a day
SWEEP: Final = 3600.0  # s in which the id space is gone through once; due times follow that
FIRST_SPREAD: Final = 0.5  # share of the first interval over which what came together is spread
KEEP_DEADLINE: Final = 30.0  # s a look with its top-up may take; 3 are usual
KEPT_AT_ONCE: Final = 64  # records worked on at once; queries have the other three quarters
DUE_PAGE: Final = 1000  # records in hand, about 2 KB each, and rows written together
DUE_AHEAD: Final = 300.0  # s before its time a record may be worked on together with others
IDLE_POLL: Final = 60.0  # s after which other processes' records are seen
NOTE_INTERVAL: Final = 1.0  # s between writes of how it went; a crash costs that many looks
RETRY_FIRST: Final = 60.0  # s until the first retry, doubled each time
RETRY_LAST: Final = 3600.0  # s between retries at most
FAILURES_KEPT: Final = 10_000  # records whose failures in a row are counted
STORE_RETRY: Final = 5.0  # s until a store that failed is tried again
FIRST_LOOK: Final = 900.0  # s until a record is looked at again at the soonest
LAST_LOOK: Final = 4 * 86_400.0  # s, and at the latest: what is known of the law ends at two days
LOOK_DATAGRAMS: Final = 32.0  # of a look at a record whose neighbourhood is known, both ways
TOP_UP_DATAGRAMS: Final = 2.0  # of one copy more, both ways
PLAN_SHARE: Final = 0.5  # of max_loss; the rest is for newcomers that stand closer, and misses
LOOK_SEES: Final = 0.95  # of the copies that are there: found of the 8 closest with 5 % loss
SLOWEST_DEATHS: Final = 0.25  # times the speed of the survival law, with the next the range
FASTEST_DEATHS: Final = 32.0  # in which the true speed is looked for
SPEED_STEPS: Final = 25  # speeds in it that are told apart: 22 % from one to the next
SURVIVAL_SHAPES: Final = (0.35, 0.45, 0.55, 0.648, 0.75, 0.85)  # and Weibull shapes
SHAPE_SPREAD: Final = 0.1  # sigma of the shape around that of the law, before any look
SPEED_SPREAD: Final = 0.7  # sigma of the logarithm: before any look, twice as fast is not unlikely
SPEED_MEMORY: Final = 20_000.0  # copies whose fate is remembered: two days of 2,000 records
SPEED_CAUTION: Final = 0.9  # plans are for a speed that is not exceeded with this chance

# daemon
RECORD_POLL: Final = 1.0  # s between looks at the file of our own record
DEBOUNCE: Final = 1.0  # s a file has to stay the same: editors write in several steps
CLOCK_JUMP: Final = 60.0  # s the clock may be set by without a word: time services do less
CLOCK_JUMP_TOLD: Final = 3600.0  # s for which a jump is told of
ONLINE_POLL: Final = 10.0  # s between looks whether the network is there
ONLINE_DEADLINE: Final = 5.0  # s it may take to answer
TOTALS_POLL: Final = 10.0  # s between counts of the ledger
TOTALS_SHARE: Final = 50.0  # times what a count takes (0.5 s at 1,000,000 rows) until the next
STOP_DEADLINE: Final = 0.4  # s that work in flight may take to end when the daemon stops

OWN_POLL: Final = 30.0  # s between looks whether our own record is due
FINISH_INTERVAL: Final = 600.0  # s between tries of what could not be stored when it was published

# discovery
DISCOVERY_INTERVAL: Final = 30.0  # s between rounds once nothing new is found (DESIGN)
FIRST_ROUND: Final = 1.0  # s between rounds while somebody new is found, doubled when nobody is
SOURCE_DEADLINE: Final = 10.0  # s one source may take to name candidates
SOURCE_BACKOFF: Final = 8.0  # intervals at most until a source that has nobody new is asked again
DIALS_A_ROUND: Final = 8  # candidates that are only an address asked who they are in one round
DIALS_AT_ONCE: Final = 16  # connections we begin at once: 4 ms of CPU each
NEIGHBOURS: Final = 4  # connections kept to tell and hear news
LINGER: Final = 10.0  # s a connection beyond those is kept
MET_FROM_STORE: Final = 50  # known peers of the store tried in one round, those seen last first
DIAL_RETRY: Final = 5.0  # s until an address that did not answer is tried again, doubled each time
DIAL_RETRY_LAST: Final = 3600.0  # s
DIALS_REMEMBERED: Final = 10_000  # addresses that did not answer, about 200 B each
CHECKS_A_ROUND: Final = 2  # known peers dialled in an interval to see whether they are there
UPKEEP: Final = 1.0  # s between looks which records are to be looked up again
UPKEEP_SLICE: Final = 500  # known peers looked at in each: 1 ms
UPKEEP_AT_ONCE: Final = 8  # lookups of it under way
UPKEEP_RETRY: Final = 120.0  # s until one that found nothing is tried again
MET_LOOKUPS: Final = 16  # lookups of candidates that are only a key under way: a quarter of all
MET_WAITING: Final = 200  # of them that wait; LANs and registries may name thousands who are nobody
HEAR_WAIT: Final = 1.0  # s for which a dialled peer's record is waited for
LAN_RETRY: Final = 60.0  # s until mDNS is tried again where there is none
RELAY_POLL: Final = 0.5  # s between looks whether we are to be attached, or announced
FIND_DEADLINE: Final = 15.0  # s a single look for peers may take
PEERS_RELOOK: Final = 5.0  # s between looks at all peers that are watched: relays and clocks change
PEERS_SLICE: Final = 100  # of them judged before other work has its turn: about 3 ms
SETTLED: Final = 1.0  # s without anybody new after which it ends sooner
KNOWN_FOR: Final = 86_400.0  # s after which a known peer not of our topic is looked at again
UNSHOWN: Final = 6  # hints a minute that are looked up though who gave them has no item
MAX_SHARED: Final = 50  # known peers told in one exchange (DESIGN)
MAX_TOPIC_BYTES: Final = 128  # of a topic's text; it is one field of a record of 1,000 bytes
TOPIC_WAIT: Final = 5.0  # s a round gathers peers of a topic; nobody says that it was all
TOPIC_AGAIN: Final = (1.0, 1.5)  # s in it after which it is looked up anew while nobody is found
ANNOUNCE_INTERVAL: Final = 900.0  # s between announces; nodes forget a peer after 30 minutes
ANNOUNCE_FIRST: Final = 2.0  # s until the second announce, doubled each time up to the interval
ANNOUNCE_RETRY: Final = 10.0  # s until an announce that found no node is tried again
LOWEST_PORT: Final = 1024  # of an exchange we hear of: those below are services of others
LAN_TTL: Final = 120  # s a peer on the LAN is believed after it was heard: RFC 6762 for hosts
LAN_LOOKS: Final = 4  # looks in that time; from half of it on a silent peer is asked
LAN_CANDIDATES: Final = 500  # peers on the LAN remembered, about 1 KB each: anyone may invent some
LAN_ADDRESSES: Final = 8  # addresses that one of them may name, and of ours that we tell

# reachability
REACH_PATIENCE: Final = 3.0  # s gateways have to map our port; libtorrent needs 0.1 (FACTS)
REACH_POLL: Final = 2.0  # s between looks whether our address is another one: 0.1 ms each
SEEN_BY: Final = 100  # peers whose view of our address is remembered
DIAL_BACK_INTERVAL: Final = 600.0  # s until a peer is asked to dial us again
PROOF_DELAY: Final = 20.0  # s until others are asked to dial where we believe to be: not at a start
DIAL_BACKS_FAILED: Final = 2  # peers who could not dial us, after which we are not there
DIAL_BACKS_AT_ONCE: Final = 8  # we dial back, each with a socket of its own; others are refused
DIAL_BACK_EACH: Final = 10.0  # s between two dials back for one peer

TURN_CHECK: Final = 60.0  # s between looks whether our TURN server answers
TURN_TIMEOUT: Final = 0.5  # s for one try; it is on this machine
TURN_TRIES: Final = 2  # a datagram may be lost

# exchange
EXCHANGE_PORT: Final = 30906  # UDP, QUIC; what networks of this kind already use
EXCHANGE_MESSAGE_BYTES: Final = 65_536  # of one message: 50 items of 1,100 bytes
EXCHANGE_DEPTH: Final = 4  # lists and dicts in each other: the message, its list, an item
FINGERPRINT_BYTES: Final = 4  # that stand for a record: of 2,000 one in 2 million is mistaken
FINGERPRINTS: Final = 2000  # sent at most with a request for hints: 8 KB
MAX_TOPICS: Final = 8  # topics that one peer may say it is interested in
DIAL_DEADLINE: Final = 8.0  # s until a handshake and both proofs must be done: five tries of it
FIRST_ROUND_TRIP: Final = 0.333  # s believed before any was measured (RFC 9002, 6.2.2)
EXCHANGE_IDLE: Final = 30.0  # s of silence after which a connection is taken for dead
EXCHANGE_PING: Final = 12.0  # s between pings: NATs forget UDP after 30 s, two may be lost
REQUEST_TIMEOUT: Final = 5.0  # s an answer on an open connection may take
EXCHANGE_LINKS: Final = 512  # connections at once, 76 KiB each (FACTS): 40 MB when full
EXCHANGE_LINKS_EACH: Final = 16  # of one /24 (IPv6: /64) that came in, beyond this machine's own
LINKS_PER_PEER: Final = 2  # connections with one peer: both may have dialled at once
EXCHANGE_WINDOW: Final = 131_072  # bytes that may be under way to us on a connection: two messages
EXCHANGE_BACKLOG: Final = 1_048_576  # bytes unsent to a peer who does not read, then it is closed
MESSAGES_PER_SECOND: Final = 50.0  # that a peer may send for long; who sends more is cut off
MESSAGES_BURST: Final = 500  # and at once
SHUNNED: Final = 10_000  # peers and addresses that broke the rules, about 200 B each
SHUNNED_FOR: Final = 3600.0  # s for which they are not met
NEWS_DELAY: Final = 0.3  # s for which news is gathered before it is told: one message for many
ASK_INTERVAL: Final = 0.5  # s between requests for hints that are answered for long: 8 ms each
ASKED_AT_ONCE: Final = 3  # connected peers asked for more hints each time
NEWS_FANOUT: Final = 4  # connections on which one piece of news is told: the rest ask
NEWS_KEPT: Final = 2000  # hints that wait to be told on one connection, about 150 B each
TOLD: Final = 2000  # hints remembered as told on a connection, about 150 B each
WANTED: Final = 5000  # keys asked for and not answered yet, of all connections, about 300 B each
WANTED_EACH: Final = 500  # and of one
WANT_TIMEOUT: Final = 6.0  # s until another who knows of it is asked
WANT_TRIES: Final = 3  # who is remembered to have told of one key
CERTIFICATE_DAYS: Final = 3650  # of our self-signed certificate, made anew at every start

# relay
SILENT_PEERS: Final = 10_000  # peers remembered as not answering, about 150 B each
SILENT_AFTER: Final = 2  # attempts in vain: one may have been lost, or come at a bad moment
SESSION_LIFETIME: Final = 60  # s a session at a relay lasts unless it is renewed (DESIGN)
SESSION_RENEWAL: Final = 20.0  # s between renewals: two may fail
PROBES_PER_SECOND: Final = 50.0  # that a relay passes on to one attached peer, each 0.3 ms of CPU
RELAY_CANDIDATES: Final = 4  # relays measured at once before one is chosen
RELAY_TIE: Final = 0.01  # s by which round trips differ for less load to be worth more
RELAY_GRACE: Final = 0.3  # s for which the other relays may still answer after the first one did
RELAY_TOPIC_WAIT: Final = 1.5  # s relays are looked for on the DHT, before known ones come again
RELAY_RETRY: Final = 1.0  # s until relays are looked for again, doubled up to the next
RELAY_RETRY_LAST: Final = 15.0  # s; whoever waits for a relay shall have one soon
RELAY_PATIENCE: Final = 60.0  # s without any relay until our record says that we have none
RELAY_FAILED_FOR: Final = 60.0  # s a relay that failed us is not chosen again, doubled each time
RELAY_FAILED_LAST: Final = 3600.0  # s, up to this: who made it up pays for its records longer
RELAYS_WATCHED: Final = 64  # relays asked for the sessions of known peers, those that answer first
RELAYS_FAILED: Final = 1000  # relays remembered as failed, about 100 B each
RELAY_WATCH: Final = 15.0  # s between looks at a relay: three in a session's lifetime
RELAY_WATCH_LAST: Final = 3600.0  # s, doubled up to this: at a victim's address nobody answers
RELAY_SWEEP: Final = 60.0  # s between sweeps for relays that had no room; 0.2 s of 100,000 peers
RELAY_SWEPT: Final = 50  # known peers looked at in one go: 3 ms where each is verified first
PROBES_AT_ONCE: Final = 8  # peers probed at one look at a relay; the others its word is taken for
PROBED: Final = 10_000  # sessions remembered as probed, about 150 B each
PROBED_FOR: Final = 600.0  # s until a session is probed again
WATCH_DELAY: Final = 0.2  # s for which peers of new relays are gathered before these are asked
ATTACHED_AT_ONCE: Final = 500  # peers asked about in one message: 11 KB
ATTACHED_MESSAGES: Final = 4  # such messages at one look at a relay: 45 KB
RELAY_SESSIONS: Final = 100  # peers that may be attached to us at once, about 90 KB each

# registry
REGISTRY_LISTEN: Final = "127.0.0.1:30681"  # loopback, to try it; it has to see who registers
MIN_LIFETIME: Final = 60  # s a registration lives at least: no less than a nonce, or replays fit in
MAX_LIFETIME: Final = 3600  # s, and at most: who is gone is not named for longer
NONCE_LIFETIME: Final = 60.0  # s a nonce is good for: a slow request takes 30
NONCE_BYTES: Final = 24  # 8 of when it was made, 16 of an HMAC: 2^-128 to guess one
MAX_NONCE_BYTES: Final = 64  # of another registry's nonce, which we echo; ours are 24
MAX_REGISTRY_NAME: Final = 261  # characters of host:port: a DNS name has at most 255
REGISTRY_ENTRIES: Final = 10_000  # nodes registered at once, about 3 KB each with their records
REGISTRY_PER_NETWORK: Final = 64  # of them in one IPv4 /24 or IPv6 /64: it takes 157 to fill it
REGISTRY_PER_48: Final = 10  # times that in an IPv6 /48: one customer, or many
REGISTRY_SWEEP: Final = 1.0  # s between looks for registrations that are over: 1 ms each
REGISTRY_REQUESTS: Final = 1200  # a minute, of one address: 200 nodes behind it, 3 every 30 s
REGISTRY_DEADLINE: Final = 30.0  # s a request may take in all: a slow body, and the answer
REGISTRY_PAGE: Final = 50  # peers in one answer where nobody says how many: as one exchange tells
MAX_REGISTRY_PAGE: Final = 200  # the same at most: 600 KB with the largest records
REGISTRY_TOPICS: Final = 100  # topics named by /topology, those with most peers
REGISTRY_CENSUS: Final = 10.0  # s between counts of all verdicts: 10,000 take 0.1 s
MAX_REGISTRIES: Final = 16  # that a node asks, all at once; a network has two or three
REGISTRY_TIMEOUT: Final = 10.0  # s in which a registry has to have answered one request
MAX_REGISTRY_ANSWER: Final = 1024 * 1024  # bytes read of one answer: 200 peers take 600 KB
MAX_REGISTRY_REASON: Final = 160  # characters shown of why a registry refuses: it can write any

# HTTP
HTTP_LISTEN: Final = "127.0.0.1:30680"  # loopback: who may reach it may spend our lookups
MAX_KEPT_FOR_OTHERS: Final = 10_000  # records that HTTP may have kept alive, about 1.2 KB each
PUTS_PER_MINUTE: Final = 30  # of one address; a put costs about 150 datagrams
GETS_PER_MINUTE: Final = 600  # of one address; one that misses the cache costs about 40 datagrams
PUTS_IN_ALL: Final = 600  # a minute, of all addresses: 1,500 datagrams a second, and with the next
GETS_IN_ALL: Final = 2400  # that ask the network, 1,600; half of them are sent: DIRECT_SEND_RATE
QUOTA_PER_48: Final = 10  # times the quota of one address, for an IPv6 /48: one customer, or many
QUOTA_NETWORKS: Final = 10_000  # addresses (IPv6: /64) whose quotas are counted, about 200 B each
QUOTA_SWEEP: Final = 1.0  # s between looks for those that can be forgotten: 1 ms each
ENROLMENT_COUNTED: Final = 60.0  # s until a count of the ledger surely has it: 25 s at 1,000,000
HTTP_CONNECTIONS: Final = 512  # open at once, about 20 KB each: half of the usual 1024 descriptors
HTTP_CONNECTIONS_EACH: Final = 64  # of one address: a browser opens 6, a scraper one
HTTP_CONNECTIONS_LOCAL: Final = 32  # of them for loopback alone: health checks, scrapers
HTTP_HEADERS: Final = 64  # in a request; a browser sends 15
HTTP_HEADER_BYTES: Final = 8190  # of one header, and of the request line: what nginx takes, too
SLOW_CLIENT: Final = 10.0  # s for the headers, for the body, and to take what we send
SLOW_CLIENT_LOOK: Final = 1.0  # s between looks at who does not take what we send
REQUEST_DEADLINE: Final = 75.0  # s a request may take in all: a slow body, then PUT_DEADLINE
HTTP_CLOSE: Final = 0.1  # s that requests under way still have when the server is closed
RETRY_AFTER: Final = 10  # s after which to ask again where no node answers: a join takes that long
PEERS_PAGE: Final = 100  # peers in one answer where nobody says how many
MAX_PEERS_PAGE: Final = 500  # the same at most: 150 KB, and about 20 ms of work
TOPOLOGY_RELAYS: Final = 100  # relays named by /topology, those most used first
CENSUS_AT_ONCE: Final = 1000  # known peers that are counted whenever that is asked: about 30 ms
CENSUS_SLICE: Final = 100  # peers judged before other work has its turn: about 3 ms
CENSUS_PAUSE: Final = 0.1  # s between slices of more: 3 % of a core, 100,000 in two minutes
CENSUS_INTERVAL: Final = 60.0  # s from one such count to the next

# swarm
SWARM_CONTACTS: Final = 40  # nodes each node is told of: fills its table within 2 s (FACTS)
SWARM_READY_DEADLINE: Final = 30.0  # s
MAX_SWARM_NODES: Final = 1000  # 1 MiB and one thread each (FACTS)

# simnet
SIM_NODES: Final = 2**24  # nodes; each has its own IPv4 address in 11.0.0.0/8
SIM_CHURN_NODES: Final = 20_000  # nodes that may come and go: each slot costs about 1 KB
SIM_ITEMS: Final = 700  # items a node holds: libtorrent's dht_max_dht_items
SIM_TOKEN_STEP: Final = 300.0  # s; tokens are good for one to two of them: libtorrent's key_refresh
SIM_BUCKETS: Final = (128, 64, 32, 16)  # entries of libtorrent's first four buckets
SIM_KNOWN: Final = 64  # live nodes that the simulated node beside the direct carrier knows
SIM_BUCKET: Final = 8  # entries of every deeper bucket, and nodes in an answer: k of BEP 5
ROUND_TRIP_FLOOR: Final = 0.020  # s, with the next two: the round trips of FACTS, "Mainline"
ROUND_TRIP_MEDIAN: Final = 0.120  # s, median of the lognormal part
ROUND_TRIP_SIGMA: Final = 0.6  # of the logarithm of the lognormal part
SURVIVAL_SCALE: Final = 114_100.0  # s, Weibull lambda of how long copies live (FACTS, "Mainline")
SURVIVAL_SHAPE: Final = 0.648  # Weibull shape of the same
SHORTEST_LIFE: Final = 60.0  # s, mean life of the most restless 0.3 % of nodes: bounds generations
