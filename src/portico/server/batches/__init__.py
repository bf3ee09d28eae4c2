"""Running batches: which, when, and one line after another, beside what clients wait for."""
