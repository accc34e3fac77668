"""Errors between a recording and its vectors."""


class SleepFMError(Exception):
    """Base of every error of this project; its text says what happened and what to do."""

    def __str__(self) -> str:
        # Libraries and files put line breaks into what they say; here it stays one line.
        return " ".join(super().__str__().splitlines())


class RecordingError(SleepFMError):
    """The file cannot be read as a recording; retrying does not help."""


class ChannelError(SleepFMError):
    """The channels of a recording do not fit the contract; a channels file or a flag may help."""


class AnnotationError(SleepFMError):
    """A hypnogram or event file cannot be read as scoring; retrying does not help."""


class WeightsError(SleepFMError):
    """The weights are missing, damaged, or do not fit; retrying does not help."""


class TrainingError(SleepFMError):
    """Training cannot start or go on; the last checkpoint is intact."""


class OutputError(SleepFMError):
    """A file cannot be written where it was asked for; what was there before is intact."""


class SimulationError(SleepFMError):
    """A simulated cohort cannot be made or written as asked; the text says what to change."""


class SubjectsError(SleepFMError):
    """A table of subjects cannot be read or meant as it stands; the text names the line."""
