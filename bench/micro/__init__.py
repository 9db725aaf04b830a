"""What is timed by itself, beside the libraries that do the same: bencode, krpc, verify, cache."""
