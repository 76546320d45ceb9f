"""JSON values as the types that a dataclass states; whatever else a file holds is refused."""

from __future__ import annotations

import dataclasses
import math
import types
import typing

MAX_INT = 1 << 53


def typed(value: object, hint: object, where: str):
    """`value` (as `json.loads` gives it) as an instance of `hint`.

    hint: bool, int (below 2^53 in size), float, str, a dataclass, `X | None`, or a list, tuple or
    dict of these with its types stated; lists become tuples where the hint says so. Raises
    ValueError naming the place for any other value, and what the dataclass raises.
    """
    kind, parts = typing.get_origin(hint), typing.get_args(hint)
    if kind in (types.UnionType, typing.Union):
        return None if value is None else typed(value, parts[0], where)
    if dataclasses.is_dataclass(hint):
        return _instance(value, hint, where)
    if kind is dict:
        _need(isinstance(value, dict), value, where, "an object")
        return {key: typed(item, parts[1], f"{where} {key!r:.40}") for key, item in value.items()}
    if kind in (list, tuple):
        _need(isinstance(value, list | tuple), value, where, "a list")
        inner = list(parts)
        if kind is list or parts[-1] is Ellipsis:
            inner = [parts[0]] * len(value)
        _need(len(inner) == len(value), value, where, f"a list of {len(inner)}")
        return kind(typed(item, part, f"{where}[{i}]")
                    for i, (item, part) in enumerate(zip(value, inner, strict=True)))
    if hint is float:
        _need(type(value) in (int, float) and math.isfinite(value), value, where, "a number")
        return float(value)
    _need(type(value) is hint, value, where, f"of type {getattr(hint, '__name__', hint)}")
    _need(hint is not int or abs(value) < MAX_INT, value, where, "below 2^53")
    return value


def _instance(value: object, hint: type, where: str):
    _need(isinstance(value, dict), value, where, "an object")
    hints = typing.get_type_hints(hint)
    names = [field.name for field in dataclasses.fields(hint)]
    needed = {field.name for field in dataclasses.fields(hint)
              if field.default is field.default_factory is dataclasses.MISSING}
    if wrong := sorted(set(value) - set(names)) or sorted(needed - set(value)):
        raise ValueError(f"{where}: unknown or missing: {', '.join(wrong)}")
    return hint(**{name: typed(value[name], hints[name], f"{where}.{name}")
                   for name in names if name in value})


def _need(ok: bool, value: object, where: str, what: str) -> None:
    if not ok:
        raise ValueError(f"{where} is {value!r:.60}, not {what}")
