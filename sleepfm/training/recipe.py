"""Settings of training that determine the result, apart from the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, Literal

from sleepfm.choices import RecipeName
from sleepfm.errors import TrainingError

Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["step", "cosine", "trapezoid"]

_MOMENTUM: Final = 0.9
_DECAY: Final = 0.1
_WARM_UP: Final = 0.05
_RISE_STEPS: Final = 100
_FALL: Final = 0.2


@dataclass(frozen=True)
class Recipe:
    """Settings of a training run; the defaults are the authors'.

    Parameters
    ----------
    epochs : int
        Passes over the clips.
    batch_size : int
        Clips a step; in contrastive training also the number of candidates.
    optimizer : {"sgd", "adamw"}
        SGD has momentum 0.9.
    lr : float
        Highest learning rate.
    schedule : {"step", "cosine", "trapezoid"}
        ``step``: a tenth every ``step_epochs``. ``cosine``: up over the first 5 % of the steps,
        then down to zero. ``trapezoid``: up over the first 100 steps, level, and down to zero over
        the last fifth.
    step_epochs : int
        See ``schedule``.
    weight_decay : float
        On matrices and kernels; never on biases, norms and the temperature.
    dropout : float
        In residual branches and before the last layer. The authors' 0.5 is harsh for a short run.
    together : int
        Clips of one night that come into a batch together. 1 mixes all nights; more makes a clip
        compete with others of its own night.
    together_end : int, optional
        ``together`` in the last epoch, reached in equal steps; by default it stays. People are told
        apart first, then the clips of one.
    crop_s : float, optional
        Seconds of each clip that a step sees, one window for all modalities, drawn anew every
        step; None is the whole clip. The encoders average over time, so what they learn from short
        windows holds for long ones, and a step costs as much less as the window is shorter (as
        masking does in Li et al., 2023, arXiv 2212.00794). Batch norms are measured and validation
        is done on whole clips.
    temperature : float
        Where the temperature parameter starts; similarities are multiplied by its exponential.
    physiology : float
        Weight of the regression of what is known of each clip (:mod:`sleepfm.training.physiology`)
        beside the objective; 0 leaves it out.
    within : float
        Weight of SimCLR within each modality: the two halves of a clip find each other.
    masked : float
        Weight of masked reconstruction (:mod:`sleepfm.training.masked`).
    covariance : float
        Weight of VICReg's covariance term on the outputs of each modality, against low rank.
    memory : int
        Vectors of earlier steps that are kept as further negatives (Wang et al. 2020, arXiv
        1912.06798); for the two objectives that have negatives in a softmax.
    slot_dropout : float
        Share of the clips in which each slot is taken away with probability 1/2; one that carries
        signal stays in each modality.
    vary : bool
        Whether gain, polarity, leads and noise of the channels are varied anew in every step
        (:mod:`sleepfm.training.augment`).
    heart_field : float
        Share of the clips to whose EEG their own ECG is added, at 0.02 to 0.6 of its scaled
        amplitude, as a heart field stronger than the recorded one
        (:mod:`sleepfm.training.augment`).
    rates_epochs : int
        Epochs at the start in which heart rate and breathing rate are the only targets of
        ``physiology`` and, with ``heart_field``, the first of which adds the strongest field to
        all clips. An EEG encoder that learns stages first does not find the heart rate.
    average : float
        Decay of the exponential moving average of the weights that is validated and exported, e.g.
        0.999; 0 takes the weights as they are.
    epoch_clips : int, optional
        Clips from one validation to the next; by default one pass over all.
    seed : int
        Of the initialisation, the order of clips and the dropout.
    """

    epochs: int = 20
    batch_size: int = 32
    optimizer: Optimizer = "sgd"
    lr: float = 1e-3
    schedule: Schedule = "step"
    step_epochs: int = 5
    weight_decay: float = 0.0
    dropout: float = 0.5
    together: int = 1
    together_end: int | None = None
    crop_s: float | None = None
    temperature: float = 0.0
    physiology: float = 0.0
    within: float = 0.0
    masked: float = 0.0
    covariance: float = 0.0
    memory: int = 0
    slot_dropout: float = 0.0
    vary: bool = False
    heart_field: float = 0.0
    rates_epochs: int = 0
    average: float = 0.0
    epoch_clips: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        whole = {"epochs": 1, "batch_size": 2, "step_epochs": 1, "together": 1, "seed": 0}
        for name, least in whole.items():
            if getattr(self, name) < least:
                raise TrainingError(f"{name} must be at least {least}")
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise TrainingError("the learning rate must be above 0")
        if not 0 <= self.dropout < 1:
            raise TrainingError("the dropout must be at least 0 and below 1")
        if self.crop_s is not None and not self.crop_s >= 1:
            raise TrainingError("crop_s must be at least 1 second")
        for name in (
            *("temperature", "weight_decay", "physiology", "within", "masked", "covariance"),
            *("memory", "rates_epochs"),
        ):
            if not 0 <= getattr(self, name) < math.inf:
                raise TrainingError(f"{name} must be at least 0")
        if self.together_end is not None and self.together_end < 1:
            raise TrainingError("together_end must be at least 1")
        if not 0 <= self.heart_field <= 1:
            raise TrainingError("heart_field must be 0 to 1")
        if not (0 <= self.slot_dropout <= 1 and 0 <= self.average < 1):
            raise TrainingError("slot_dropout must be 0 to 1, average at least 0 and below 1")
        if self.epoch_clips is not None and self.epoch_clips < self.batch_size:
            raise TrainingError("epoch_clips must be at least one batch")

    def lr_at(self, step: int, steps: int) -> float:
        """Learning rate of one step of ``steps`` in all, a function of nothing else.

        Parameters
        ----------
        step, steps : int
            The step, counted from 0, and the number of steps of the whole run.
        """
        if self.schedule == "step":
            epoch = step * self.epochs // steps
            return float(self.lr * _DECAY ** (epoch // self.step_epochs))
        if self.schedule == "trapezoid":
            rise = min(1.0, (step + 1) / _RISE_STEPS)
            return self.lr * rise * min(1.0, (steps - step) / (_FALL * steps))
        warm = max(1, int(_WARM_UP * steps))
        if step < warm:
            return self.lr * (step + 1) / warm
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Names of the settings in which another recipe, as JSON, differs.

        A setting that the other does not name has its default there.

        Parameters
        ----------
        other : mapping of str to object
            Settings by name, as ``to_json`` gives them.
        """
        own = self.to_json()
        return [f.name for f in fields(self) if own[f.name] != other.get(f.name, f.default)]


