"""The head of the page: what was judged, the verdict, and the four figures one looks for first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgeseg.benchmarks.report_page.text import Run, count, dig, digits_for, escape, figure, metric, name, number
from edgeseg.metrics import TITLES


def header(runs: Sequence[Run]) -> str:
    models = ", ".join(dict.fromkeys(str(dig(run, "model") or "unnamed") for run in runs))
    return (
        f'<header class="head"><p class="mark">edgeseg</p><h1>{escape(models)}</h1>'
        f'<p class="verdict">{escape(verdict(runs))}</p><p class="facts">{_facts(runs)}</p></header>'
        f'<dl class="keys">{"".join(_keys(runs))}</dl>'
    )


def verdict(runs: Sequence[Run]) -> str:
    """One sentence, as plain text."""
    judged = [bool(run["parity"]["passed"]) for run in runs if dig(run, "parity", "passed") is not None]
    if not judged:
        return f"{count(len(runs), 'engine')}, timed and not judged."
    if all(judged):
        return (
            "The engine sees what the network saw."
            if len(judged) == 1
            else f"All {len(judged)} engines see what the network saw."
        )
    failed = len(judged) - sum(judged)
    verb = "sees" if failed == 1 else "see"
    return f"{failed} of {count(len(judged), 'engine')} no longer {verb} what the network saw."


def _facts(runs: Sequence[Run]) -> str:
    facts: list[str] = []
    for take in (_data, _frames, _machine, _threads, _date):
        facts += dict.fromkeys(fact for run in runs if (fact := take(run)))
    return "".join(f"<span>{escape(fact)}</span>" for fact in facts)


def _data(run: Run) -> str | None:
    data = dig(run, "parity", "data")
    return str(data) if data else None


def _frames(run: Run) -> str | None:
    images = figure(run, "parity", "images")
    return count(int(images), "frame") if images else None


def _machine(run: Run) -> str | None:
    model = dig(run, "validity", "cpu", "board") or dig(run, "validity", "cpu", "model")
    cores = dig(run, "validity", "cpu", "usable_cores")
    return f"{model}, {count(int(cores), 'core')}" if model and cores else model


def _threads(run: Run) -> str | None:
    threads = dig(run, "validity", "threads")
    return None if threads is None else count(int(threads), "thread")


def _date(run: Run) -> str | None:
    taken = dig(run, "validity", "utc")
    return str(taken)[:10] if taken else None


def _keys(runs: Sequence[Run]) -> list[str]:
    judged = [run for run in runs if dig(run, "parity", "passed") is not None]
    passed = sum(bool(run["parity"]["passed"]) for run in judged)
    keys = [_key("Within the gate", f"{passed} of {len(judged)}", "engines against PyTorch")] if judged else []
    if run := _extreme(runs, max, "parity", "drop"):
        keys.append(_key("Largest drop", number(run["parity"]["drop"], 2), f"points of {metric([run])}, {name(run)}"))
    elif run := _extreme(runs, min, "parity", "agreement"):
        keys.append(
            _key(
                "Least agreement",
                f"{100 * run['parity']['agreement']:.2f}\N{THIN SPACE}%",
                f"of {'objects' if metric([run]) == TITLES['map'] else 'pixels'}, {name(run)}",
            )
        )
    if run := _extreme(runs, min, "latency_ms", "p50"):
        p50 = run["latency_ms"]["p50"]
        keys.append(
            _key(
                "Fastest",
                f"{number(p50, digits_for([p50]))}\N{THIN SPACE}ms",
                f"{number(run['fps'], 1)} FPS, {name(run)}",
            )
        )
    if run := _extreme(runs, min, "size_mb"):
        keys.append(_key("Smallest", f"{number(run['size_mb'], 2)}\N{THIN SPACE}MB", name(run)))
    return keys


def _extreme(runs: Sequence[Run], pick: Callable[..., Run], *keys: str) -> Run | None:
    known = [run for run in runs if figure(run, *keys) is not None]
    return pick(known, key=lambda run: figure(run, *keys)) if known else None


def _key(term: str, value: str, note: str) -> str:
    return f"<div><dt>{escape(term)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
