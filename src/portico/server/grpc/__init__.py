"""The gRPC server and its services, on the same line that HTTP uses."""
