"""Errors of the package."""

from sleepfm.escaping import escaped


class SleepFMError(Exception):
    """Base class of all errors of this project; the message says what happened and what to do."""

    def __str__(self) -> str:
        # Messages of libraries may contain line breaks; errors are one printable line.
        return escaped(" ".join(super().__str__().splitlines()))


class RecordingError(SleepFMError):
    """The file cannot be read as a recording; retrying does not help."""


class ChannelError(SleepFMError):
    """The channels of a recording do not fit the contract; a channels file or a flag may help."""


class AnnotationError(SleepFMError):
    """A hypnogram or event file cannot be read as scoring; retrying does not help."""


class WeightsError(SleepFMError):
    """The weights are missing, damaged, or do not fit; retrying does not help."""


class TrainingError(SleepFMError):
    """Training cannot start or continue; the last checkpoint is intact."""


class OutputError(SleepFMError):
    """An output file cannot be written; an existing file is intact."""


class SimulationError(SleepFMError):
    """A simulated cohort cannot be created with these arguments, or cannot be written."""


class SubjectsError(SleepFMError):
    """A table of subjects cannot be read or is invalid; the message names the line."""
