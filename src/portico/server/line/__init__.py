"""The line: one engine's steps go straight to the connections that wait for them."""
