"""Training settings that, with the data, determine the result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, Literal

from sleepfm.choices import RecipeName
from sleepfm.contract import Contract
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
        Number of epochs: passes over the clips, or sections of ``epoch_clips`` clips.
    batch_size : int
        Clips per step; in contrastive training also the number of candidates.
    optimizer : {"sgd", "adamw"}
        Optimizer; SGD has momentum 0.9.
    lr : float
        Maximum learning rate.
    schedule : {"step", "cosine", "trapezoid"}
        Schedule of the learning rate. ``step`` divides it by 10 every ``step_epochs``. ``cosine``
        has a linear warm-up over the first 5 % of the steps, then cosine decay to zero.
        ``trapezoid`` has a linear warm-up over the first 100 steps, a constant phase, and linear
        decay to zero over the last fifth.
    step_epochs : int
        Epochs between two steps of the schedule ``step``.
    weight_decay : float
        Weight decay of matrices and kernels; biases, norms and the temperature have none.
    dropout : float
        Dropout probability in residual branches and before the last layer. The authors' 0.5 is high
        for a short run.
    together : int
        Clips of one night that are placed in a batch as a group. 1 mixes all nights; with more, a
        clip has clips of its own night among its negatives.
    together_end : int, optional
        ``together`` in the last epoch, approached linearly; by default it is constant. With a
        larger value at the end, encoders first distinguish people, then the clips of one person.
    crop_s : float, optional
        Length of the window of each clip used in a step, in seconds, drawn anew in every step; None
        uses whole clips. ``jitter_s`` sets how far apart its modalities are cut. The encoders
        average over time, so what they learn from short windows applies to long ones, and the cost
        of a step falls in proportion (as masking does in Li et al., 2023, arXiv 2212.00794).
        Batch-norm statistics and validation use whole clips.
    jitter_s : float
        Greatest difference, in seconds, between the starts of the windows of two modalities of a
        clip, drawn anew for each clip, modality and step; ``crop_s`` and ``jitter_s`` together fit
        into a clip. With 0, all modalities have the same window, and can be matched by the times of
        single heart beats (docs/training.md). The difference is that of two uniform numbers, so
        with 1 s it is a third of a second on average.
    temperature : float
        Initial value of the temperature parameter; similarities are multiplied by its exponential.
    physiology : float
        Weight of the regression of known values (:mod:`sleepfm.training.physiology`), in addition
        to the objective; 0 turns it off.
    within : float
        Weight of SimCLR within each modality, between the two halves of each clip.
    masked : float
        Weight of masked reconstruction (:mod:`sleepfm.training.masked`).
    covariance : float
        Weight of VICReg's covariance term on the outputs of each modality, against low rank.
    memory : int
        Number of clips of earlier steps whose vectors serve as additional negatives (Wang et al.
        2020, arXiv 1912.06798); for the two objectives with a softmax over negatives.
    slot_dropout : float
        Fraction of the clips in which each slot is set to zero with probability 1/2; at least one
        slot with a signal remains in each modality.
    vary : bool
        Whether gain, polarity, reference and noise of the channels are varied in every step
        (:mod:`sleepfm.training.augment`).
    heart_field : float
        Share of the clips to whose EEG their own ECG (its first slot) is added as a further heart
        field, at 0.02 to 0.6 of its amplitude, with a gain and a sign per channel
        (:mod:`sleepfm.training.augment`).
    heart_epochs : int
        Epochs at the start in which the EEG regresses the heart rate alone; in as many epochs after
        them, heart rate and stages; then all targets. Until then ``vary`` and ``slot_dropout`` do
        not apply. In the first epoch, with ``heart_field``, the strongest field is added to all
        clips. An EEG encoder that learns stages first does not find the heart rate.
    average : float
        Decay of the exponential moving average of the weights that is validated and exported, for
        example 0.999; 0 uses the current weights.
    epoch_clips : int, optional
        Clips per epoch, that is, between two validations; by default one pass over all clips.
    seed : int
        Seed of the initialisation, the order of clips, augmentation and dropout.
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
    jitter_s: float = 0.0
    temperature: float = 0.0
    physiology: float = 0.0
    within: float = 0.0
    masked: float = 0.0
    covariance: float = 0.0
    memory: int = 0
    slot_dropout: float = 0.0
    vary: bool = False
    heart_field: float = 0.0
    heart_epochs: int = 0
    average: float = 0.0
    epoch_clips: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        minima = {"epochs": 1, "batch_size": 2, "step_epochs": 1, "together": 1, "seed": 0}
        for name, minimum in minima.items():
            if getattr(self, name) < minimum:
                raise TrainingError(f"{name} must be at least {minimum}")
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise TrainingError("the learning rate must be above 0")
        if not 0 <= self.dropout < 1:
            raise TrainingError("the dropout must be at least 0 and below 1")
        if self.crop_s is not None and not self.crop_s >= 1:
            raise TrainingError("crop_s must be at least 1 second")
        for name in (
            *("temperature", "weight_decay", "physiology", "within", "masked", "covariance"),
            *("memory", "heart_epochs", "jitter_s"),
        ):
            if not 0 <= getattr(self, name) < math.inf:
                raise TrainingError(f"{name} must be at least 0")
        if self.jitter_s and self.crop_s is None:
            raise TrainingError(
                "jitter_s needs crop_s, a window that is shorter than the clip (--crop-s)"
            )
        if self.together_end is not None and self.together_end < 1:
            raise TrainingError("together_end must be at least 1")
        if not 0 <= self.heart_field <= 1:
            raise TrainingError("heart_field must be 0 to 1")
        if not (0 <= self.slot_dropout <= 1 and 0 <= self.average < 1):
            raise TrainingError("slot_dropout must be 0 to 1, average at least 0 and below 1")
        if self.epoch_clips is not None and self.epoch_clips < self.batch_size:
            raise TrainingError("epoch_clips must be at least one batch")

    def lr_at(self, step: int, steps: int) -> float:
        """Return the learning rate of a step.

        Parameters
        ----------
        step : int
            Number of the step, counted from 0.
        steps : int
            Number of steps of the whole run.
        """
        if self.schedule == "step":
            epoch = step * self.epochs // steps
            return float(self.lr * _DECAY ** (epoch // self.step_epochs))
        if self.schedule == "trapezoid":
            warm_up_factor = min(1.0, (step + 1) / _RISE_STEPS)
            return self.lr * warm_up_factor * min(1.0, (steps - step) / (_FALL * steps))
        warm_up = max(1, int(_WARM_UP * steps))
        if step < warm_up:
            return self.lr * (step + 1) / warm_up
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

    def window_samples(self, contract: Contract) -> int:
        """Return the length of the window of a step, in samples: the whole clip without ``crop_s``.

        Parameters
        ----------
        contract : Contract
            The contract by which clips are prepared.
        """
        if self.crop_s is None:
            return contract.clip_samples
        return min(round(self.crop_s * contract.sample_rate), contract.clip_samples)

    def jitter_samples(self, contract: Contract) -> int:
        """Return the greatest difference between the starts of the windows of a clip, in samples.

        Parameters
        ----------
        contract : Contract
            The contract by which clips are prepared.

        Raises
        ------
        TrainingError
            If a clip is shorter than ``crop_s`` and ``jitter_s`` together, or the jitter is less
            than a sample.
        """
        jitter = round(self.jitter_s * contract.sample_rate)
        if self.jitter_s and not jitter:
            raise TrainingError(
                f"jitter_s of {self.jitter_s:g} is less than a sample at {contract.sample_rate} Hz"
            )
        if jitter and self.window_samples(contract) + jitter > contract.clip_samples:
            raise TrainingError(
                f"windows of {self.crop_s:g} s that start up to {self.jitter_s:g} s apart do not "
                f"fit into clips of {contract.clip_seconds:g} s; use a lower crop_s or jitter_s"
            )
        return jitter

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values, by name."""
        return asdict(self)

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Return the names of the settings that differ from those of another recipe.

        Parameters
        ----------
        other : mapping of str to object
            Settings of the other recipe as returned by ``to_json``; missing ones have their
            default.
        """
        settings = self.to_json()
        return [f.name for f in fields(self) if settings[f.name] != other.get(f.name, f.default)]


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
    jitter_s=1.0,
    temperature=2.0,
)
"""For a few hours on a CPU: AdamW, warm-up and cosine decay, no dropout, several clips of each
night per batch, windows of 10 s, apart by up to a second between modalities."""

_BODY: Final = Recipe(
    optimizer="adamw",
    lr=2e-3,
    schedule="trapezoid",
    weight_decay=0.01,
    dropout=0.0,
    slot_dropout=0.3,
    vary=True,
    heart_field=0.75,
    average=0.99,
)

WARM_UP: Final = replace(_BODY, epochs=5, epoch_clips=8_000, crop_s=15.0, heart_epochs=2)
"""First step of pretraining, with the objective ``physiology``: the EEG learns heart
rate first, then stages too, then all targets."""

BODY: Final = replace(
    _BODY,
    epochs=8,
    epoch_clips=12_800,
    batch_size=64,
    together=4,
    crop_s=15.0,
    jitter_s=1.0,
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
    crop_s=25.0,
    jitter_s=1.0,
    temperature=2.0,
    physiology=1.0,
    heart_field=0.0,
    average=0.98,
)
"""Fine-tuning of trained weights to the recordings of one clinic, with ``leave-one-out``."""

MIXED: Final = replace(
    BODY,
    epochs=1,
    epoch_clips=76_800,
    batch_size=256,
    together=8,
    lr=5e-4,
    schedule="cosine",
    slot_dropout=0.5,
    heart_field=0.3,
)
"""Fine-tuning to real recordings mixed with simulated nights, on a GPU, with ``leave-one-out``."""

RECIPES: Final[dict[RecipeName, Recipe]] = {
    "authors": AUTHORS,
    "short": SHORT,
    "warm-up": WARM_UP,
    "body": BODY,
    "fine-tuning": FINE_TUNING,
    "mixed": MIXED,
}
