"""What things are: keys, node ids, items, records; no IO but the key files."""
