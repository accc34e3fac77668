"""Learning curve of the supervised baseline over subjects, for comparison with a probe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sleepfm.atomic_write import write_file
from sleepfm.progress import Notice, Progress
from sleepfm_index.evaluation.labels.splits import Split
from sleepfm_index.evaluation.models.features import check_features
from sleepfm_index.evaluation.models.few_shot import Draws
from sleepfm_index.evaluation.models.supervised_baseline import Networks, Training
from sleepfm_index.evaluation.models.train_test import divide
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result


def supervise_few_shot(
    store: Reader,
    label: str,
    shots: Sequence[int],
    out: str | Path,
    training: Training,
    *,
    repeats: int = 3,
    features: str | None = None,
    seed: int = 0,
    where: str | None = None,
    task: str = "auto",
    classes: Sequence[str] | None = None,
    split: Split | None = None,
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> Result:
    """Train networks on few subjects, with the same draws as ``few_shot``.

    Parameters
    ----------
    store, label, out, training, features, seed, where, task, classes, split, progress, notice
        As in :func:`.supervised_baseline.supervise`; ``out`` is the learning curve, and the
        networks are stored in the folder ``<stem>.folds`` next to it.
    shots : sequence of int
        Numbers of training subjects. With one subject, the epoch is chosen on that subject too.
    repeats : int
        Number of draws; the first draws are those of a probe with the same seed.

    Returns
    -------
    Result
        The table in ``out``: rows like those of :func:`.few_shot.few_shot`, for ``cnn <features>``.

    Raises
    ------
    QueryError
        As in ``few_shot`` and ``supervise``.
    TrainingError
        If training cannot start or continue.
    """
    known = store.manifest.modalities
    features = features or "+".join(known)
    check_features(features, known)
    plan = divide(
        store, label, split or Split(), where=where, task=task, classes=classes, seed=seed
    )
    out = Path(out)
    draws = Draws.of(plan, features, shots, repeats, seed)
    folder = out.with_name(f"{out.stem}.folds")
    networks = Networks.of(plan, features, folder, training, progress, notice)

    def predicted(chosen: NDArray[np.int64], name: str) -> NDArray[np.float64]:
        file = f"{name}-{plan.identity[:12]}-{features}"
        title = name.replace("-", " ")
        scores = networks.predict(plan.train.take(chosen), draws.test, file, title)
        return scores.astype(np.float64)

    rows = draws.measured(f"cnn {features}", predicted)
    note = (
        f"a network on the stacked channels of {features}; {plan.train.note}; {repeats} draws of "
        "subjects, the same subjects tested throughout"
    )
    table = pa.Table.from_pylist(rows).replace_schema_metadata({b"sleepfm_note": note.encode()})
    write_file(out, lambda path: pq.write_table(table, path, compression="zstd"))
    return Result(table, note)
