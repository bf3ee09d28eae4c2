"""``python -m portico``: the same as the ``portico`` program."""

from portico.cli import main

main()
