"""Recordings worked on by a Dask cluster: the site's own, or processes of this machine.

One recording is one task. A worker reads, cuts and encodes it and leaves its rows on shared
storage (:mod:`~sleepfm_index.building.staging`); only a name comes back through the scheduler.
The client takes the rows in the order of the recordings and is the only one that commits. So
whatever dies, what was committed stays, what was staged is taken as it is, and only unfinished
recordings are done again.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sleepfm.resources import cores
from sleepfm_index.building.recording_task import Job, Outcome, Plan, Rows, Status
from sleepfm_index.building.staging import Staging, place, unpack
from sleepfm_index.runtime.dask import Cluster, SchedulerLost, connected

if TYPE_CHECKING:
    from distributed import Client, Future

SECOND_CHANCES: Final = 1
"""How often a recording is tried again whose workers died as often as the scheduler allows."""


def worked(
    plan: Plan, jobs: list[Job], cluster: Cluster, notice: Callable[[str], None]
) -> Generator[Rows]:
    """Give the rows of every job in order, worked out by a Dask cluster.

    Raises
    ------
    StoreError
        If Dask is not installed, no scheduler answers, or it was lost.
    """
    staging = Staging(cluster.staging, cluster.folder)
    with connected(cluster) as client:
        notice(_sentence(client, cluster))
        tasks = _Tasks(client, _divided(plan, cluster), jobs, cluster)
        try:
            for at in range(len(jobs)):
                rows, name = tasks.collected(at)
                yield rows
                if name:
                    staging.remove(name)  # it is committed
        finally:
            tasks.let_go()
    staging.clear()


class _Tasks:
    """The tasks of a build on a cluster, one a recording."""

    def __init__(self, client: Client, plan: Plan, jobs: list[Job], cluster: Cluster) -> None:
        from sleepfm_index.building.dask_worker import PLUGIN, Work, weights_file

        staging = Staging(cluster.staging, cluster.folder)
        content = plan.weights.to_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        if not staging.has(weights_file(sha256)):
            staging.write(weights_file(sha256), content)
        client.register_plugin(Work(plan, sha256, cluster.staging, cluster.folder), name=PLUGIN)
        self._client = client
        self._jobs = jobs
        self._subjects = [plan.subjects.of(job.recording_id) for job in jobs]
        self._staging = staging
        self._build = uuid.uuid4().hex[:8]
        self._futures: list[Future | None] = [self._submitted(at, 0) for at in range(len(jobs))]

    def collected(self, at: int) -> tuple[Rows, str]:
        """Wait for one task, and fetch what it staged; give that and its name."""
        from distributed import KilledWorker

        job = self._jobs[at]
        for chance in range(1 + SECOND_CHANCES):
            try:
                found = self._result(at)
                if isinstance(found, Rows):
                    return _failed(job, found.outcome.reason, found.outcome.status), ""
                return unpack(self._staging.read(found), job.file.path), found
            except KilledWorker:
                # Perhaps it only had the bad luck to wait on a worker that another one killed.
                if chance < SECOND_CHANCES:
                    self._futures[at] = self._submitted(at, chance + 1)
            except SchedulerLost:
                raise
            except Exception as error:
                return _failed(job, f"{type(error).__name__}: {error}"), ""
        return _failed(job, "it was tried again and again, and each time its worker died"), ""

    def let_go(self) -> None:
        """Have the scheduler forget what was not waited for, if there still is one."""
        left = [future for future in self._futures if future is not None]
        if left and self._client.status == "running":
            self._client.cancel(left, force=True)

    def _submitted(self, at: int, chance: int) -> Future:
        from sleepfm_index.building.dask_worker import staged

        return self._client.submit(
            staged,
            _anywhere(self._jobs[at]),
            self._subjects[at],
            key=f"recording-{self._build}-{at}-{chance}",
            pure=False,
            priority=-at,
        )

    def _result(self, at: int) -> Any:
        from distributed.client import FutureCancelledError
        from distributed.comm.core import CommClosedError

        future, self._futures[at] = self._futures[at], None
        assert future is not None
        try:
            return future.result()
        except (FutureCancelledError, CommClosedError, TimeoutError) as error:
            raise SchedulerLost(
                "the Dask scheduler was lost; what was committed stays, and the same command goes "
                "on from there with another one"
            ) from error


def _failed(job: Job, reason: str, status: Status = "failed") -> Rows:
    return Rows(Outcome(job.file.path, status, reason))


def _anywhere(job: Job) -> Job:
    """Give a job by paths that do not depend on where a worker was started."""
    file = job.file
    scoring = None if file.annotations is None else file.annotations.absolute()
    return replace(job, file=replace(file, path=file.path.absolute(), annotations=scoring))


def _divided(plan: Plan, cluster: Cluster) -> Plan:
    """Share this machine's cores out to its workers; those of a site have their own."""
    channels = plan.preparation.channels
    if channels is not None:
        plan = replace(plan, preparation=replace(plan.preparation, channels=channels.absolute()))
    if cluster.scheduler is not None:
        return plan
    threads = max(1, (plan.running.threads or cores()) // cluster.workers)
    return replace(plan, running=replace(plan.running, threads=threads))


def _sentence(client: Client, cluster: Cluster) -> str:
    count = len(client.scheduler_info(n_workers=-1)["workers"])
    where = cluster.scheduler or "this machine"
    return f"Dask: {count} workers at {where}, rows staged at {place(cluster.staging)}"
