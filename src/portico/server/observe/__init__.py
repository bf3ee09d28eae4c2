"""What can be seen of the server from outside: metrics, spans, and the inspector's traces."""
