"""Physiological values per clip as regression targets of the encoders.

The targets of a clip are sleep stage, R-R intervals, breathing and slow states, either the truth of
the simulator (:mod:`sleepfm.simulate.truth`) or from beats and breaths detected in a real
recording. Heart rate and breathing rate are encoded twice: as a number, and over overlapping bins,
from which a linear head can read any function of the rate. Unknown values are NaN and do not
contribute to the loss.
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

_MIN_TO_FIT: Final = 64

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
"""Name of each column of :func:`targets_of`."""

_STARTS: Final = np.cumsum(
    [0, len(_LOGARITHMS) + len(_PLAIN), len(SCORED), len(_HEART_BINS_BPM), len(_BREATH_BINS_HZ)]
)
GROUPS: Final = {
    name: slice(int(start), int(stop))
    for name, start, stop in zip(
        ("value", "stage", "heart_rate", "breathing_rate"), _STARTS, _STARTS[1:], strict=False
    )
}
"""The columns of :func:`targets_of` by kind: single numbers, stages, and the bins of both rates."""


def targets_of(
    truth: Mapping[str, NDArray[np.floating]], stage: Sequence[str]
) -> NDArray[np.float32]:
    """Return the regression targets of the clips of one recording.

    Parameters
    ----------
    truth : mapping of str to ndarray, shape [clips]
        Known values by column of :mod:`sleepfm.simulate.truth`; absent columns count as unknown.
    stage : sequence of str, length clips
        AASM stage of each clip; any other label counts as unknown.

    Returns
    -------
    ndarray of float32, shape [clips, len(NAMES)]
        Targets in the columns :data:`NAMES`; NaN where unknown.
    """
    count = len(stage)
    unknown = np.full(count, np.nan)

    def column(name: str) -> NDArray[np.float64]:
        return np.asarray(truth.get(name, unknown), np.float64)[:count]

    with np.errstate(divide="ignore", invalid="ignore"):
        logs = [np.log(np.maximum(column(name), 1e-3)) for name in _LOGARITHMS]
        heart = _bin_code(np.log(60 / column("rr_mean_s")), np.log(_HEART_BINS_BPM))
        breath = _bin_code(np.log(column("breath_hz")), np.log(_BREATH_BINS_HZ))
    stages = np.array([[float(s == name) for name in SCORED] for s in stage])
    stages = stages.reshape(count, len(SCORED))
    stages[stages.sum(axis=1) == 0] = np.nan
    plain = [column(name) for name in _PLAIN]
    blocks = (np.stack([*logs, *plain], axis=1), stages, heart, breath)
    return np.concatenate(blocks, axis=1).astype(np.float32)


def _bin_code(values: NDArray[np.float64], bins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Encode values over Gaussian bins, one bin wide; values outside count as the nearest end."""
    width = bins[1] - bins[0]
    inside = np.clip(values, bins[0], bins[-1])
    return np.asarray(np.exp(-0.5 * ((inside[:, None] - bins) / width) ** 2))


class RegressionHeads(nn.Module):
    """Linear regression heads, one per modality, on the 512 encoder outputs before normalisation.

    Parameters
    ----------
    modalities : sequence of str
        The modalities; each has one head.
    known : ndarray of float32, shape [clips, len(NAMES)]
        Targets of the training clips; their mean and SD standardise each column.
    """

    mean: Tensor
    scale: Tensor
    asked: Tensor

    def __init__(self, modalities: Sequence[str], known: NDArray[np.float32]) -> None:
        super().__init__()
        estimable = np.isfinite(known).sum(axis=0) > 1
        mean, sd = np.zeros(len(NAMES)), np.ones(len(NAMES))
        mean[estimable] = np.nanmean(known[:, estimable], axis=0, dtype=np.float64)
        sd[estimable] = np.nanstd(known[:, estimable], axis=0, dtype=np.float64)
        for group in list(GROUPS.values())[1:]:
            # one scale for all bins of a code, so that rare bins do not dominate
            sd[group] = np.sqrt(np.mean(sd[group] ** 2))
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(1 / np.maximum(sd, 1e-3), dtype=torch.float32))
        self.register_buffer("asked", torch.tensor(estimable))  # name as in existing checkpoints
        self.heads = nn.ModuleDict(
            {str(m): nn.Linear(EMBEDDING_DIM, len(NAMES)) for m in modalities}
        )

    def loss(
        self,
        modality: str,
        outputs: Tensor,
        targets: Tensor,
        weights: Sequence[float] | None = None,
    ) -> Tensor:
        """Return the mean squared error of the standardised targets, averaged over groups.

        Parameters
        ----------
        modality : str
            Modality of the outputs.
        outputs : Tensor of float32, shape [n, 512]
            Encoder outputs, not normalised.
        targets : Tensor of float32, shape [n, len(NAMES)]
            Targets from :func:`targets_of`; NaN values are ignored.
        weights : sequence of float, optional
            Weight of each of the :data:`GROUPS`; by default all weigh the same.

        Returns
        -------
        Tensor, scalar
            Weighted mean over the groups with a known target; zero where none is known.
        """
        standardised, known = self._standardised(targets)
        error = (self.heads[str(modality)](outputs) - standardised).square() * known
        total, sum_of_weights = outputs.sum() * 0, 0.0
        for group, weight in zip(GROUPS.values(), weights or [1.0] * len(GROUPS), strict=True):
            if weight and bool(known[:, group].any()):
                mean = error[:, group].sum() / known[:, group].sum()
                total, sum_of_weights = total + weight * mean, sum_of_weights + weight
        return total / (sum_of_weights or 1.0)

    @torch.no_grad()
    def fit(self, modality: str, outputs: Tensor, targets: Tensor) -> None:
        """Initialise a head by ridge regression on the outputs of trained encoders.

        Parameters
        ----------
        modality : str
            Modality of the head and the outputs.
        outputs : Tensor of float32, shape [n, 512]
            Encoder outputs, not normalised.
        targets : Tensor of float32, shape [n, len(NAMES)]
            Targets from :func:`targets_of`; columns with fewer than 64 known values are skipped.
        """
        standardised, known = self._standardised(targets)
        x = torch.cat([outputs, torch.ones_like(outputs[:, :1])], dim=1).double()
        # one penalty for all columns, relative to the scale of the outputs
        penalty = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        penalty *= 1e-2 * x[:, :-1].square().mean() * len(x)
        head = self.heads[str(modality)]
        assert isinstance(head, nn.Linear)
        for column in range(len(NAMES)):
            rows = known[:, column]
            if int(rows.sum()) < _MIN_TO_FIT:
                continue
            design, y = x[rows], standardised[rows, column].double()
            weight = torch.linalg.solve(design.T @ design + penalty, design.T @ y)
            head.weight[column], head.bias[column] = weight[:-1].float(), weight[-1].float()

    def _standardised(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        standardised = ((targets - self.mean) * self.scale).clamp(-5, 5)
        known = standardised.isfinite() & self.asked
        return standardised.nan_to_num(), known
