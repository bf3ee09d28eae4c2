"""Which path does what, a file for each protocol."""
