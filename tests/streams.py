"""Cameras of the network, served from this process, which break off where a test wants it: motion JPEG over HTTP, and
over RTSP (RFC 2326, RTP interleaved in its TCP connection) with JPEG in RTP (RFC 2435)."""

from __future__ import annotations

import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from edgeseg.frames import Frame

PAYLOAD = 1300  # bytes of a frame in one RTP packet
SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=front
c=IN IP4 0.0.0.0
t=0 0
m=video 0 RTP/AVP 26
a=control:track0
""".replace("\n", "\r\n")


class Camera(socketserver.ThreadingTCPServer):
    """Each connection is given the next of ``scripts``, how many frames come until it breaks off, ``pause`` seconds
    apart; once there are no more, connections are closed unanswered."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, scheme: str, frames: list[Frame], scripts: list[int], pause: float) -> None:
        super().__init__(("127.0.0.1", 0), {"http": _Http, "rtsp": _Rtsp}[scheme])
        self.jpegs, self.scripts, self.pause = [_jpeg(frame) for frame in frames], scripts, pause
        self.height, self.width = frames[0].shape[:2]
        self.url = f"{scheme}://127.0.0.1:{self.server_address[1]}/front"

    def script(self) -> Iterator[tuple[int, bytes]]:
        """The numbered frames of a connection."""
        for i in range(self.scripts.pop(0)):
            yield i, self.jpegs[i % len(self.jpegs)]
            time.sleep(self.pause)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # the reader has seen enough


class _Http(BaseHTTPRequestHandler):
    server: Camera

    def do_GET(self) -> None:
        if not self.server.scripts:
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for _, jpeg in self.server.script():
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Rtsp(socketserver.StreamRequestHandler):
    server: Camera

    def handle(self) -> None:
        if not self.server.scripts:
            return
        while request := self._request():
            verb, number = request
            if verb == "DESCRIBE":
                self._answer(number, "Content-Type: application/sdp", SDP)
            elif verb == "SETUP":
                self._answer(number, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
            else:
                self._answer(number, "Public: DESCRIBE, SETUP, PLAY, TEARDOWN")
            if verb == "PLAY":
                return self._play()

    def _request(self) -> tuple[str, str] | None:
        """Its verb and number; None at the end of the connection."""
        lines = list(iter(lambda: self.rfile.readline().decode().strip(), ""))
        numbers = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("cseq:")]
        return (lines[0].split()[0], numbers[0]) if numbers else None

    def _answer(self, number: str, header: str, body: str = "") -> None:
        head = f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\nSession: 1\r\n{header}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write((head + body).encode())

    def _play(self) -> None:
        sequence = 0
        for i, jpeg in self.server.script():
            tables, scan = _parts(jpeg)
            for offset in range(0, len(scan), PAYLOAD):
                part, last = scan[offset : offset + PAYLOAD], offset + PAYLOAD >= len(scan)
                rtp = struct.pack(">BBHII", 0x80, 26 | last << 7, sequence & 0xFFFF, i * 3000, 7)
                size = (self.server.width // 8, self.server.height // 8)
                header = struct.pack(">IBBBB", offset, 1, 255, *size)  # 1: 4:2:0; 255: tables in the first packet
                if not offset:
                    header += struct.pack(">BBH", 0, 0, len(tables)) + tables
                packet = rtp + header + part
                self.wfile.write(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                sequence += 1


def _parts(jpeg: bytes) -> tuple[bytes, bytes]:
    """The quantization tables of a baseline JPEG, and what stands behind its header but the end marker."""
    tables, at = b"", 2
    while True:
        marker, length = struct.unpack_from(">HH", jpeg, at)
        segment = jpeg[at + 4 : at + 2 + length]
        at += 2 + length
        if marker == 0xFFDB:
            tables += b"".join(segment[i + 1 : i + 65] for i in range(0, len(segment), 65))
        if marker == 0xFFDA:
            return tables, jpeg[at:-2]


def _jpeg(frame: Frame) -> bytes:
    import cv2

    return bytes(cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes())


@contextmanager
def camera(scheme: str, frames: list[Frame], scripts: list[int], pause: float = 0.01) -> Iterator[Camera]:
    """A ``Camera`` of "http" or "rtsp" for the length of the block."""
    with Camera(scheme, frames, scripts, pause) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
