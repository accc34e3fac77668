"""The client of a build on a Dask cluster: that of the site, or processes on this machine.

One recording is one task. A worker reads, cuts and encodes it and writes its rows to shared storage
(:mod:`~sleepfm_index.building.staging`); only a name comes back through the scheduler. The client
fetches the rows in the order of the recordings and is the only process that commits. If anything
dies, committed recordings stay, staged rows are used, and only unfinished recordings are repeated.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sleepfm.encoders.external import ExternalWeights
from sleepfm.progress import Notice
from sleepfm.resources import cores
from sleepfm_index.building.recording_task import Job, Outcome, Plan, Rows, Status
from sleepfm_index.building.staging import Staging, unpack, without_query
from sleepfm_index.runtime.dask import Cluster, SchedulerLost, connected

if TYPE_CHECKING:
    from distributed import Client, Future

SECOND_CHANCES: Final = 1
"""Further attempts at a recording whose workers died as often as the scheduler allows."""


def run_jobs(plan: Plan, jobs: list[Job], cluster: Cluster, notice: Notice) -> Generator[Rows]:
    """Compute the rows of every job on a Dask cluster.

    Parameters
    ----------
    plan : Plan
        Settings common to all jobs: weights, options, subjects.
    jobs : list of Job
        One per recording.
    cluster : Cluster
        The cluster and its staging.
    notice : callable
        Called with one sentence about the cluster.

    Yields
    ------
    Rows
        Rows of each job, in order.

    Raises
    ------
    SchedulerLost
        If the connection to the scheduler is lost.
    StoreError
        If Dask is not installed, or the scheduler cannot be reached.
    """
    staging = Staging(cluster.staging, cluster.folder)
    with connected(cluster) as client:
        notice(_sentence(client, cluster))
        tasks = _Tasks(client, _share_threads(plan, cluster), jobs, cluster)
        try:
            for number in range(len(jobs)):
                rows, name = tasks.collect(number)
                yield rows
                if name:
                    staging.remove(name)  # it is committed
        finally:
            tasks.cancel_pending()
    staging.clear()


class _Tasks:
    """The tasks of a build on a cluster, one per recording."""

    def __init__(self, client: Client, plan: Plan, jobs: list[Job], cluster: Cluster) -> None:
        from sleepfm_index.building.dask_worker import PLUGIN, Work, weights_file

        staging = Staging(cluster.staging, cluster.folder)
        sha256 = ""  # an encoder of another package is loaded from the worker's installation
        if not isinstance(plan.weights, ExternalWeights):
            content = plan.weights.to_bytes()
            sha256 = hashlib.sha256(content).hexdigest()
            if not staging.has(weights_file(sha256)):
                staging.write(weights_file(sha256), content)
        client.register_plugin(Work(plan, sha256, cluster.staging, cluster.folder), name=PLUGIN)
        self._client = client
        self._modalities = plan.preparation.contract.modalities
        self._jobs = jobs
        self._subjects = [plan.subjects.of(job.recording_id) for job in jobs]
        self._staging = staging
        self._build = uuid.uuid4().hex[:8]
        self._futures: list[Future | None] = [self._submit(i, 0) for i in range(len(jobs))]

    def collect(self, number: int) -> tuple[Rows, str]:
        """Wait for one task and fetch its rows; return them with their staged name."""
        from distributed import KilledWorker

        job = self._jobs[number]
        for chance in range(1 + SECOND_CHANCES):
            try:
                staged_name = self._result(number)
                if isinstance(staged_name, Rows):
                    return _failed(job, staged_name.outcome.reason, staged_name.outcome.status), ""
                return unpack(
                    self._staging.read(staged_name), job.file.path, self._modalities
                ), staged_name
            except KilledWorker:
                # The task may have been waiting on a worker that another recording killed.
                if chance < SECOND_CHANCES:
                    self._futures[number] = self._submit(number, chance + 1)
            except SchedulerLost:
                raise
            except Exception as error:
                return _failed(job, f"{type(error).__name__}: {error}"), ""
        return _failed(job, "its worker died on every attempt"), ""

    def cancel_pending(self) -> None:
        """Cancel the tasks that were not collected, if the scheduler is still connected."""
        pending = [future for future in self._futures if future is not None]
        if pending and self._client.status == "running":
            self._client.cancel(pending, force=True)

    def _submit(self, number: int, chance: int) -> Future:
        from sleepfm_index.building.dask_worker import staged

        return self._client.submit(
            staged,
            _absolute_paths(self._jobs[number]),
            self._subjects[number],
            key=f"recording-{self._build}-{number}-{chance}",
            pure=False,
            priority=-number,
        )

    def _result(self, number: int) -> Any:
        from distributed.client import FutureCancelledError
        from distributed.comm.core import CommClosedError

        future, self._futures[number] = self._futures[number], None
        assert future is not None
        try:
            return future.result()
        except (FutureCancelledError, CommClosedError, TimeoutError) as error:
            raise SchedulerLost(
                "the connection to the Dask scheduler was lost; committed recordings are kept; "
                "start a scheduler and run the same command to resume"
            ) from error


def _failed(job: Job, reason: str, status: Status = "failed") -> Rows:
    return Rows(Outcome(job.file.path, status, reason))


def _absolute_paths(job: Job) -> Job:
    """Make the paths of a job independent of the worker's current folder."""
    file = job.file
    scoring = None if file.annotations is None else file.annotations.absolute()
    return replace(job, file=replace(file, path=file.path.absolute(), annotations=scoring))


def _share_threads(plan: Plan, cluster: Cluster) -> Plan:
    """Divide this machine's cores among its workers; other workers use their own cores."""
    if cluster.scheduler is not None:
        return plan
    threads = max(1, (plan.running.threads or cores()) // cluster.workers)
    return replace(plan, running=replace(plan.running, threads=threads))


def _sentence(client: Client, cluster: Cluster) -> str:
    count = len(client.scheduler_info(n_workers=-1)["workers"])
    location = cluster.scheduler or "this machine"
    return f"Dask: {count} workers at {location}, rows staged at {without_query(cluster.staging)}"
