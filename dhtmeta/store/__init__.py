"""What survives a restart: the ledger, the cached records, the seq floors, the known peers."""
