"""Connections to servers on this machine, with TLS or without."""

import socket
import ssl


def connect(port, seconds, *, tls=False):
    """A connection to a port here; with `tls` it is TLS, whoever the certificate names."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=seconds)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not tls:
        return connection
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection)
