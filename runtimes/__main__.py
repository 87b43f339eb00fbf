"""``python -m edgeseg.runtimes ARTIFACT``: open it, run the golden self-test, print what came out as JSON."""

from __future__ import annotations

import json
import sys

from edgeseg.artifact import load
from edgeseg.errors import EdgesegError
from edgeseg.runtimes import open_artifact
from edgeseg.runtimes._selftest import selftest


def main(path: str) -> int:
    try:
        with open_artifact(path, selftest=False) as engine:
            print(json.dumps(selftest(engine.run, load(path))))
    except EdgesegError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
