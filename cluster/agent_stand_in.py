"""Stands in for an agent that Ray starts on each node, where nobody needs all that it does.

Ray's own agents take two seconds of CPU and 200 MB a start, and listen on the network.  A raylet does not live without
them, so an embedded Ray gets this: ``python -I -S agent_stand_in.py [PORT_FILE]``.  It ends with its input, which is a
pipe of the raylet.  With a file it is the agent for runtime environments: it listens on loopback, writes its port to
the file, and grants environments of nothing but variables, which Ray Tune asks for.  It imports what loads quickly.
"""

import json
import os
import select
import socket
import sys

REFUSED = "an embedded Ray grants runtime environments of env_vars only, not "
CREATE = b"/get_or_create_runtime_env"  # other requests need no more than a yes


def reply(request: bytes) -> bytes:
    """The answer to the body of a request for a runtime environment, both as Ray's protobuf writes them."""
    wanted = json.loads(_first_text(request))
    if others := sorted(key for key in wanted if key != "env_vars" and not key.startswith("_")):  # those are Ray's own
        return b"\x08\x01" + _text(2, REFUSED + ", ".join(others))  # status: failed, error_message
    context = {"env_vars": wanted.get("env_vars", {}), "py_executable": sys.executable}
    return _text(3, json.dumps(context))  # serialized_runtime_env_context


def _first_text(message: bytes) -> str:
    """The text that is field 1, and stands first."""
    length, position = 0, 1
    for shift in range(0, 64, 7):
        byte = message[position]
        length, position = length | (byte & 0x7F) << shift, position + 1
        if byte < 0x80:
            break
    return message[position : position + length].decode()


def _text(field: int, text: str) -> bytes:
    content, left, length = text.encode(), len(text.encode()), b""
    while left >= 0x80:
        length, left = length + bytes([left & 0x7F | 0x80]), left >> 7
    return bytes([field << 3 | 2]) + length + bytes([left]) + content


def answer(connection: socket.socket) -> None:
    """Read one request of HTTP to its end, and answer it."""
    connection.settimeout(10)
    data = b""
    while b"\r\n\r\n" not in data and (more := connection.recv(65536)):
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while lengths and len(body) < int(lengths[0]) and (more := connection.recv(65536)):
        body += more
    content = reply(body) if CREATE in head.partition(b"\r\n")[0] else b""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(content) + content)


def main(port_file: str = "") -> None:
    """Wait until the input ends."""
    listener = socket.socket()
    if port_file:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with open(f"{port_file}.new", "w") as file:
            file.write(str(listener.getsockname()[1]))
        os.replace(f"{port_file}.new", port_file)
    while True:
        ready = select.select([0, listener.fileno()] if port_file else [0], [], [])[0]
        if 0 in ready and not os.read(0, 4096):
            return
        if listener.fileno() in ready:
            connection, _ = listener.accept()
            with connection:
                try:
                    answer(connection)
                except (OSError, ValueError, IndexError):  # whoever asks like that gets no answer
                    continue


if __name__ == "__main__":
    main(*sys.argv[1:])
