"""Application of a saved probe to a store: predictions as Parquet, hypnograms as CSV and EDF+."""

from __future__ import annotations

import csv
import re
from datetime import time
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sleepfm.atomic_write import write_file
from sleepfm.recordings.scoring.predicted import COLUMN, EQUIPMENT
from sleepfm_index.errors import QueryError, StoreError
from sleepfm_index.evaluation.labels.columns import clip_columns, has
from sleepfm_index.evaluation.labels.labels import STAGES
from sleepfm_index.evaluation.models.features import (
    check_features,
    feature_reader,
    predict_rows,
)
from sleepfm_index.evaluation.models.probe_kinds import Probe
from sleepfm_index.evaluation.models.stage_transitions import Night, Transitions
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result

UNKNOWN: Final = "UNS"
_FACTS: Final = ("recording_id", "start_s", "clock")


def check_probe(store: Reader, probe: Probe) -> None:
    """Refuse a probe that was fitted to vectors of other weights.

    Parameters
    ----------
    store : Reader
        The open store.
    probe : Probe
        The fitted probe.

    Raises
    ------
    QueryError
        If weights or contract differ.
    """
    about = probe.about
    weights = store.manifest.weights
    if about.get("weights_sha256") != weights.sha256:
        raise QueryError(
            f"the probe was fitted to vectors of {about.get('weights', 'other weights')}, the "
            f"store holds those of {weights.name}; fit one with `sleepfm-index probe --save`"
        )
    if about.get("contract_sha256") != store.manifest.contract.sha256:
        raise QueryError("the probe was fitted to clips prepared under another contract")


def predict(
    store: Reader, probe: Probe, *, where: str | None = None, smooth: bool = False
) -> Result:
    """Predict the label of every clip.

    Parameters
    ----------
    store : Reader
        The open store.
    probe : Probe
        A probe fitted to vectors of the same weights and contract.
    where : str, optional
        SQL condition over the columns of ``clips``.
    smooth : bool
        Whether to smooth the stages of each recording by the transitions saved with the probe
        (:mod:`.stage_transitions`); a clip that is not predicted counts as a gap.

    Returns
    -------
    Result
        Columns clip_id, recording_id, start_s, clock, predicted (the class of highest probability,
        or the number), and for classes ``p_<class>``; null for clips without the features.

    Raises
    ------
    QueryError
        If the probe was fitted to vectors of other weights, no clip has its features, or ``smooth``
        is set and the probe has no transitions.
    FormatError
        If its transitions are damaged.
    """
    check_probe(store, probe)
    about = probe.about
    transitions = Transitions.of_record(about, len(probe.classes)) if smooth else None
    features = str(about.get("features"))
    ids = store.metadata.clip_ids(where)
    present = np.ones(len(ids), bool)
    for modality in check_features(features, store.manifest.modalities):
        present &= has(store, ids, modality)
    if not present.any():
        raise QueryError(f"no clip has {features}, which the probe requires")
    scores = predict_rows(probe, feature_reader(store, ids, features), np.flatnonzero(present))
    if transitions is not None:
        scores = transitions.smooth(scores, Night.of(store, ids[present]))
    table = clip_columns(store, ids, _FACTS)
    missing = ~present
    if probe.classes:
        names = np.array(probe.classes, object)
        label = np.full(len(ids), None, object)
        label[present] = names[scores.argmax(axis=1)]
        table = table.append_column("predicted", pa.array(label.tolist(), pa.string()))
        for code, name in enumerate(probe.classes):
            share = np.zeros(len(ids))
            share[present] = scores[:, code]
            table = table.append_column(f"p_{name}", pa.array(share, mask=missing))
    else:
        number = np.zeros(len(ids))
        number[present] = scores
        table = table.append_column("predicted", pa.array(number, mask=missing))
    note = (
        f"{about.get('label')} ({about.get('rule')}) by a probe on {features}: "
        f"{int(present.sum())} clips predicted, {int(missing.sum())} lack {features}"
    )
    if smooth:
        note += "; smoothed over each recording by the stage transitions of the training subjects"
    return Result(table, note)


