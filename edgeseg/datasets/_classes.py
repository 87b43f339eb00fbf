"""Classes as JSON: a list of ``{"name": text, "color": [r, g, b]}``, or an object with that list as
``classes`` and the unscored id as ``ignore_index``."""

from __future__ import annotations

import json
from typing import Any

from edgeseg.spec import ClassSpec

FORM = '[{"name": text, "color": [r, g, b]}]'


def from_json(text: str) -> tuple[tuple[ClassSpec, ...], int | None]:
    """The classes and the ignored id.

    Raises:
        ValueError: the text is no JSON of that form.
    """
    document = json.loads(text)
    try:
        entries = document if isinstance(document, list) else document["classes"]
        index = None if isinstance(document, list) else document.get("ignore_index")
        classes = tuple(_class(entry) for entry in entries)
        ignored = None if index is None else int(index)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{error!r}") from None
    if not 1 <= len(classes) <= 255:
        raise ValueError(f"{len(classes)} classes; 1 to 255 are possible")
    return classes, ignored


def _class(entry: Any) -> ClassSpec:
    red, green, blue = (int(v) for v in entry["color"])
    if not all(0 <= v <= 255 for v in (red, green, blue)):
        raise ValueError(f"color {entry['color']} is not within 0 to 255")
    return ClassSpec(str(entry["name"]), (red, green, blue))
