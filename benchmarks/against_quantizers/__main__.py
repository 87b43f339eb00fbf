"""Run what is not there yet, then write the table.

``python -m edgeseg.benchmarks.against_quantizers --write docs/int8-comparison.md`` goes on where it stopped;
``--only ours`` leaves the vendors' figures as they are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edgeseg.benchmarks._markdown import insert
from edgeseg.benchmarks.against_quantizers import networks, vendors
from edgeseg.benchmarks.against_quantizers.comparison import OURS, Comparison, Settings
from edgeseg.benchmarks.against_quantizers.table import NAME, table
from edgeseg.errors import EdgesegError, InputError


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        _run(given)
    except EdgesegError as error:
        print(f"edgeseg: {error}", file=sys.stderr)
        return error.exit_status
    return 0


def _run(given: argparse.Namespace) -> None:
    if min(given.calib_images, 1 if given.limit is None else given.limit) < 1:
        raise InputError("--limit and --calib-images must be at least 1")
    settings = Settings(given.out, given.calib_images, given.limit)
    every = networks.every()
    chosen, quantizers = _chosen(given.networks, every), given.only or [OURS, *vendors.names()]
    if unknown := set(quantizers) - {OURS, *vendors.names()}:
        raise InputError(f"unknown quantizer '{min(unknown)}': use one of {OURS}, {', '.join(vendors.names())}")
    if given.write:
        insert(given.write.read_text(encoding="utf-8"), NAME, "")  # before the work: the file has its place
    for network in chosen:
        _compare(network, quantizers, settings)
    made = table(every, settings)
    if given.write:
        given.write.write_text(insert(given.write.read_text(encoding="utf-8"), NAME, f"\n{made}\n"), encoding="utf-8")
    else:
        print(made)


def _compare(network: networks.Network, quantizers: Sequence[str], settings: Settings) -> None:
    try:
        comparison = Comparison(network, settings)
    except InputError as missing:
        print(f"left out: {missing}", file=sys.stderr)
        return
    for quantizer in quantizers:
        for target, found in comparison.run(quantizer)["targets"].items():
            said = found.get("error") or f"{found.get('reference', 0):.2f} → {found.get('engine', 0):.2f}"
            print(f"{network.name} {quantizer} {target}: {said}", file=sys.stderr, flush=True)


def _chosen(names: Sequence[str], every: Sequence[networks.Network]) -> list[networks.Network]:
    known = {network.name: network for network in every}
    if unknown := set(names) - set(known):
        raise InputError(f"unknown network '{min(unknown)}': use of {', '.join(known)}")
    return [known[name] for name in names] or list(every)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m edgeseg.benchmarks.against_quantizers")
    parser.add_argument("networks", nargs="*", help="of the table's; all by default")
    parser.add_argument("--only", action="append", metavar="QUANTIZER", help=f"{OURS}, {', '.join(vendors.names())}")
    parser.add_argument("--limit", type=int, help="images to judge on, spread evenly over the split")
    parser.add_argument("--calib-images", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("quantizers"), help="where results are kept")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between the marks in FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
