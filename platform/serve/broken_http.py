"""Requests that are no HTTP, of the web server in this process: refused in the form of all our errors.

Ray Serve's web server is uvicorn, which refuses them as plain text before any application hears of them.
"""

import json
import uuid
from typing import Any

from uvicorn.protocols.http import auto
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .metrics import REQUEST_ID

LONGEST_HEAD = 2**16  # bytes of request line and headers, and what else comes with them at once: uvicorn has no bound


class Protocol(HttpToolsProtocol):
    """One connection.  No request is taken for one to a websocket: there is none here."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.ws_protocol_class = None
        self._in_head, self._head = False, 0

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head = True, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._head += len(data)
        if self._in_head and self._head > LONGEST_HEAD and not self.transport.is_closing():
            self._refuse("431 Request Header Fields Too Large", f"the headers are larger than {LONGEST_HEAD:,} bytes")

    def send_400_response(self, msg: str) -> None:
        """In the place of uvicorn's, which sends the message as it is."""
        self._refuse("400 Bad Request", "this is no HTTP/1.1; look at the request line, the headers and the chunks")

    def _refuse(self, status: str, detail: str) -> None:
        name = str(uuid.uuid4())
        body = json.dumps({"detail": detail, "request_id": name}).encode()
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}{REQUEST_ID}: {name}\r\nconnection: close\r\n\r\n".encode() + body)
        self.transport.close()


def refuse_as_json() -> None:
    """Have the web servers that this process starts from now on use ``Protocol``."""
    auto.AutoHTTPProtocol = Protocol
