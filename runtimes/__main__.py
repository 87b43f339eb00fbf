"""``python -m edgeseg.runtimes ARTIFACT [FILE]``: open it, run the golden self-test, print what came out as JSON.
With a ``FILE`` nothing is judged: the golden frame's outputs are written there (npz)."""

from __future__ import annotations

import json
import sys

import numpy as np

from edgeseg.artifact import load
from edgeseg.errors import EdgesegError
from edgeseg.runtimes import open_artifact
from edgeseg.runtimes._selftest import selftest


def main(path: str, file: str | None = None) -> int:
    try:
        with open_artifact(path, selftest=False) as engine:
            artifact = load(path)
            if file is None:
                print(json.dumps(selftest(engine.run, artifact)))
            else:
                golden = artifact.golden()
                outputs = engine.run({spec.name: golden[spec.name] for spec in artifact.manifest.inputs})
                np.savez(file, allow_pickle=False, **outputs)
    except EdgesegError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
