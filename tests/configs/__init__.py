"""What an operator is given: each file is loaded, and held against what the daemon really does."""
