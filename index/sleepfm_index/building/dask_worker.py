"""The task of a Dask worker: compute the rows of one recording, stage them, return their name."""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from distributed import Worker, WorkerPlugin, get_worker

from sleepfm import __version__
from sleepfm.encoders.external import ExternalWeights
from sleepfm_index.building.recording_task import Job, Outcome, Plan, Rows, identity_of, rows_of
from sleepfm_index.building.staging import Staging, pack, staged_name
from sleepfm_index.building.subjects import Subject, Subjects

if TYPE_CHECKING:
    from sleepfm.encoders.weights import Weights

PLUGIN: Final = "sleepfm-index"
TRIES: Final = 3
"""Attempts at a recording whose rows cannot be staged, for example because of the network."""

_one_night = threading.Lock()
"""Limits a process to one night in memory, whatever the number of threads of its worker."""
_weights: dict[str, Weights] = {}


class Work(WorkerPlugin):  # type: ignore[misc]
    """The plan that all tasks of a build share, sent once to each worker when it joins.

    It contains the hash of the weights only; a process fetches the weights from the staging. An
    encoder of another package is loaded from the worker's installation, and must be the same.

    Parameters
    ----------
    plan : Plan
        The plan of the build; its weights and subjects are not sent.
    weights : str
        SHA-256 of the staged weights; empty for an encoder of another package.
    staging, folder : str
        Location of rows and weights, as in :class:`~sleepfm_index.runtime.dask.Cluster`.
    """

    def __init__(self, plan: Plan, weights: str, staging: str, folder: str) -> None:
        self._version = __version__
        self._weights = weights
        self._external = plan.weights if isinstance(plan.weights, ExternalWeights) else None
        self._identity = identity_of(plan.weights).sha256
        self._staging = (staging, folder)
        self._running = plan.running
        self._preparation = plan.preparation
        self._present, self._withdrawn = plan.present, plan.withdrawn
        self._taken = plan.taken
        self._warn_names = plan.warn_names
        self._columns = plan.subjects.columns

    def setup(self, worker: Worker) -> None:
        """Refuse a worker with another version of this package, whose vectors might differ.

        Parameters
        ----------
        worker : distributed.Worker
            The worker that joins.

        Raises
        ------
        RuntimeError
            If its version differs from the client's.
        """
        if self._version != __version__:
            raise RuntimeError(
                f"this worker has sleepfm-index {__version__}, the client {self._version}"
            )

    def work(self, job: Job, subject: Subject) -> Rows | str:
        """Compute and stage the rows of one recording.

        Parameters
        ----------
        job : Job
            The recording.
        subject : Subject
            The recording's subject.

        Returns
        -------
        str or Rows
            The result of :func:`staged`.
        """
        staging = Staging(*self._staging)

        def name(key: str) -> str:
            return staged_name(key, job.recording_id, subject, job.truth)

        plan = self._plan(self._load_weights(staging), job.recording_id, subject)
        rows = rows_of(plan, job, is_staged=lambda key: staging.has(name(key)))
        if rows.data is not None:
            staging.write(name(rows.key), pack(rows))
        elif rows.outcome.status != "already there" or rows.key in plan.present:
            return rows
        return name(rows.key)

    def _plan(
        self, weights: Weights | ExternalWeights, recording_id: str, subject: Subject
    ) -> Plan:
        return Plan(
            weights,
            self._running,
            self._preparation,
            Subjects({recording_id: subject}, self._columns),
            self._present,
            self._withdrawn,
            self._taken,
            self._warn_names,
        )

    def _load_weights(self, staging: Staging) -> Weights | ExternalWeights:
        if self._external is not None:
            return self._external
        from sleepfm.encoders.load import load_weights

        if self._weights not in _weights:
            content = staging.read(weights_file(self._weights))
            if hashlib.sha256(content).hexdigest() != self._weights:
                raise ValueError("the staged weights are not those of the build")
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "staged.safetensors"
                path.write_bytes(content)
                loaded = replace(load_weights(path), sha256=self._identity)
            _weights.clear()
            _weights[self._weights] = loaded
        return _weights[self._weights]


def staged(job: Job, subject: Subject) -> Rows | str:
    """Read, cut and encode one recording, and stage its rows.

    Parameters
    ----------
    job : Job
        The recording.
    subject : Subject
        The recording's subject.

    Returns
    -------
    str or Rows
        Name of the rows that this task or an earlier one has staged; if there is nothing to
        commit, rows without data that give the reason.
    """
    work: Work = get_worker().plugins[PLUGIN]
    for attempt in range(1, TRIES + 1):
        try:
            with _one_night:
                return work.work(job, subject)
        # A raised error might not arrive, because the scheduler must be able to unpickle it too.
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            time.sleep(attempt * attempt if attempt < TRIES else 0)
    return Rows(Outcome(job.file.path, "failed", f"not staged after {TRIES} attempts: {why}"))


def weights_file(sha256: str) -> str:
    """Name of the staged file of weights.

    Parameters
    ----------
    sha256 : str
        Hash of the file.

    Returns
    -------
    str
    """
    return f"weights/{sha256}.safetensors"
