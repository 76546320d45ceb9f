"""How a data set becomes an array: the options of `sw.data.datasets.load`."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..errors import BadInput
from .events import MAX_SIDE, MAX_TIMESTEPS, fitted_size
from .image_arrays import LAYOUTS


@dataclass(frozen=True)
class Options:
    """How a data set becomes an array; what does not concern a set is ignored.

    size: width and height, or (width, height); None as stored. fit: "pad-crop" centres (28 -> 32
        pads, 34 -> 32 crops), "pad" and "crop" do one only, "resize" scales (images: bilinear;
        events: coordinates, no event is lost).
    channels: 1 or 3 for images: grey is repeated, colour becomes luma (0.299 R + 0.587 G +
        0.114 B, rounded); None as stored.
    layout: "chw" or "hwc" for arrays of pictures whose shape can be read as either.
    limit: only the first n images; sets of files read no more of them than that.
    Event data: timesteps, frames_by ("number" or "time"), max_count (counts saturate, 1..255),
        sensor (width, height; needed where files do not say), label_key (name in a pack), columns
        and time_unit (arrays, see `sw.data.event_arrays.read_numpy`).
    """

    size: int | tuple[int, int] | None = None
    fit: str = "pad-crop"
    channels: int | None = None
    layout: str = ""
    limit: int | None = None
    timesteps: int = 4
    frames_by: str = "number"
    max_count: int = 255
    sensor: tuple[int, int] | None = None
    label_key: str = "label"
    columns: str = ""
    time_unit: float | None = None

    def __post_init__(self):
        for name in ("size", "sensor"):  # lists from YAML
            value = getattr(self, name)
            pair = (value, value) if name == "size" and type(value) is int else value
            if pair is None:
                continue
            if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(
                    type(n) is int and 1 <= n <= MAX_SIDE for n in pair):
                raise BadInput(f"data option {name} {value!r} is not width, height in "
                               f"1..{MAX_SIDE}")
            if not isinstance(value, int):
                object.__setattr__(self, name, tuple(pair))
        fitted_size((1, 1), None, self.fit)
        if self.channels not in (None, 1, 3):
            raise BadInput(f"data option channels {self.channels} is not 1 or 3")
        if self.frames_by not in ("number", "time"):
            raise BadInput(f"data option frames_by {self.frames_by!r} is not 'number' or "
                           "'time'")
        for name, top in (("timesteps", MAX_TIMESTEPS), ("max_count", 255), ("limit", None)):
            value = getattr(self, name)
            if name == "limit" and value is None:
                continue
            if type(value) is not int or value < 1 or (top and value > top):
                raise BadInput(f"data option {name} {value!r} is not a whole number from "
                               f"1{f' to {top}' if top else ''}")
        if self.layout not in ("", *LAYOUTS):
            raise BadInput(f"data option layout {self.layout!r} is not "
                           f"{' or '.join(LAYOUTS)}")
        if self.time_unit is not None and (
                not isinstance(self.time_unit, int | float) or not 0 < self.time_unit < 1e12):
            raise BadInput(f"data option time_unit {self.time_unit!r} is not a number of "
                           "microseconds above 0")

    @property
    def width_height(self) -> tuple[int, int] | None:
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def of_events(self) -> dict:
        """The options of event sets under the names of `sw.data.event_sets`."""
        how = {key: value for key, value in asdict(self).items() if key not in
               ("channels", "layout", "frames_by", "columns", "time_unit")}
        return {**how, "by": self.frames_by, "size": self.width_height}


def split_name(data: str) -> tuple[str, dict]:
    """("n-mnist", {"size": 32}) of "n-mnist:size=32"; pairs are written 32x24.

    What follows the last colon is options only if it has an equals sign.
    """
    name, colon, text = data.rpartition(":")
    if not colon or "=" not in text:
        return data, {}
    result: dict = {}
    for part in text.split(","):
        key, _, value = part.partition("=")
        kind = str(Options.__annotations__.get(key, ""))
        try:
            if "tuple" in kind and "x" in value:
                result[key] = tuple(int(n) for n in value.split("x"))
            elif "int" in kind:
                result[key] = int(value)
            else:
                result[key] = float(value) if "float" in kind else value
        except ValueError as error:
            raise BadInput(f"data {data!r}: {key} is {value!r}, not a number or a pair "
                           "such as 32x24") from error
    return name, result
