from .find import Found as Found
from .find import LeftOut as LeftOut
from .find import RecordingFile as RecordingFile
from .find import find_recordings as find_recordings
from .read import read_recording as read_recording
from .recording import Channel as Channel
from .recording import Recording as Recording
