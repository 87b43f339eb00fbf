"""Ctrl-C at random moments of an engine's calls: ``python -m tests.scripts.interrupted_calls TRIALS [WATCHDOG]`` prints
how many calls were left behind, and the seconds that closing took."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time

from edgeseg.runtimes._life import Life
from edgeseg.runtimes._runtime import Feeds, Outputs


class Idle:
    """A runtime that is done at once, so that most moments are the engine's own."""

    def run(self, feeds: Feeds, out: Feeds | None = None) -> Outputs:
        return {}

    def close(self) -> None:
        pass


def interrupted(life: Life, after: float) -> None:
    try:
        signal.setitimer(signal.ITIMER_REAL, after)
        while True:
            life.run({})
    except (KeyboardInterrupt, RuntimeError):  # the latter where Thread.start, which is Python, is interrupted
        pass


def main(trials: int, watchdog: float | None) -> None:
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    life, rng, left = Life(Idle(), "idle", watchdog), random.Random(0), 0
    for _ in range(trials):
        interrupted(life, rng.uniform(1e-5, 3e-4))
        time.sleep(0.002 * (watchdog is not None))  # a call in its worker ends by itself
        left += life.health().running
    other = threading.Thread(target=life.run, args=({},), daemon=True)  # is let in, where no lock was left behind
    other.start()
    other.join(5)
    left += other.is_alive()
    began = time.monotonic()
    life.close()
    print(left, time.monotonic() - began)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else None)
