"""The server: sockets, tasks, clocks and limits around the line. Everything that is not pure lives here."""
