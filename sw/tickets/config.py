"""The configuration of one ticket search: one dataclass, YAML in and out."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from dataclasses import dataclass
from pathlib import Path

import yaml

from hw.boards import BOARDS
from hw.config import PRESETS

from ..errors import SpikeTicketError, did_you_mean
from ..imports.load_module import is_module_name
from ..integer.network import MAX_TIMESTEPS
from .masks import SCOPES
from .patches import PLACES, RANKINGS
from .training import LOSSES

OPTIMIZERS = ("adam", "sgd")
METHODS = ("dense", "imp", "obs", "scores", "random", "patches", "ecpt")
LAYERS = ("all", "stem")
DRAWS = ("names", "numbers")
REWINDS = ("epoch", "weights")
COSTS = ("weights", "cycles")
DEFAULT_BOARD = "arty_a7"
GIVEN = "module"
"""As `weights`: those that the module object already holds."""
REPORT = ("dense_integer", "integer_images")
"""Settings that change no stage, only what is measured beside the ticket."""
LATE = ("epochs_integer", "epochs_unshifted", "bits", "input_bits", "lr_integer", "distil_integer")
"""Settings that the integer stages alone read; with other ones the stages before need not run
again."""

CHOICES = {"method": METHODS, "scope": SCOPES, "layers": LAYERS, "ranking": RANKINGS,
           "place": PLACES, "loss": LOSSES, "optimizer": OPTIMIZERS,
           "draws": DRAWS, "rewind": REWINDS, "device": ("auto", "cpu", "cuda"), "cost": COSTS,
           "board": tuple(sorted(BOARDS)), "preset": tuple(sorted(PRESETS))}
"""Settings that are one of some names."""

MAX_YAML_BYTES = 1 << 16
MAX_ROUNDS = 1000


@dataclass(frozen=True)
class RunConfig:
    """Everything that determines a search; a checkpoint of another one is refused.

    method: "dense" (no ticket), "imp" (magnitude pruning with rewinding), "obs" (one shot by
    second-order information, `sw.tickets.surgeon`), "scores" (trained scores on frozen weights),
    "random" (the control: fresh weights under a random mask), "patches" (a Spikeformer on part of
    the patches), "ecpt" (Algorithm 1: connections and patches).
    masks: for "random", the masks.safetensors of another search instead of random ones.
    model (or network): a name of ours (`sw.nets.build`), or FILE.py:NAME, a class, function or
    module in a file of yours; network_args: "KEY=VALUE ..." for the class or function. weights: a
    .pth, .pt or .safetensors file: this trained network is the dense one, and the teacher.
    data, data_root: see `sw.data.datasets.load`. train_images, test_images: use only the first N.
    seed: of all that is random. draws: a stage's are told apart by its name ("names"), or by its
    number ("numbers"), as searches before version 1 did.
    validation: fraction of the training samples that no stage trains on, equal in every class; the
    figures of every epoch are on it. The test samples are looked at once, at the end.

    timesteps: T. decay: lambda, the share of the membrane that stays per timestep. tau: instead of
    it, decay = 1 - 1 / tau. theta, surrogate: of the neurons of our networks; yours has its own.

    sparsity: fraction of the connections removed in the end. scope: rank them over all layers
    ("global"; "lamp": relative to their layer's size) or in each ("layer"); None: in each for
    scores (those of ecpt's embedding always are), over all for what else. layers: "all", or the
    patch embedding only ("stem", as in the paper). binary: survivors of a score ticket, and all
    weights of method "dense", are +-alpha. learn_norms: while scores are
    trained, so are scale and shift of the batch norms, which fold into thresholds (False: they stay
    1 and 0, as in the paper). logit_spread: standard deviation that the logits of a score ticket
    are given in the loss (None: a factor is learnt, as frozen weights cannot set it).
    cost: what imp removes: "weights", by magnitude, or "cycles" of the core: what is worth least
    for the cycles that it takes, whole output channels, too; `sparsity` and `prune_rate` are then
    fractions of the dense network's estimated cycles (`sw.tickets.cost`). cost_weight: of the
    estimate in the loss of the rounds, so that they learn maps with fewer words that hold a spike.
    floor: accuracy (0..1) on the validation samples: imp's rounds end at the last one that reaches
    it, and its masks are trained again for epochs_final. board, preset: whose core the cycles are
    of; with a board, the cycle model counts those of every round and of the ticket, from which
    channels that nobody needs are left out (None: for cost cycles arty_a7, else none are counted).
    prune_rate: fraction of the survivors removed per round of imp; the last round ends at
    `sparsity`. rewind: "epoch": the dense network is trained here, and survivors return to its
    weights of an epoch; "weights": they return to the given `weights`, and no dense network is
    trained (None: that, where there are `weights`). rewind_epoch: epoch of training that survivors
    return to. early_bird: end a round when its mask has settled. early_time: search at a T' < T;
    the last round runs at T. search_timesteps: this T' (None: by the KL rule).

    patch_sparsity: fraction of the patches dropped. ranking: "spikes" (counts of the network
    itself), "input" (pixels or events), "selector" (counts of a pretrained embedding), "random".
    stem: path of the patch embedding in the network (None: found by its name, `sw.tickets.stem`).
    place: drop "tokens", or zero "pixels" too. dense_gate: False shows imp's dense network all
    patches; its rounds are gated.

    epochs: of the dense network, of the scores, of the encoder in patches and ecpt (N_sp); None: as
    many as imp's ticket has from its last round on, else 10.
    epochs_round, epochs_final: of imp's rounds and its last one. epochs_connections: of the patch
    embedding with its own head (N_c; also the selector's). epochs_rounded: of the ticket of imp
    with weights rounded to `bits` and batch norms still in place. epochs_integer: fine-tuning in
    integers. epochs_unshifted: the last of these, in which no image is shifted. bits: of the
    weights, 2..8 (binary tickets have 1). input_bits: of the numbers that the integer network
    reads, 1..8: the upper ones of a pixel, or counts up to 2^n - 1 (None: for images 4 or the next
    more with which the ticket's validation accuracy is that of 8, without validation 8; for counts
    as many as the largest needs). dense_integer: also turn imp's dense network into integers, in
    the same way, and measure it. lr, lr_scores, lr_integer: peaks of the learning rate (lr_scores
    None: fit for the number of updates, `sw.tickets.scores.rate`). optimizer: "adam", or "sgd" with
    momentum 0.9, which wants an lr of 0.1 or so; the integer stages have adam. weight_decay: of all
    weights and scores, not of norms and biases, in the stages of floats. batch_size: samples of an
    update.

    seconds: of training (without validation and conversion) in all stages together, each of which
    has its part of them by its part of the epochs; learning rates follow the clock, and how many
    epochs there are is what fits (None: the epochs decide).

    loss: "cross-entropy" of the logits, or "mse" of the rates of output neurons against 1 and 0.
    loss_per_timestep: the mean of every timestep's loss, instead of the loss of the mean output.
    distil: share (0..1) of the dense network's soft labels in the loss of all later stages;
    distil_integer: in the integer stage (None: `distil`). The dense network is that of `weights`,
    else the one trained here.

    flip, shift: augment by mirroring, by moving up to 2 pixels. bf16: mixed precision. compile:
    torch.compile. fused: in training on a CPU, batch norm, neurons and pool of our networks are one
    compiled function (False: neurons alone; sums of the norms then have torch's order, as in
    searches before there was one). device: "auto", "cpu", "cuda". tensorboard: also log there.
    integer_images: test images the integer network is measured on (None: all).
    """

    method: str = "imp"
    model: str = "32p-64p-128-128"
    network_args: str = ""
    weights: str | None = None
    data: str = "fashion-mnist"
    data_root: str | None = None
    train_images: int | None = None
    test_images: int | None = None
    validation: float = 0.1
    seed: int = 0
    draws: str = "names"
    timesteps: int = 4
    decay: float = 0.99
    tau: float | None = None
    theta: float = 1.0
    surrogate: str = "triangle"
    sparsity: float = 0.5
    cost: str = "weights"
    cost_weight: float = 0.0
    floor: float | None = None
    board: str | None = None
    preset: str | None = None
    scope: str | None = None
    layers: str = "all"
    binary: bool = False
    learn_norms: bool = True
    logit_spread: float | None = None
    prune_rate: float = 0.25
    rewind: str | None = None
    rewind_epoch: int = 2
    early_bird: bool = False
    early_time: bool = False
    search_timesteps: int | None = None
    patch_sparsity: float = 0.0
    ranking: str = "spikes"
    place: str = "tokens"
    stem: str | None = None
    dense_gate: bool = True
    epochs: int | None = None
    epochs_round: int = 3
    epochs_final: int = 10
    epochs_connections: int = 5
    epochs_rounded: int = 0
    epochs_integer: int = 2
    epochs_unshifted: int = 0
    bits: int = 4
    input_bits: int | None = None
    dense_integer: bool = False
    lr: float = 5e-3
    lr_scores: float | None = None
    lr_integer: float = 1e-3
    optimizer: str = "adam"
    weight_decay: float = 0.0
    loss: str = "cross-entropy"
    loss_per_timestep: bool = False
    distil: float = 0.0
    distil_integer: float | None = None
    batch_size: int = 64
    seconds: float | None = None
    flip: bool = False
    shift: bool = False
    bf16: bool = False
    compile: bool = False
    fused: bool = True
    masks: str | None = None
    device: str = "auto"
    tensorboard: bool = False
    integer_images: int | None = 1000

    def __post_init__(self):
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _typed(field, getattr(self, field.name)))
        if self.epochs is None:
            ticket = self.epochs_final + self.epochs_rounded + self.epochs_integer
            object.__setattr__(self, "epochs", ticket if self.method == "imp" else 10)
        self._check_cost()
        if self.scope is None:
            object.__setattr__(self, "scope", "layer" if self.method == "scores" else "global")
        for name, known in CHOICES.items():
            value = getattr(self, name)
            _need(value in known or (value is None and name in ("rewind", "board", "preset")),
                  f"{name} {value!r} is unknown; {did_you_mean(str(value), known)}")
        for name in ("sparsity", "patch_sparsity"):
            value = getattr(self, name)
            _need(0 <= value < 1, f"{name} {value} is outside 0..1 (0.9 removes 90 %)")
        _need(0 < self.prune_rate < 1, f"prune_rate {self.prune_rate} is outside 0..1")
        _need((1 - self.prune_rate) ** MAX_ROUNDS <= 1 - self.sparsity,
              f"prune_rate {self.prune_rate} needs more than {MAX_ROUNDS} rounds to sparsity "
              f"{self.sparsity}")
        for name in ("epochs", "epochs_round", "epochs_final", "epochs_connections", "batch_size"):
            _need(getattr(self, name) >= 1, f"{name} {getattr(self, name)} is below 1")
        _need(self.epochs_rounded >= 0, f"epochs_rounded {self.epochs_rounded} is below 0")
        _need(not self.epochs_rounded or self.method in ("imp", "ecpt"),
              f"epochs_rounded follow the rounds of imp; method {self.method!r} has none")
        _need(self.tau is None or self.tau > 1,
              f"tau {self.tau} must be above 1 (2 keeps half the membrane)")
        if self.tau is not None:
            object.__setattr__(self, "decay", 1 - 1 / self.tau)
        _need(self.epochs_integer >= 0, f"epochs_integer {self.epochs_integer} is below 0")
        _need(0 <= self.epochs_unshifted <= self.epochs_integer,
              f"epochs_unshifted {self.epochs_unshifted} is outside 0..{self.epochs_integer} "
              "integer epochs")
        _need(0 <= self.validation <= 0.5, f"validation {self.validation} is outside 0..0.5 (0.1 "
              "keeps a tenth of the training samples for it)")
        _need(1 <= self.timesteps <= MAX_TIMESTEPS,
              f"timesteps {self.timesteps} are outside 1..{MAX_TIMESTEPS}")
        for name in ("distil", "distil_integer"):
            value = getattr(self, name)
            _need(value is None or 0 <= value <= 1, f"{name} {value} is outside 0..1")
        _need(self.weights is not None or self.method == "imp"
              or not (self.distil or self.distil_integer),
              f"method {self.method!r} trains no dense network to distil from; give weights")
        _need(self.rewind != "weights" or self.weights is not None,
              "rewind 'weights' needs trained weights; give weights, or rewind 'epoch'")
        _need(not self.network_args or is_module_name(self.model),
              f"network_args are for FILE.py:NAME, not for model {self.model!r}")
        key_values(self.network_args)
        _need(2 <= self.bits <= 8, f"bits {self.bits} is outside 2..8 (1 is binary: true)")
        _need(self.input_bits is None or 1 <= self.input_bits <= 8,
              f"input_bits {self.input_bits} is outside 1..8")
        _need(self.method not in ("imp", "ecpt") or 0 <= self.rewind_epoch <= self.epochs,
              f"rewind_epoch {self.rewind_epoch} is outside 0..{self.epochs}, the epochs of "
              "training; give another, or more epochs")
        for name in ("lr", "lr_scores", "lr_integer", "logit_spread", "seconds"):
            value = getattr(self, name)
            _need(value is None or value > 0, f"{name} {value} must be above 0")
        _need(0 <= self.weight_decay < 1, f"weight_decay {self.weight_decay} is outside 0..1")
        _need((self.method, self.scope) != ("scores", "lamp"),
              "scope 'lamp' is for magnitudes; scores rank in each 'layer', or 'global'")
        for name in ("train_images", "test_images", "integer_images"):
            value = getattr(self, name)
            _need(value is None or value >= 1, f"{name} {value} is below 1")
        _need(not self.binary or self.method in ("scores", "ecpt", "dense"),
              f"binary weights come from scores, or from a dense network trained with them; method "
              f"{self.method!r} does neither")
        _need((self.ranking, self.place) != ("spikes", "pixels"),
              "ranking 'spikes' counts behind the embedding, which place 'pixels' comes before; "
              "rank by 'input' or 'selector', or drop 'tokens'")
        _need(self.masks is None or self.method == "random",
              f"masks of another search are for method 'random', not {self.method!r}")
        _need(self.method == "imp" or (self.dense_gate and not self.dense_integer),
              f"dense_gate and dense_integer are about imp's dense network; method "
              f"{self.method!r} has none beside its ticket")
        if self.search_timesteps is not None:
            _need(1 <= self.search_timesteps <= self.timesteps,
                  f"search_timesteps {self.search_timesteps} (T') is outside 1..{self.timesteps}, "
                  "the timesteps T of the ticket")
            _need(self.method == "imp" and self.early_time,
                  "search_timesteps is the T' of method 'imp' with early_time; give both")
        if self.patch_sparsity or self.layers == "stem" or self.method in ("patches", "ecpt"):
            _need(not (self.method == "scores" and self.layers == "stem"),
                  "method 'scores' scores all layers; for the patch embedding alone use method "
                  "'ecpt' with patch_sparsity 0")

    def _check_cost(self) -> None:
        _need(self.cost_weight >= 0, f"cost_weight {self.cost_weight} is below 0")
        _need(self.floor is None or 0 < self.floor < 1,
              f"floor {self.floor} is outside 0..1 (0.9: nine of ten validation samples right)")
        _need(self.floor is None or (self.method == "imp" and self.validation > 0),
              "floor is about the rounds of method 'imp' on validation samples; give both")
        _need(self.preset is None or self.board is not None or self.cost == "cycles",
              f"preset {self.preset!r} is a core to count cycles of; give board, too")
        if self.cost != "cycles":
            _need(not self.cost_weight, "cost_weight weighs cycles; give cost 'cycles', too")
            return
        _need(self.method == "imp", "cost 'cycles' is of method 'imp', not "
                                    f"{self.method!r}")
        for name in ("scope", "layers", "early_bird", "early_time", "compile"):
            value = getattr(self, name)
            _need(value in (None, False, "global", "all"),
                  f"{name} {value!r} does not go with cost 'cycles'; leave it out")
        if self.board is None:
            object.__setattr__(self, "board", DEFAULT_BOARD)

    @property
    def fresh(self) -> bool:
        """The dense network is trained by the search."""
        return self.weights is None or self.rewind == "epoch"

    def rounds(self) -> list[float]:
        """Sparsity after each round of imp; the last is `sparsity`."""
        if self.sparsity == 0:
            return []
        steps = math.log(1 - self.sparsity) / math.log(1 - self.prune_rate)
        count = max(1, math.ceil(steps - 1e-9))
        return [1 - (1 - self.prune_rate) ** r for r in range(1, count)] + [self.sparsity]

    def to_yaml(self) -> str:
        """Every field as YAML; `from_yaml` gives the same configuration back."""
        return yaml.safe_dump(dataclasses.asdict(self), sort_keys=False)


def helps() -> dict[str, str]:
    """What each setting means, as `RunConfig` says it."""
    names = "|".join(field.name for field in dataclasses.fields(RunConfig))
    _, *parts = re.split(rf"(?<![\w(])((?:{names})(?:, (?:{names}))*)(?: \(or network\))?: ",
                         " ".join(RunConfig.__doc__.split()))
    return {name: text.strip().rstrip(".;") for group, text in zip(parts[::2], parts[1::2],
                                                                   strict=True)
            for name in group.split(", ")}


def from_dict(values: dict, where: str = "configuration") -> RunConfig:
    """A configuration of the given fields. Raises SpikeTicketError for an unknown one."""
    known = {f.name for f in dataclasses.fields(RunConfig)}
    if "network" in values and "model" not in values:
        values = {("model" if key == "network" else key): value for key, value in values.items()}
    for key in values:
        if key not in known:
            raise SpikeTicketError(f"{where}: no setting is called {key!r}; "
                                   f"{did_you_mean(key, sorted(known))}")
    try:
        return RunConfig(**values)
    except SpikeTicketError as error:
        raise SpikeTicketError(f"{where}: {error}") from error


def key_values(text: str) -> dict[str, object]:
    """"KEY=VALUE ..." as a dict; values as in YAML. Raises SpikeTicketError."""
    values = {}
    for part in text.split():
        key, equal, value = part.partition("=")
        _need(bool(equal) and key.isidentifier(),
              f"network_args {part!r} is not KEY=VALUE; give e.g. T=4")
        values[key] = parse_yaml(value, f"network_args {key}")
    return values


def read(path: str | Path) -> dict:
    """The settings in a YAML file. Raises SpikeTicketError where it is none."""
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_YAML_BYTES + 1)
        if len(raw) > MAX_YAML_BYTES:
            raise SpikeTicketError(f"{path}: more than {MAX_YAML_BYTES} bytes; is it a "
                                   "configuration?")
    except OSError as error:
        raise SpikeTicketError(f"{path}: cannot be read ({error.strerror}); give --config a YAML "
                               "file") from error
    values = parse_yaml(raw, str(path))
    if not isinstance(values, dict) or not all(isinstance(k, str) for k in values):
        raise SpikeTicketError(f"{path}: holds no settings; write lines such as 'method: imp'")
    return values


class _Plain(yaml.SafeLoader):
    """YAML that says what it holds: no aliases, which can stand for any amount of it."""

    depth = 0

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise ValueError("aliases (*name) are not read; write the settings out")
        self.depth += 1
        if self.depth > 20:
            raise ValueError("nested more than 20 levels deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def parse_yaml(text: str | bytes, where: str = "configuration") -> object:
    """What YAML holds: texts, numbers, true, false, null, and lists and mappings of these.

    Raises SpikeTicketError for anything else, such as dates, objects and aliases.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode()
        value = yaml.load(text, _Plain)
        _check_plain(value)
    except Exception as error:  # PyYAML's constructors raise a dozen types
        raise SpikeTicketError(f"{where}: not YAML that can be read "
                               f"({' '.join(str(error).split()) or type(error).__name__})"
                               ) from error
    return value


def _check_plain(value: object) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{str(key)[:40]!r} is no name of a setting")
            _check_plain(item)
    elif isinstance(value, list):
        for item in value:
            _check_plain(item)
    elif isinstance(value, int) and abs(value) >= 1 << 63:
        raise ValueError("a number exceeds 64 bits")
    elif not (value is None or isinstance(value, str | int | float)):
        raise ValueError(f"{value} is neither text nor number; put it in quotes")


def same_search(a: str, b: str, late: bool = False) -> bool:
    """Whether two `to_yaml` texts have the same stages, apart from the integer ones; `late`: with
    them."""
    free = REPORT if late else REPORT + LATE
    defaults = dataclasses.asdict(RunConfig())  # of settings that an older text does not know
    try:
        settings = [{k: v for k, v in {**defaults, **parse_yaml(text)}.items() if k not in free}
                    for text in (a, b)]
    except (SpikeTicketError, AttributeError, TypeError):
        return False
    return settings[0] == settings[1]


def from_yaml(text: str) -> RunConfig:
    """The inverse of `RunConfig.to_yaml`."""
    return from_dict(parse_yaml(text))


def _typed(field: dataclasses.Field, value):
    """The value as the field's type; YAML and sweeps give 1 for 1.0, and 5e-3 as a string."""
    kind, *optional = typing.get_args(hint := _HINTS[field.name]) or (hint,)
    if value is None and optional:
        return None
    ok = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if kind is float and not isinstance(value, bool):
        try:
            value, ok = float(value), True
        except (TypeError, ValueError, OverflowError):
            ok = False
        ok = ok and math.isfinite(value)
    if not ok:
        raise SpikeTicketError(f"{field.name} {value!r} is not {_NOUNS[kind]}")
    return value


def _need(ok: bool, what: str) -> None:
    if not ok:
        raise SpikeTicketError(what)


_HINTS = typing.get_type_hints(RunConfig)
_NOUNS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
