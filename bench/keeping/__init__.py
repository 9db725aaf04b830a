"""Keeping records alive, measured: survival in simulated months, bulk, memory, crashes, a soak."""
