"""Protocols: lenient in, strict out. Each has two halves: bytes -> a generation, and deltas -> bytes."""
