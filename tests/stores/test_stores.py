from __future__ import annotations

from pathlib import Path

import pytest

from imagetiers.errors import PipelineError
from imagetiers.stores.directory import DirectoryStore
from imagetiers.stores.gcs import GcsStore
from imagetiers.stores.open import open_store
from imagetiers.stores.port import Store


@pytest.mark.parametrize(
    ("url", "kind", "shown"),
    [
        (".imagetiers/cache", DirectoryStore, "/root/.imagetiers/cache"),
        ("/abs/olute", DirectoryStore, "/abs/olute"),
        ("gs://bucket", GcsStore, "gs://bucket"),
        ("gs://my.bucket_1/a/b/", GcsStore, "gs://my.bucket_1/a/b"),
    ],
)
def test_which_store(url: str, kind: type[Store], shown: str) -> None:
    store = open_store(url, Path("/root"))
    assert isinstance(store, kind)
    assert store.url == shown


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("", "cache: is empty"),
        ("s3://bucket/x", "s3:// is not a kind of store"),
        ("gs://", "'' is not the name of a bucket"),
        ("gs://Bucket/x", "'Bucket' is not the name of a bucket"),
        ("gs://bucket/a/../b", "'a/../b' is not a prefix of object names"),
        ("gs://bucket/" + "x" * 201, "is not a prefix"),
    ],
)
def test_what_is_not_a_store(url: str, text: str) -> None:
    with pytest.raises(PipelineError) as caught:
        open_store(url, Path())
    assert text in str(caught.value)
    assert "hint: " in str(caught.value)
