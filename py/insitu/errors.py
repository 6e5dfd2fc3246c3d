"""Every error that insitu raises on purpose.

Each has a stable `code` (kebab-case, part of the API: JS callers and scripts match on it) and a message that says
what happened, with which value, and what to do about it.
"""

from __future__ import annotations


class InsituError(Exception):
    """Base of all errors raised on purpose. `code` is stable; `str(error)` is for people."""

    code = "insitu"


class ModelNotFound(InsituError):
    """No manifest, or no exported model, of that name."""

    code = "model-not-found"


class ModelCorrupt(InsituError):
    """A model file has the wrong size, hash or content."""

    code = "model-corrupt"


class LicenceNotAccepted(InsituError):
    """The weights are under terms that were not accepted on this machine. The message says where they are."""

    code = "licence-not-accepted"


class FetchFailed(InsituError):
    """No source of a model file answered."""

    code = "fetch-failed"


class VariantUnsupported(InsituError):
    """The model has no such quantisation variant."""

    code = "variant-unsupported"


class DimUnsupported(InsituError):
    """`dim` is not between 1 and the model's full size."""

    code = "dim-unsupported"


class TaskUnsupported(InsituError):
    """The model has no prompt for that task."""

    code = "task-unsupported"


class SpaceMismatch(InsituError):
    """Vectors of two embedding spaces were about to be compared."""

    code = "space-mismatch"


class IndexNotFound(InsituError):
    """There is no index at that place."""

    code = "index-not-found"


class IndexVersion(InsituError):
    """The index has a format version that this release does not read."""

    code = "index-version"


class IndexCorrupt(InsituError):
    """An index file has the wrong size, hash or content."""

    code = "index-corrupt"


class CollectionVersion(InsituError):
    """The collection, or the export of one, has a format version that this release does not read."""

    code = "collection-version"


class CollectionCorrupt(InsituError):
    """A part of a collection is not what was written. The rest answers; `stats()` says what is missing."""

    code = "collection-corrupt"


class ExportCorrupt(InsituError):
    """The file is no export of a collection, or was cut or altered. Nothing was imported."""

    code = "export-corrupt"


class WrongPassphrase(InsituError):
    """The export is encrypted, and the passphrase does not open it."""

    code = "wrong-passphrase"


class InvalidDocument(InsituError):
    """A document cannot be put: the message names it and says why. Nothing was put."""

    code = "invalid-document"


class InvalidFilter(InsituError):
    """`where` is no filter over the fields of the collection."""

    code = "invalid-filter"


class StorageUnavailable(InsituError):
    """The browser keeps nothing here: a private window, or a page that came by plain http."""

    code = "storage-unavailable"


class NoDocuments(InsituError):
    """The folder has nothing to index."""

    code = "no-documents"


class ReadFailed(InsituError):
    """A file of the site cannot be read."""

    code = "read-failed"


class WrongEncoding(InsituError):
    """A page is not in the encoding that it declares."""

    code = "wrong-encoding"


class EmptyQuery(InsituError):
    """The query has no text."""

    code = "empty-query"


class InvalidArgument(InsituError):
    """An argument is outside its range or of another type."""

    code = "invalid-argument"


class NotANumber(InsituError):
    """The model gave NaN or infinity: it never leaves the runtime."""

    code = "not-a-number"


class Aborted(InsituError):
    """The caller ended the call."""

    code = "aborted"


class DiskFull(InsituError):
    """No space was left while writing; what was there before is whole."""

    code = "disk-full"


class WriteFailed(InsituError):
    """A file could not be written, for a reason other than space; what was there before is whole."""

    code = "write-failed"


class RuntimeUnavailable(InsituError):
    """The model cannot run here: a package is missing, or a worker did not start."""

    code = "runtime-unavailable"


class PortInUse(InsituError):
    """Another program listens on that port."""

    code = "port-in-use"
