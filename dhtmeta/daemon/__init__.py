"""A node that runs for months: how it starts, what it tells over HTTP, how it stops."""
