"""How fast dhtmeta is, always beside somebody else: `make bench`, or `python -m bench`."""