AUTHORS: Final = Recipe()
"""SGD with momentum 0.9, learning rate 1e-3 with step decay, batch 32 (Thapa et al., 2024)."""

SHORT: Final = Recipe(
    epochs=4,
    batch_size=64,
    optimizer="adamw",
    lr=2e-3,
    schedule="cosine",
    weight_decay=0.01,
    dropout=0.0,
    together=8,
    crop_s=10.0,
    temperature=2.0,
)
"""For a budget of CPU hours: AdamW, one warm-up and one cosine, no dropout, batches with several
clips of each night, windows of 10 s."""

_BODY: Final = Recipe(
    optimizer="adamw",
    lr=2e-3,
    schedule="trapezoid",
    weight_decay=0.01,
    dropout=0.0,
    slot_dropout=0.3,
    vary=True,
    heart_field=0.75,
    average=0.998,
)

WARM_UP: Final = replace(
    _BODY, epochs=3, epoch_clips=9_600, crop_s=15.0, rates_epochs=2, average=0.99
)
"""First step of pretraining, with the objective ``physiology``: rates first, then all targets."""

BODY: Final = replace(
    _BODY,
    epochs=6,
    epoch_clips=12_800,
    batch_size=64,
    together=4,
    crop_s=15.0,
    temperature=2.0,
    physiology=2.0,
    heart_field=0.5,
)
"""Second step, from the weights of the first, with ``leave-one-out``."""

FINE_TUNING: Final = replace(
    _BODY,
    epochs=3,
    batch_size=32,
    together=8,
    lr=3e-4,
    schedule="cosine",
    temperature=2.0,
    physiology=1.0,
    heart_field=0.0,
    average=0.98,
)
"""Fine-tuning of trained weights to the recordings of one clinic, with ``leave-one-out``."""

RECIPES: Final[dict[RecipeName, Recipe]] = {
    "authors": AUTHORS,
    "short": SHORT,
    "warm-up": WARM_UP,
    "body": BODY,
    "fine-tuning": FINE_TUNING,
}
