"""A clip and its neighbours as strips of signal, read from the recordings and never stored."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sleepfm.clips import Clips
from sleepfm.contract import Contract
from sleepfm.modality import Modality
from sleepfm_index import private
from sleepfm_index.errors import QueryError
from sleepfm_index.plots import STAGE_COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sleepfm_index.store import Store


def signal_strips(
    store: Store,
    clip_ids: NDArray[np.int64],
    titles: list[str],
    modalities: tuple[str, ...] = tuple(Modality),
    *,
    substitute: bool = False,
    channels: Path | None = None,
) -> Axes:
    """Draw clips one below the other: a row a clip, a column a modality, a line a slot.

    Signals are prepared as the store's contract asks, so this is what the encoders saw. Under
    robust scaling a signal is in units of its night's spread (IQR / 1.349); else values as stored.

    Parameters
    ----------
    clip_ids : ndarray of int64, shape [n]
        The query first.
    titles : list of str
        One a clip.
    modalities : tuple of str
        Columns, in order.
    substitute, channels
        As at the build.

    Returns
    -------
    Axes
        The first strip's; its figure holds them all.

    Raises
    ------
    QueryError
        If the store does not know where its recordings are, or one is not there.
    """
    from matplotlib.figure import Figure

    facts = {row["clip_id"]: row for row in store.metadata.rows(clip_ids).to_pylist()}
    height = 1.0 + 1.5 * len(clip_ids)
    figure = Figure(figsize=(4.2 * len(modalities), height), layout="constrained")
    panels = figure.subplots(len(clip_ids), len(modalities), squeeze=False, sharex=True)
    contract = store.manifest.contract
    for row, (clip, title) in enumerate(zip(clip_ids.tolist(), titles, strict=True)):
        fact = facts[clip]
        path = recording_file(store, fact["recording_id"])
        clips = _cut(path, contract, substitute, channels)
        at = round(fact["start_s"] / contract.clip_seconds)
        for column, modality in enumerate(modalities):
            _strip(panels[row][column], clips, at, Modality(modality), contract)
        panels[row][0].set_title(
            title, loc="left", fontsize="small", color=_ink(str(fact["stage"]), row)
        )
    for column, modality in enumerate(modalities):
        panels[-1][column].set_xlabel(f"time in the clip (s), {modality}")
    robust = contract.scaling == "robust"
    unit = "1 SD = the channel's spread over its night" if robust else "values as stored"
    figure.suptitle(f"what the encoders saw; {unit}", fontsize="small")
    first: Axes = panels[0][0]
    return first


def recording_file(store: Store, recording_id: str) -> Path:
    """Give the file of a recording, by the store's private map.

    Raises
    ------
    QueryError
        If the map is not there, does not know the recording, or the file is gone.
    """
    path = private.files(store.path).get(recording_id)
    if path is None:
        raise QueryError(
            f"the store does not know the file of {recording_id}: its folder private/ is kept "
            "apart or was removed; put it back to draw signals"
        )
    if not path.is_file():
        raise QueryError(f"the recording {recording_id} is not where it was when it was built")
    return path


@lru_cache(maxsize=2)
def _cached(path: Path, key: str, substitute: bool, channels: Path | None) -> Clips:
    from sleepfm_index.ingest import Preparation

    return Preparation(_CONTRACTS[key], substitute, channels).prepare(path)[2]


_CONTRACTS: dict[str, Contract] = {}


def _cut(path: Path, contract: Contract, substitute: bool, channels: Path | None) -> Clips:
    # a whole night is prepared for one clip, as its scaling is the night's; neighbours may share it
    _CONTRACTS[contract.sha256] = contract
    return _cached(path, contract.sha256, substitute, channels)


def _strip(ax: Any, clips: Clips, at: int, modality: Modality, contract: Contract) -> None:
    signal = clips.signals.get(modality)
    names = contract.slots_of(modality)
    ax.set_yticks([])
    if signal is None or at >= len(clips) or not clips.filled[modality][at]:
        ax.text(0.5, 0.5, f"no {modality}", transform=ax.transAxes, ha="center", color="0.5")
        return
    time = np.arange(contract.clip_samples) / contract.sample_rate
    shown = [i for i in range(len(names)) if clips.filled[modality][at] >> i & 1]
    lines = [signal[at, i] - np.median(signal[at, i]) for i in shown]
    step = 1.2 * max(float(np.ptp(np.percentile(x, [0.2, 99.8]))) for x in lines) or 1.0
    for row, line in enumerate(lines):
        ax.plot(time, np.clip(line, -0.8 * step, 0.8 * step) - row * step, "k", linewidth=0.4)
    ax.set_yticks([-row * step for row in range(len(shown))], [names[i] for i in shown])
    ax.tick_params(labelsize="x-small")
    bar, right = _round_down(step / 2), contract.clip_seconds * 1.015
    ax.set_xlim(0, contract.clip_seconds * 1.06)
    ax.plot([right, right], [-bar / 2, bar / 2], color="#d55e00", linewidth=2)
    unit = " SD" if contract.scaling == "robust" else ""
    ax.text(
        right * 1.008, 0, f"{bar:g}{unit}", rotation=90, va="center", fontsize="x-small",
        color="#d55e00",
    )  # fmt: skip


def _round_down(value: float) -> float:
    power = 10.0 ** np.floor(np.log10(max(value, 1e-12)))
    return float(next(f * power for f in (5, 2, 1) if f * power <= value))


def _ink(stage: str, row: int) -> str:
    return "black" if row == 0 else STAGE_COLOURS.get(stage, "0.3")
