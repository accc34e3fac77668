"""Known values per clip as regression targets of the encoders.

For each clip: sleep stage, R-R intervals, breathing, and slow states, as the simulator knows them
(:mod:`sleepfm.simulate.truth`) or as beats and breaths were found in a real recording. Heart rate
and breathing rate are given twice: as one number, and spread over overlapping bins (a code that a
linear head can read as any function of the rate). What is not known is NaN and asks for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sleepfm.modality import EMBEDDING_DIM
from sleepfm.stages import SCORED

_HEART_BINS_BPM: Final = np.geomspace(38, 120, 24)
_BREATH_BINS_HZ: Final = np.geomspace(0.12, 0.5, 16)

_LEAST_TO_FIT: Final = 64

_LOGARITHMS: Final = (
    "rr_mean_s",
    "rr_sd_s",
    "rr_rmssd_s",
    "breath_hz",
    "breath_depth",
    "breath_depth_sd",
    "tone",
)
_PLAIN: Final = (
    "sleep_depth",
    "infraslow",
    "movement",
    "a_phase",
    "airflow",
    "arousal_s",
    "apnea_s",
    "hypopnea_s",
)
NAMES: Final = (
    *(f"log_{name}" for name in _LOGARITHMS),
    *_PLAIN,
    *(f"stage_{s}" for s in SCORED),
    *(f"heart_{bpm:.0f}" for bpm in _HEART_BINS_BPM),
    *(f"breath_{hz:.2f}" for hz in _BREATH_BINS_HZ),
)
"""Description of each column of :func:`targets_of`."""

_GROUPS: Final = (
    slice(0, len(_LOGARITHMS) + len(_PLAIN)),
    slice(len(_LOGARITHMS) + len(_PLAIN), len(_LOGARITHMS) + len(_PLAIN) + len(SCORED)),
    slice(len(NAMES) - len(_HEART_BINS_BPM) - len(_BREATH_BINS_HZ), -len(_BREATH_BINS_HZ)),
    slice(len(NAMES) - len(_BREATH_BINS_HZ), len(NAMES)),
)


def targets_of(
    truth: Mapping[str, NDArray[np.floating]], stage: Sequence[str]
) -> NDArray[np.float32]:
    """Return the numbers that are asked for of each clip.

    Parameters
    ----------
    truth : mapping of str to ndarray, shape [clips]
        Columns as in :mod:`sleepfm.simulate.truth`; those that are absent are unknown.
    stage : sequence of str, length clips
        AASM stages; any other label is unknown.

    Returns
    -------
    ndarray of float32, shape [clips, len(NAMES)]
        NaN where a number is not known.
    """
    count = len(stage)
    unknown = np.full(count, np.nan)

    def column(name: str) -> NDArray[np.float64]:
        return np.asarray(truth.get(name, unknown), np.float64)[:count]

    with np.errstate(divide="ignore", invalid="ignore"):
        logs = [np.log(np.maximum(column(name), 1e-3)) for name in _LOGARITHMS]
        heart = _spread(np.log(60 / column("rr_mean_s")), np.log(_HEART_BINS_BPM))
        breath = _spread(np.log(column("breath_hz")), np.log(_BREATH_BINS_HZ))
    stages = np.array([[float(s == name) for name in SCORED] for s in stage])
    stages = stages.reshape(count, len(SCORED))
    stages[stages.sum(axis=1) == 0] = np.nan
    plain = [column(name) for name in _PLAIN]
    blocks = (np.stack([*logs, *plain], axis=1), stages, heart, breath)
    return np.concatenate(blocks, axis=1).astype(np.float32)


RATES: Final = np.array(
    [n.startswith(("heart_", "breath_0")) or n in ("log_rr_mean_s", "log_breath_hz") for n in NAMES]
)
"""Which columns of :func:`targets_of` state heart rate or breathing rate."""


def rates_only(targets: Tensor) -> Tensor:
    """Copy targets with everything but heart rate and breathing rate unknown.

    Parameters
    ----------
    targets : Tensor of float32, shape [n, len(NAMES)]
        As :func:`targets_of` gives them.

    Returns
    -------
    Tensor of float32, shape [n, len(NAMES)]
        NaN outside the columns :data:`RATES`.
    """
    return targets.masked_fill(~torch.from_numpy(RATES).to(targets.device), float("nan"))


def _spread(values: NDArray[np.float64], bins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the height of a bell over each bin, as wide as a bin; beyond the ends, of the end."""
    width = bins[1] - bins[0]
    inside = np.clip(values, bins[0], bins[-1])
    return np.asarray(np.exp(-0.5 * ((inside[:, None] - bins) / width) ** 2))


