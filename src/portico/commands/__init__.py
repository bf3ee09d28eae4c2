"""The commands of the ``portico`` program, one module each."""
