"""Result of a build, with a notebook representation."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sleepfm_index.building.recording_task import Outcome, Status
from sleepfm_index.results import html_table
from sleepfm_index.storage.manifest import WeightsIdentity


@dataclass(frozen=True, repr=False)
class BuildReport:
    """Result of a build.

    Parameters
    ----------
    store : Path
        The store's folder.
    weights : WeightsIdentity
        The weights that produced the vectors.
    outcomes : tuple of Outcome
        Outcome of every file, in order.
    notes : tuple of str
        Remarks about the table of subjects, and about recordings unlike those that the weights
        were trained on, one sentence each.
    """

    store: Path
    weights: WeightsIdentity
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Describe in one line how many recordings have each status."""
        return f"BuildReport: {self._summary()} -> {self.store}"

    def _repr_html_(self) -> str:
        """Show the outcome of every file in a notebook."""
        rows = [
            (
                outcome.recording_id or outcome.file.name,
                outcome.status,
                outcome.clips,
                outcome.reason or "; ".join(outcome.warnings),
            )
            for outcome in self.outcomes
        ]
        remarks = [self._summary(), *self.notes]
        if self.weights.note:
            remarks.append(f"weights {self.weights.name}: {self.weights.note}")
        return html_table(("recording", "status", "clips", "remarks"), rows, "; ".join(remarks))

    def of(self, status: Status) -> tuple[Outcome, ...]:
        """Outcomes of one status.

        Parameters
        ----------
        status : Status
            The status to select.
        """
        return tuple(o for o in self.outcomes if o.status == status)

    @property
    def clips_added(self) -> int:
        """Number of clips that this build added."""
        return sum(o.clips for o in self.outcomes)

    def _summary(self) -> str:
        counted = Counter(outcome.status for outcome in self.outcomes)
        parts = [f"{number} {status}" for status, number in counted.items()]
        return f"{', '.join(parts) or 'nothing'} ({self.clips_added:,} clips)"
