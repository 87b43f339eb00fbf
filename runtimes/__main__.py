"""``python -m edgeseg.runtimes ARTIFACT [FILE]``: open it, run the golden self-test, print what came out as JSON.
With a ``FILE`` nothing is judged: the golden frame's outputs are written there (npz). With ``-`` neither: frames are
answered as ``edgeseg.selfcheck.answering`` asks, by the bytes of their outputs."""

from __future__ import annotations

import json
import os
import sys
from typing import IO

import numpy as np

from edgeseg.artifact import load
from edgeseg.errors import EdgesegError
from edgeseg.manifest import Manifest
from edgeseg.runtimes import Engine, open_artifact
from edgeseg.runtimes._selftest import selftest
from edgeseg.selfcheck import SERVE, receive


def main(path: str, file: str | None = None) -> int:
    if file == SERVE:
        file_of_answers = os.dup(sys.stdout.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the vendor prints is no answer
    try:
        with open_artifact(path, selftest=False) as engine:
            artifact = load(path)
            if file is None:
                print(json.dumps(selftest(engine.run, artifact)))
            elif file == SERVE:
                with os.fdopen(file_of_answers, "wb") as answers:
                    _serve(engine, artifact.manifest, answers)
            else:
                golden = artifact.golden()
                outputs = engine.run({spec.name: golden[spec.name] for spec in artifact.manifest.inputs})
                np.savez(file, allow_pickle=False, **outputs)
    except EdgesegError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


def _serve(engine: Engine, manifest: Manifest, answers: IO[bytes]) -> None:
    (frame,) = manifest.inputs
    while True:
        try:
            feed = receive(sys.stdin.buffer, frame)
        except EOFError:
            return
        outputs = engine.run({frame.name: feed})
        for spec in manifest.outputs:
            answers.write(outputs[spec.name].tobytes())
        answers.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
