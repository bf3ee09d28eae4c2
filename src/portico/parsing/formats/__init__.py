"""One page per model family."""
