from .building.annotate import Annotation as Annotation
from .building.annotate import annotate as annotate
from .building.build_report import BuildReport as BuildReport
from .building.pipeline import build as build
from .errors import CommitConflict as CommitConflict
from .errors import FormatError as FormatError
from .errors import QueryError as QueryError
from .errors import SnapshotGone as SnapshotGone
from .errors import StoreError as StoreError
from .errors import StoreLocked as StoreLocked
from .indexing.planner import Plan as Plan
from .indexing.planner import plan as plan
from .indexing.reindex import reindex as reindex
from .lifecycle.compact import Compaction as Compaction
from .lifecycle.compact import compact as compact
from .lifecycle.delete import Deletion as Deletion
from .lifecycle.delete import delete as delete
from .lifecycle.move_recordings import Moved as Moved
from .lifecycle.move_recordings import move_recordings as move_recordings
from .lifecycle.restore import restore as restore
from .lifecycle.snapshots import Snapshot as Snapshot
from .lifecycle.snapshots import snapshots as snapshots
from .lifecycle.snapshots import tag as tag
from .lifecycle.snapshots import untag as untag
from .lifecycle.verify import Verification as Verification
from .lifecycle.verify import verify as verify
from .results import Result as Result
from .runtime.threads import set_threads as set_threads
from .sharing.engine import Published as Published
from .sharing.export import Exported as Exported
from .sharing.export import export as export
from .sharing.milvus.client import Served as Served
from .sharing.publish import connect as connect
from .sharing.publish import publish as publish
from .store import Store as Store
from .store import open as open  # noqa: A004

__version__: str
