"""How dhtmeta's carriers stand under load, beside a bare libtorrent session and bittorrent-dht."""
