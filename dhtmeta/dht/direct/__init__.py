"""Our own lookups: what libtorrent's binding cannot do, over a UDP socket of our own."""
