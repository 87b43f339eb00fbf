"""One line of tegrastats, in the forms of JetPack 4 to 7; any other form is an error.

Every field must be of a known form, so that a line whose form changed is refused and not half understood. A rail's
first number is its power now in mW, the second the mean since tegrastats began (jetson_stats#64, #85). JetPack 7.2 has
a third: in lines of a Thor under load it is the highest since then, so one below the first would be another form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgeseg.errors import InputError

N, LOAD = r"[0-9]{1,9}", r"(?:[0-9]{1,3}%)"
CLOCK = rf"@(?:{N}|\[{N}(?:,{N})*\])"
CORE = rf"(?:off|{LOAD}(?:@{N})?)"
DEGREES = r"-?[0-9]{1,4}(?:\.[0-9]{1,6})?C"
ENGINE = r"(?:EMC|GR3D2?|VIC|APE|MSENC|SE|OFA|NVENC[0-9]?|NVDEC[0-9]?|NVJPG[0-9]?|NVDLA[0-9]|PVA[0-9])(?:_FREQ)?"
FIELDS = (
    rf"RAM {N}/{N}MB(?: \(lfb {N}x{N}[kM]B\))?",
    rf"SWAP {N}/{N}MB(?: \(cached {N}MB\))?",
    rf"IRAM {N}/{N}kB ?\(lfb {N}kB\)",
    rf"CPU \[{CORE}(?:,{CORE})*\](?:@{N})?",
    rf"MTS fg {LOAD} bg {LOAD}",
    rf"{ENGINE} (?:off|{N}|{LOAD}?{CLOCK}|{LOAD})",
    rf"[A-Za-z][A-Za-z0-9_]*@{DEGREES}(?:/{DEGREES})?",
)
# No rail is called as an engine or a field: a line cut in the middle must not pass for another.
RAIL = rf"(?P<rail>(?!(?:RAM|SWAP|IRAM|MTS|{ENGINE}) )[A-Z][A-Z0-9_]*) (?P<now>{N})(?P<rest>/{N}|mW/{N}mW(?:/{N}mW)?)"
DATE = re.compile(r"[0-9]{2}-[0-9]{2}-[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} ")
FIELD = re.compile(rf"(?:{RAIL}|{'|'.join(FIELDS)})(?: |$)")


def parse(line: str) -> dict[str, int]:
    """Power of each rail now, in mW; channels that are not connected (NC) are left out.

    Raises:
        InputError: a form that is not known, a rail that occurs twice, or no rail at all.
    """
    text = re.sub(r"[ \t]+", " ", line.strip(" \t\r\n"))
    at = found.end() if (found := DATE.match(text)) else 0
    if not text.startswith("RAM ", at):
        raise InputError(f"not a line of tegrastats: '{text[:60]}'")
    rails: dict[str, int] = {}
    units = set()
    for field in _fields(text, at):
        if (name := field["rail"]) is None:
            continue
        units.add(re.sub("[0-9]", "", field["rest"]))
        if name in rails:
            raise InputError(f"tegrastats names the rail {name} twice")
        if name != "NC":
            rails[name] = _now(field)
    if len(units) > 1:
        raise InputError("tegrastats gives rails in different forms on one line")
    if not rails:
        raise InputError("no power rail in the line of tegrastats: this board has no monitor, or it needs root")
    return rails


def _fields(text: str, at: int) -> Iterator[re.Match[str]]:
    while at < len(text):
        field = FIELD.match(text, at)
        if field is None:
            raise InputError(f"tegrastats: unknown form '{text[at : at + 40]}'")
        yield field
        at = field.end()


def _now(field: re.Match[str]) -> int:
    now, later = int(field["now"]), re.findall("[0-9]+", field["rest"])
    if len(later) == 2 and int(later[1]) < now:
        raise InputError(f"tegrastats: unknown form '{field[0].strip()}': the third number is no maximum")
    return now
