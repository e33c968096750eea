"""From `cache:` in pipeline.yaml to a Store."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from imagetiers.errors import PipelineError, Problem
from imagetiers.extras import missing_extra
from imagetiers.retry import RetryPolicy
from imagetiers.stores.directory import DirectoryStore
from imagetiers.stores.names import is_name
from imagetiers.stores.port import Store

__all__ = ["open_store"]

_PREFIX_BYTES = 200  # with the longest object name, within GCS's 1,024
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


def open_store(
    url: str,
    root: Path,
    *,
    threads: int = 32,
    timeout: float | None = None,
    hurried: Callable[[], bool] = lambda: False,
) -> Store:
    """Make the store for `gs://bucket/prefix` or a directory (relative ones are below `root`). Touches nothing yet.

    `threads` is how many will use it at once, `timeout` for how many seconds a bucket that does not answer is tried
    again; once `hurried` says so, it is not. Raises PipelineError for anything else, and for a
    bucket when the extra `gcs` is not installed.
    """
    scheme, found, rest = url.partition("://")
    if not found:
        if not url.strip() or "\0" in url:
            raise PipelineError(Problem("cache", "is empty", "write a directory or gs://BUCKET/PREFIX"))
        return DirectoryStore(root / url)
    bucket, _, prefix = rest.partition("/")
    if scheme != "gs":
        hint = "write gs://BUCKET/PREFIX, or a directory without a scheme"
        raise PipelineError(Problem("cache", f"{scheme}:// is not a kind of store", hint))
    if not _BUCKET.fullmatch(bucket):
        hint = "3 to 222 characters: lower-case letters, digits, '-', '_' and '.'"
        raise PipelineError(Problem("cache", f"{bucket!r} is not the name of a bucket", hint))
    prefix = prefix.strip("/")
    if prefix and not (is_name(prefix) and len(prefix.encode()) <= _PREFIX_BYTES):
        raise PipelineError(Problem("cache", f"{prefix!r} is not a prefix of object names", "write gs://BUCKET/PREFIX"))
    missing = missing_extra("google.cloud.storage", "gcs", "cache", url)
    if missing is not None:
        raise PipelineError(missing)
    from imagetiers.stores.gcs import GcsStore

    policy = None if timeout is None else RetryPolicy(total=timeout)
    return GcsStore(bucket, prefix, threads=threads, policy=policy, hurried=hurried)
