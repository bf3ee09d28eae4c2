"""gRPC calls over HTTP/2, for an engine's answers: many streams on a connection, each message handed on as it is read.

    bytes ─► frames ─► connection ─► call ─► the host
             RFC 9113  streams,      messages,
                       windows       status

frames      a byte stream cut into frames, and frames as bytes; pure
fields      header fields as bytes, and back (HPACK, RFC 7541); pure
connection  one connection: its streams and how much each side may send; pure
call        one gRPC call on a stream: messages, and the status that ends it; pure
status      what a call's end is called; pure
channel     the connection's socket, TLS, life and death; where calls begin

All that one read of the socket brings is given to the calls before anybody wakes up, so the messages of a read are one
step, whatever number of streams they are for.
"""

from portico.engines.grpc.http2.call import Call
from portico.engines.grpc.http2.channel import Channel
from portico.engines.grpc.http2.status import RpcError

__all__ = ["Call", "Channel", "RpcError"]
