"""``python -m edgeseg.runtimes ARTIFACT [-]``: open it, run the golden self-test, print what came out as JSON. With
``-`` nothing is judged: frames are answered as ``edgeseg.selfcheck.answering`` asks, by the bytes of their outputs."""

from __future__ import annotations

import json
import os
import sys

from edgeseg.artifact import load
from edgeseg.errors import EdgesegError
from edgeseg.runtimes import open_artifact
from edgeseg.runtimes._selftest import selftest
from edgeseg.selfcheck import SERVE, receive


def main(path: str, asked: str | None = None) -> int:
    try:
        if asked == SERVE:
            _serve(path)
        else:
            with open_artifact(path, selftest=False) as engine:
                print(json.dumps(selftest(engine.run, load(path))))
    except EdgesegError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


def _serve(path: str) -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the vendor prints is no answer
    with answers, open_artifact(path, selftest=False) as engine:
        (frame,) = engine.manifest.inputs
        while True:
            try:
                feed = receive(sys.stdin.buffer, frame)
            except EOFError:
                return
            outputs = engine.run({frame.name: feed})
            for spec in engine.manifest.outputs:
                answers.write(outputs[spec.name].tobytes())
            answers.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
