"""What the bytes of the DHT mean: typed KRPC messages and their one codec (BEP 5, 32, 43, 44)."""
