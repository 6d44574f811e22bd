"""The typed sections of a profile. A default lives here and nowhere else; units are in the names."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, PrivateAttr, model_validator
from pydantic_core import CoreSchema, core_schema

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Above0 = Annotated[float, Field(gt=0)]
Pair = Annotated[list[float], Field(min_length=2, max_length=2)]
# Scores that need mixtures alone (engine/scoring/momi.py, engine/training/health.py), and whether higher is better.
BLIND = {
    "momi": True,
    "loudest_share": False,
    "activity_entropy": True,
    "silent_share": False,
    "teacher_agreement": True,
}
# Scores of what hears and reads and separates nothing (engine/scoring/judging.py), and whether higher is better.
JUDGED = {
    "own-phrase": True,
    "above-mixture": True,
    "above-others": True,
    "top-1": True,
    "top-5": True,
    "nats": False,
    "cos-own": True,
    "cos-mixture": False,
    "cos-others": False,
}


class Section(BaseModel):
    """Base of every section: unknown keys refused, no silent change of type, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def plain(value: Any) -> Any:
    """Return nested values with every tuple as a list."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


class Part(dict[str, Any]):
    """An open section: the name of a registered part and the constructor arguments that the profile sets."""

    @property
    def name(self) -> str:
        """The short name in the registry."""
        return str(self["name"])

    @property
    def options(self) -> dict[str, Any]:
        """The constructor arguments alone."""
        return {key: value for key, value in self.items() if key not in ("name", "preset")}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, handler(dict[str, Any]))


class Data(Section):
    """What to train on, and how mixtures are drawn from it.

    An epoch has epoch_items examples; 0: as many as `crops` gives the recordings, one each, or by their length, or
    (auto) by their length where one of them is longer than 30 s.  Of several channels the mean is heard, or the first.
    segment_s 0: whole utterances, of which `bucket` batches at a time are sorted by length (0: by chance).  order
    shards: tar by tar, shard_window side by side, an item up to shard_reach places from its own (data/order.py).
    min_talkers: each mixture has so many to `talkers`, drawn evenly (0: always `talkers`), or a share of fewer_prob of
    the mixtures fewer than `talkers` (0: each number as often).
    talker_power: a talker, or a label, is drawn as often as its number of recordings to this power (0: all alike).
    noises: up to so many recordings of noise are added up; they, too, are played at one of `speeds`.
    response_db: each source and noise is heard through a frequency response of +- so many dB, drawn anew
    (data/responses.py).
    rooms: a folder of room responses, or a set that prepare-data made in rooms; a share of rooms_prob of the mixtures
    is heard in one of them, each source at a place of its own; what is heard is the reference (data/echoes.py).
    low_pass_hz: of a share of low_pass_prob of the mixtures nothing above a frequency within it is left.
    phrases: so many of each caption, some left out or twice (0: as many as it has; data/phrases.py).
    shots: at most so many recordings of each label (0: all); where the validation split is the same, it has the others.
    cache: decoded audio stays in memory, 4 GiB or half of the machine's at most for all workers and ranks together.
    """

    manifest: str = ""
    pool: list[str] = []
    mixing: Literal["fixed", "dynamic"] = "fixed"
    train_split: str = "train"
    valid_split: str = "valid"
    test_split: str = "test"
    segment_s: Annotated[float, Field(ge=0)] = 4.0
    talkers: Positive = 2
    min_talkers: Count = 0
    fewer_prob: Share = 0.0
    talker_power: Share = 0.0
    epoch_items: Count = 0
    crops: Literal["auto", "one", "length"] = "auto"
    channels: Literal["mix", "first"] = "mix"
    order: Literal["shuffle", "shards"] = "shuffle"
    shard_window: Positive = 8
    shard_reach: Positive = 1000
    bucket: Count = 0
    phrases: Count = 0
    shots: Count = 0
    level_db: Annotated[float, Field(ge=0)] = 5.0
    speeds: Annotated[list[Above0], Field(min_length=1)] = [1.0]
    noise: str = ""
    noise_snr_db: Pair = [5.0, 20.0]
    noise_prob: Share = 0.0
    noises: Positive = 1
    join_prob: Share = 0.0
    response_db: Annotated[float, Field(ge=0, le=40)] = 0.0
    rooms: str = ""
    rooms_prob: Share = 0.0
    low_pass_hz: Pair = [3400.0, 8000.0]
    low_pass_prob: Share = 0.0
    max_bad: Share = 0.01
    cache: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> Data:
        if self.noise_snr_db[0] > self.noise_snr_db[1]:
            raise ValueError("noise_snr_db as [low, high] with low <= high")
        if not 0 < self.low_pass_hz[0] <= self.low_pass_hz[1]:
            raise ValueError("low_pass_hz as [low, high] with 0 < low <= high")
        return self


Algorithm = Literal["adam", "adamw", "sgd"]


def _check_betas(betas: list[float]) -> list[float]:
    if not all(0 <= beta < 1 for beta in betas):
        raise ValueError("betas from 0 up to, but not including, 1")
    return betas


Betas = Annotated[Pair, AfterValidator(_check_betas)]


class OptimGroup(Section):
    """What the optimiser of one group of an objective has other than the separator's; null is the same.

    Its rate moves with `schedule`, times lr_factor where it has no lr of its own; `schedule: constant` keeps it still
    after the warm-up.
    """

    name: Algorithm | None = None
    lr: Above0 | None = None
    lr_factor: Above0 = 1.0
    schedule: Literal["follow", "constant"] = "follow"
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    betas: Betas | None = None
    eps: Above0 | None = None
    clip_norm: Annotated[float, Field(ge=0)] | None = None


class Optim(Section):
    """The optimiser; `groups` says what further groups of an objective, a critic for instance, have of their own."""

    name: Algorithm = "adamw"
    lr: Above0 = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    betas: Betas = [0.9, 0.999]
    eps: Above0 = 1e-8
    groups: dict[str, OptimGroup] = {}


class Schedule(Section):
    """How the learning rate moves."""

    name: Literal["constant", "warmup_hold_decay", "plateau", "cosine"] = "constant"
    warmup_steps: Count = 0
    hold_epochs: Count = 0
    decay: Annotated[float, Field(gt=0, le=1)] = 0.98
    every_epochs: Positive = 1
    min_lr: Annotated[float, Field(ge=0)] = 0.0
    patience: Count = 5
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5


class Train(Section):
    """The loop: length, batch, precision, device, safety; `compile` makes one program of the network as it trains."""

    epochs: Positive = 10
    max_steps: Count = 0
    batch_size: Positive = 8
    accumulate: Positive = 1
    clip_norm: Annotated[float, Field(ge=0)] = 5.0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    workers: Count = 0
    worker_timeout_s: Annotated[float, Field(ge=0)] = 300.0
    threads: Count = 0
    device: str = "auto"
    checkpoint_every_s: Annotated[float, Field(ge=0)] = 600.0
    log_every: Positive = 20
    nonfinite_patience: Positive = 20
    max_hours: Annotated[float, Field(ge=0)] = 0.0


class Valid(Section):
    """Validation and the choice of the best weights by `metric`.

    `also` are metrics scored beside it where references exist; they never choose. mom_pairs sums of two mixtures,
    each cut to mom_seconds (0: whole), give momi, and their mixtures the other figures that need no reference; 0: none.
    """

    metric: str = "si-snri"
    also: list[str] = []
    every_epochs: Positive = 1
    limit: Count = 0
    keep_best: Positive = 5
    average: Positive = 5
    mom_pairs: Count = 50
    mom_seconds: Annotated[float, Field(ge=0)] = 10.0


class Profile(Section):
    """A whole experiment. `model`, `loss` and `objective` hold a name and the arguments set for it."""

    about: str = ""
    extends: str = ""
    seed: Count = 0
    licence: str = ""
    credits: str = ""
    init_from: str = ""
    init_parts: list[str] = []  # the parts of that model that are taken, all else begins anew; []: all of it
    data: Data = Data()
    model: Part = Part()
    loss: Part = Part(name="snr")
    objective: Part = Part(name="pit")
    optim: Optim = Optim()
    schedule: Schedule = Schedule()
    train: Train = Train()
    valid: Valid = Valid()

    _name: str = PrivateAttr(default="")
    _origin: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def name(self) -> str:
        """The stem of the profile's file."""
        return self._name

    @property
    def origin(self) -> dict[str, str]:
        """Dotted key -> where its value comes from: file:line, --set, USEP_X, preset NAME, default."""
        return self._origin

    def as_dict(self) -> dict[str, Any]:
        """Return plain nested values (lists, no tuples) that JSON and YAML can hold."""
        return {key: plain(value) for key, value in self.model_dump().items()}
