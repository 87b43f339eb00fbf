"""The command line. A public file of this package is a command; its heavy imports wait until it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from edgeseg import __version__
from edgeseg.cli import (
    bench,
    build,
    check,
    compare,
    demo,
    doctor,
    export_triton,
    finish,
    matrix,
    models,
    run,
    sensitivity,
    train,
    verify,
)
from edgeseg.cli._errors import explain

INTERRUPTED = 130  # what typer makes of Ctrl-C
# How often a waiting thread of PyTorch's OpenMP looks before it sleeps. By its default of 300 000 two builds on two
# cores keep each other from working: five times the time of one alone. With fewer looks one alone is no slower.
SPINS = "10000"

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="PyTorch segmentation networks to engines on edge devices, with proof that they still see the same.",
)
app.command("demo")(demo.demo)
app.command("models")(models.models)
app.command("build")(build.build)
app.command("check")(check.check)
app.command("bench")(bench.bench)
app.command("compare")(compare.compare)
app.command("sensitivity")(sensitivity.sensitivity)
app.command("matrix")(matrix.matrix)
app.command("run")(run.run)
app.command("train")(train.train)
app.command("finish")(finish.finish)
app.command("verify")(verify.verify)
app.command("export-triton")(export_triton.export_triton)
app.command("doctor")(doctor.doctor)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"edgeseg {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; leave with 0 done, 1 a check failed, 2 bad input or a missing part."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when PyTorch is imported
    sys.exit(_status(arguments))


def _status(arguments: Sequence[str] | None) -> int:
    try:
        if app(arguments, prog_name="edgeseg", standalone_mode=False) == INTERRUPTED:
            raise KeyboardInterrupt
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # the reader has gone, as in `edgeseg models | head`; Python would flush once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseException as error:
        if os.environ.get("EDGESEG_DEBUG") or isinstance(error, SystemExit):
            raise
        interrupted = isinstance(error, typer.Abort)
        message, status = explain(KeyboardInterrupt() if interrupted else error)
        print(f"error: {message}", file=sys.stderr)
        return status
