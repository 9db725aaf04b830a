"""DHTs to test with: real libtorrent nodes on loopback, nodes that lie, and a simulated network."""
