"""The share of queries that need not wait, and what that costs: one trace, several policies."""
