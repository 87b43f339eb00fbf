"""Cameras of the network, served from this process: motion JPEG over HTTP, which breaks off where a test wants it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from edgeseg.frames import Frame

BOUNDARY = "frame"


class MotionJpeg(ThreadingHTTPServer):
    """Each connection is given the next of ``scripts``, how many frames come until it breaks off, ``pause`` seconds
    apart; once there are no more, connections are refused with 503."""

    daemon_threads = True

    def __init__(self, frames: list[Frame], scripts: list[int], pause: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.frames, self.scripts, self.pause = [_jpeg(frame) for frame in frames], scripts, pause
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/front"


class _Handler(BaseHTTPRequestHandler):
    server: MotionJpeg

    def do_GET(self) -> None:
        if not self.server.scripts:
            self.send_error(503)
            return
        count = self.server.scripts.pop(0)
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.end_headers()
        try:
            for i in range(count):
                jpeg = self.server.frames[i % len(self.server.frames)]
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
                self.server.sent += 1
                time.sleep(self.server.pause)
        except ConnectionError:
            pass  # the reader has seen enough

    def log_message(self, format: str, *args: object) -> None:
        pass


def _jpeg(frame: Frame) -> bytes:
    import cv2

    return bytes(cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes())


@contextmanager
def motion_jpeg(frames: list[Frame], scripts: list[int], pause: float = 0.01) -> Iterator[MotionJpeg]:
    server = MotionJpeg(frames, scripts, pause)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
