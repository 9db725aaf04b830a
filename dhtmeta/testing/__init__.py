"""A DHT to test with: real libtorrent nodes on loopback, and nodes that lie."""