class Readers(nn.Module):
    """One linear head per modality on the 512 outputs, before they are normalised.

    Parameters
    ----------
    modalities : sequence of str
        Those that there are heads for.
    known : ndarray of float32, shape [clips, len(NAMES)]
        The training clips' numbers; mean and SD of each column are taken from them.
    """

    mean: Tensor
    scale: Tensor
    asked: Tensor

    def __init__(self, modalities: Sequence[str], known: NDArray[np.float32]) -> None:
        super().__init__()
        some = np.isfinite(known).sum(axis=0) > 1
        mean, sd = np.zeros(len(NAMES)), np.ones(len(NAMES))
        mean[some] = np.nanmean(known[:, some], axis=0, dtype=np.float64)
        sd[some] = np.nanstd(known[:, some], axis=0, dtype=np.float64)
        for group in _GROUPS[1:]:
            # one scale for a code, or rare bins would count most
            sd[group] = np.sqrt(np.mean(sd[group] ** 2))
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(1 / np.maximum(sd, 1e-3), dtype=torch.float32))
        self.register_buffer("asked", torch.tensor(some))
        self.heads = nn.ModuleDict(
            {str(m): nn.Linear(EMBEDDING_DIM, len(NAMES)) for m in modalities}
        )

    def loss(self, modality: str, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error of what is known, each number in its own SD, mean over the groups.

        Parameters
        ----------
        modality : str
            Whose outputs.
        outputs : Tensor, shape [n, 512]
            Not normalised.
        targets : Tensor, shape [n, len(NAMES)]
            As :func:`targets_of` gives them.
        """
        wanted, known = self._wanted(targets)
        error = (self.heads[str(modality)](outputs) - wanted).square() * known
        parts = [
            error[:, group].sum() / known[:, group].sum().clamp(min=1)
            for group in _GROUPS
            if bool(known[:, group].any())
        ]
        return torch.stack(parts).mean() if parts else outputs.sum() * 0

    @torch.no_grad()
    def fit(self, modality: str, outputs: Tensor, targets: Tensor) -> None:
        """Initialise a head by ridge regression on the outputs of trained encoders.

        Parameters
        ----------
        modality : str
            Whose head.
        outputs : Tensor, shape [n, 512]
            Not normalised.
        targets : Tensor, shape [n, len(NAMES)]
            As :func:`targets_of` gives them.
        """
        wanted, known = self._wanted(targets)
        x = torch.cat([outputs, torch.ones_like(outputs[:, :1])], dim=1).double()
        # one penalty for all, relative to the outputs' own size
        penalty = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        penalty *= 1e-2 * x[:, :-1].square().mean() * len(x)
        head = self.heads[str(modality)]
        assert isinstance(head, nn.Linear)
        for column in range(len(NAMES)):
            rows = known[:, column]
            if int(rows.sum()) < _LEAST_TO_FIT:
                continue
            own, y = x[rows], wanted[rows, column].double()
            weight = torch.linalg.solve(own.T @ own + penalty, own.T @ y)
            head.weight[column], head.bias[column] = weight[:-1].float(), weight[-1].float()

    def _wanted(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        wanted = ((targets - self.mean) * self.scale).clamp(-5, 5)
        known = wanted.isfinite() & self.asked
        return wanted.nan_to_num(), known
