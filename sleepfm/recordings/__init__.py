"""Reading of recordings: one reader per format, channels and scoring."""

from sleepfm.recordings.find import Found, LeftOut, RecordingFile, find_recordings
from sleepfm.recordings.read import read_recording
from sleepfm.recordings.recording import Channel, Recording

__all__ = [
    "Channel",
    "Found",
    "LeftOut",
    "Recording",
    "RecordingFile",
    "find_recordings",
    "read_recording",
]
