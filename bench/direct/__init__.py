"""Direct lookups beside libtorrent's, calibration first: `python -m bench.direct`."""
