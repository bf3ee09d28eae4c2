"""HTTP: the connection, one request and its response, the door (keys, places), and errors in the client's shape."""