def write_predictions(
    result: Result, folder: str | Path, probe: Probe, *, clip_seconds: float = 30.0
) -> list[Path]:
    """Write predictions as files for other tools.

    Parameters
    ----------
    result : Result
        Result of :func:`predict`.
    folder : path
        Folder for the files, created if missing: ``predictions.parquet``; and for stages, per
        recording, ``<recording>.predicted.csv`` (onset_s, duration_s, predicted_stage) and
        ``<recording>.predicted.edf`` (EDF+ annotations "Sleep stage N2", at the recording's time of
        day, without a date). Both are marked as predictions, and a build does not use them as
        scoring.
    probe : Probe
        The probe that made the predictions.
    clip_seconds : float
        Length of a clip, in seconds.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    StoreError
        If a recording's name is not a valid file name.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    parquet = folder / "predictions.parquet"
    write_file(parquet, lambda path: pq.write_table(result.table, path, compression="zstd"))
    written = [parquet]
    if not probe.classes or not set(probe.classes) <= set(STAGES):
        return written
    nights: dict[str, list[dict[str, object]]] = {}
    for row in result.table.sort_by("start_s").to_pylist():
        nights.setdefault(row["recording_id"], []).append(row)
    for name, rows in nights.items():
        if not re.fullmatch(r"[^/\\\0]{1,200}", name) or name.startswith("."):
            raise StoreError(
                f"the recording {name!r} is not a valid file name; rename it in the store"
            )
        stages = [(float(r["start_s"]), str(r["predicted"] or UNKNOWN)) for r in rows]  # type: ignore[arg-type]
        table, edf = folder / f"{name}.predicted.csv", folder / f"{name}.predicted.edf"
        clock = rows[0]["clock"]
        start = None if clock is None else (float(clock) - stages[0][0]) % 86400  # type: ignore[arg-type]
        write_hypnogram_csv(table, stages, clip_seconds)
        write_hypnogram_edf(edf, stages, clip_seconds, start)
        written += [table, edf]
    return written


def write_hypnogram_csv(path: Path, stages: list[tuple[float, str]], clip_seconds: float) -> None:
    """Write (onset_s, stage) pairs as onset_s, duration_s, predicted_stage.

    Parameters
    ----------
    path : Path
        The file to write.
    stages : list of tuple of (float, str)
        Onset in seconds and stage of each clip.
    clip_seconds : float
        Length of a clip, in seconds.
    """

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            lines.writerow(("onset_s", "duration_s", COLUMN))
            lines.writerows((f"{onset:g}", f"{clip_seconds:g}", stage) for onset, stage in stages)

    write_file(path, write)


def write_hypnogram_edf(
    path: Path, stages: list[tuple[float, str]], clip_seconds: float, start_clock_s: float | None
) -> None:
    """Write (onset_s, stage) pairs as an EDF+ file of annotations only.

    Parameters
    ----------
    path : Path
        The file to write.
    stages : list of tuple of (float, str)
        Onset in seconds and stage of each clip.
    clip_seconds : float
        Length of a clip, in seconds.
    start_clock_s : float or None
        Time of day of the recording's start in seconds after midnight; midnight if unknown.
    """
    import edfio

    words = {UNKNOWN: "?"}
    notes = [
        edfio.EdfAnnotation(onset, clip_seconds, f"Sleep stage {words.get(stage, stage)}")
        for onset, stage in stages
    ]
    seconds = int(start_clock_s or 0)
    start = time(seconds // 3600 % 24, seconds // 60 % 60, seconds % 60)
    maker = edfio.Recording(equipment_code=EQUIPMENT)
    edf = edfio.Edf([], annotations=notes, starttime=start, recording=maker)
    write_file(path, lambda temporary: edf.write(temporary))
