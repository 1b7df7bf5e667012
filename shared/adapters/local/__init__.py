"""The embedded backend: blobs as files in a folder, everything else in one SQLite file (docs/adr/0005).

Open one `LocalStore` per process and give it to the adapters; several processes may use the same folder at once.
"""

from shared.adapters.local.access import LocalAuditRepository, LocalTokenRepository
from shared.adapters.local.alerts import LocalAlertRepository
from shared.adapters.local.blobs import BlobChange, LocalBlobStore
from shared.adapters.local.detections import LocalDetectionRepository
from shared.adapters.local.jobs import LocalJobRepository
from shared.adapters.local.people import LocalPersonRepository
from shared.adapters.local.queues import LocalWorkQueue
from shared.adapters.local.store import LocalStore

__all__ = [
    "BlobChange",
    "LocalAlertRepository",
    "LocalAuditRepository",
    "LocalBlobStore",
    "LocalDetectionRepository",
    "LocalJobRepository",
    "LocalPersonRepository",
    "LocalStore",
    "LocalTokenRepository",
    "LocalWorkQueue",
]
