"""A registry over HTTP (the OCI distribution API): look-ups with three answers, labels, tags that are moved."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from imagetiers.documents import is_digest, parse_object
from imagetiers.errors import ImagetiersError, Problem, RegistryError, TagMovedError
from imagetiers.patience import in_parallel
from imagetiers.planning.labels import Label
from imagetiers.planning.observed import Absent, Answer, ImageInfo, Present, Unknown
from imagetiers.retry import RetryPolicy, retry

if TYPE_CHECKING:
    from imagetiers.adapters.registry_http import Manifest, RegistryHttp
    from imagetiers.layers.archive import ImageFiles
    from imagetiers.layers.model import FileLayer, ReadOptions
    from imagetiers.services import Referrer

__all__ = ["LOOK_UP", "HttpRegistry"]

_T = TypeVar("_T")
_THREADS = 64
_DOWN_SECONDS = 30.0
LOOK_UP = RetryPolicy(first=0.25, most=4.0, total=10.0, connect=5.0, answer=15.0)
_MOST_BYTES = 1 << 50  # of a layer: what is said to be larger is no layer
_LONGER = 6.0  # a command comes after hours of work, so it is tried so many times longer than a query


class HttpRegistry:
    """The real Registry, of any host. Connects when it is first asked; `requests` and `docker` are imported then, too."""

    def __init__(self, policy: RetryPolicy = LOOK_UP) -> None:
        self._policy = policy
        self._for_commands = replace(policy, total=_LONGER * policy.total)
        self._lock = threading.Lock()
        self._connected: RegistryHttp | None = None
        self._down: dict[str, tuple[float, str]] = {}  # host -> until when nobody waits for it again, and why

    def look_up(self, refs: Iterable[str]) -> Mapping[str, Answer]:
        """Ask for all of them at once, in parallel."""
        return self._batch(refs, self._look_up)

    def describe(self, found: Mapping[str, Present]) -> Mapping[str, ImageInfo | Unknown]:
        """Read the labels of what `look_up` has found, in parallel; what has none (a list of manifests) is left out."""
        infos = self._batch(found, lambda ref: self._describe(ref, found[ref]))
        return {ref: info for ref, info in infos.items() if info is not None}

    def tags(self, repository: str) -> tuple[str, ...] | Unknown:
        """Return the tags of a repository; none when there is no such repository."""
        return self._batch([repository], self._tags)[repository]

    def set_tag(self, ref: str, digest: str, source: str = "") -> None:
        """Let the tag `ref` point to a manifest of the repository `source`, or of its own, and read it back.

        From another repository the very same manifest is copied, after what it refers to; as `repository@digest` it has no tag
        there. Raises TagMovedError.
        """
        repository = ref.partition("@")[0] if "@" in ref else ref.rpartition(":")[0]
        source = source or repository
        manifest = self._call(ref, lambda wire: wire.manifest(f"{source}@{digest}"))
        if manifest is None:
            raise RegistryError(Problem(f"{source}@{digest}", "is not in the registry (any more)", "doit again"))
        if source != repository:
            self._copy(manifest, source, repository)
        self._call(ref, lambda wire: wire.put_manifest(ref, manifest), self._for_commands)
        answer = self._look_up(ref)
        if not isinstance(answer, Present) or answer.digest != digest:
            told = answer.digest[:19] if isinstance(answer, Present) else "absent"
            what = f"was pointed to {digest[:19]}, but read back it is {told}"
            raise TagMovedError(Problem(ref, what, "somebody moves it at the same time; doit again"))

    def referrers(self, ref: str) -> tuple[Referrer, ...] | Unknown:
        """Return what is attached to `repository@digest` (OCI 1.1), by the registry's list or the tag in its place."""
        from imagetiers.adapters.referrers import listed

        return self._batch([ref], lambda ref: self._call(ref, partial(listed, ref=ref)))[ref]

    def attach(self, ref: str, media_type: str, content: bytes, annotations: Mapping[str, str]) -> str:
        """Attach a document to `repository@digest`, once; return the digest of its manifest. Raises RegistryError."""
        from imagetiers.adapters.referrers import attach

        work = partial(attach, ref=ref, media_type=media_type, content=content, annotations=annotations)
        return self._call(ref, work, self._for_commands)

    def attached(self, ref: str) -> bytes:
        """Return the document of an attachment, `repository@digest` being its manifest. Raises RegistryError."""
        from imagetiers.adapters.referrers import document

        return self._call(ref, partial(document, ref=ref))

    def read_image(self, ref: str, wanted: ReadOptions) -> ImageFiles:
        """Read the configuration and the files of `repository@digest`, and keep nothing. Raises RegistryError."""
        from imagetiers.layers.archive import ImageFiles
        from imagetiers.layers.image_config import read_image_config
        from imagetiers.layers.model import LayerError
        from imagetiers.layers.read import Chunks, read_layer
        from imagetiers.layers.tree import merge

        manifest = self._call(ref, lambda wire: wire.manifest(ref))
        if manifest is None:
            raise RegistryError(Problem(ref, "is not in the registry (any more)", "doit again"))
        repository = ref.partition("@")[0]
        (config, _), *blobs = _descriptors(ref, parse_object(manifest.body) or {})

        def read(wire: RegistryHttp, digest: str, size: int) -> FileLayer:
            pieces = wire.stream_blob(repository, digest, size)
            layer = read_layer(Chunks(pieces), wanted)
            for _ in pieces:  # what comes behind the tar belongs to the digest, too
                pass
            return layer

        try:
            document = self._call(ref, lambda wire: wire.blob(repository, config))
            if document is None or f"sha256:{hashlib.sha256(document).hexdigest()}" != config:
                raise RegistryError(Problem(ref, "its configuration is not the one that its manifest names"))
            layers = [
                self._call(ref, partial(read, digest=digest, size=size), self._for_commands) for digest, size in blobs
            ]
            return ImageFiles(read_image_config(parse_object(document) or {}), tuple(layers), merge(layers))
        except LayerError as error:
            raise RegistryError(
                Problem(ref, f"its files cannot be read, so nothing is known of them: {error}")
            ) from error

    def _copy(self, manifest: Manifest, source: str, repository: str) -> None:
        """Let another repository have what the manifest refers to; one that has the manifest has that, too."""
        known = f"{repository}@{manifest.digest}"
        if self._call(known, lambda wire: wire.manifest(known)) is not None:
            return
        blobs = _blobs(f"{source}@{manifest.digest}", manifest.body)

        def copy(digest: str) -> None:
            ref = f"{repository}@{digest}"
            self._call(ref, lambda wire: wire.copy_blob(source, ref, blobs[digest]), self._for_commands)

        in_parallel(copy, blobs, _THREADS)

    def _look_up(self, ref: str) -> Answer:
        manifest = self._call(ref, lambda wire: wire.manifest(ref))
        if manifest is None:
            return Absent()
        image, layers = _contents(ref, manifest.body)
        return Present(manifest.digest, image, sum(size for _, size in layers), layers)

    def _describe(self, ref: str, answer: Present) -> ImageInfo | None:
        if not answer.image:
            return None
        repository = ref.partition("@")[0] if "@" in ref else ref.rpartition(":")[0]
        blob = self._call(ref, lambda wire: wire.blob(repository, answer.image))
        if blob is None:
            return None
        return _image_info(ref, answer, blob)

    def _tags(self, repository: str) -> tuple[str, ...]:
        return self._call(repository, lambda wire: wire.tags(repository))

    def _batch(self, refs: Iterable[str], ask: Callable[[str], _T]) -> dict[str, _T | Unknown]:
        names = tuple(dict.fromkeys(refs))

        def told(ref: str) -> _T | Unknown:
            try:
                return ask(ref)
            except ImagetiersError as error:
                return Unknown("; ".join(f"{p.where}: {p.what}" for p in error.problems))

        return dict(zip(names, in_parallel(told, names, _THREADS), strict=True))

    def _call(self, ref: str, work: Callable[[RegistryHttp], _T], policy: RetryPolicy | None = None) -> _T:
        """Ask with retries; a host that has just used up all of them is not waited for again at once."""
        from imagetiers.adapters import registry_http

        host = registry_http.split(ref).host
        until, reason = self._down.get(host, (0.0, ""))
        if time.monotonic() < until:
            raise RegistryError(Problem(ref, reason))
        try:
            return retry(policy or self._policy, lambda: work(self._wire()), partial(registry_http.judge, ref))
        except RegistryError as error:
            if error.problems[0].hint == registry_http.NO_ANSWER:
                self._down[host] = time.monotonic() + _DOWN_SECONDS, error.problems[0].what
            raise

    def _wire(self) -> RegistryHttp:
        from imagetiers.adapters import registry_http

        with self._lock:
            if self._connected is None:
                self._connected = registry_http.RegistryHttp(self._policy, _THREADS)
            return self._connected


def _contents(ref: str, body: bytes) -> tuple[str, tuple[tuple[str, int], ...]]:
    """Return the image's id, and digests and compressed bytes of its layers; nothing of what is a list of manifests.

    Raises RegistryError for what is neither.
    """
    document = parse_object(body) or {}
    if "config" not in document and isinstance(document.get("manifests"), list):
        return "", ()
    config, *layers = _descriptors(ref, document)
    return config[0], tuple(layers)


def _blobs(ref: str, body: bytes) -> dict[str, int]:
    """Return the digests of the configuration and of the layers, and how many bytes each has."""
    document = parse_object(body) or {}
    if "config" not in document and "manifests" in document:
        raise RegistryError(Problem(ref, "is no image but a list of them, which is not copied to another repository"))
    return dict(_descriptors(ref, document))


def _descriptors(ref: str, document: dict[str, Any]) -> list[tuple[str, int]]:
    """Return digest and bytes of the configuration, then of the layers. Raises RegistryError for what is no manifest."""
    layers = document.get("layers")
    blobs = [document.get("config"), *(layers if isinstance(layers, list) else [None])]
    found: list[tuple[str, int]] = []
    for blob in blobs:
        digest, size = (blob.get("digest"), blob.get("size")) if isinstance(blob, dict) else (None, None)
        if not is_digest(digest) or not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < _MOST_BYTES:
            raise RegistryError(Problem(ref, "what the registry has there is no image's manifest"))
        found.append((str(digest), size))
    return found


def _image_info(ref: str, answer: Present, blob: bytes) -> ImageInfo:
    from datetime import datetime

    if f"sha256:{hashlib.sha256(blob).hexdigest()}" != answer.image:
        raise RegistryError(Problem(ref, "its configuration is not the one that its manifest names"))
    document = parse_object(blob)
    if document is None:
        raise RegistryError(Problem(ref, "its configuration is not one"))
    config = document.get("config")
    given = config.get("Labels") if isinstance(config, dict) else None
    labels = {name: text for name, text in (given if isinstance(given, dict) else {}).items() if isinstance(text, str)}
    try:
        created = int(datetime.fromisoformat(document["created"][:19] + "+00:00").timestamp())
    except (KeyError, ValueError, TypeError, OverflowError):
        created = 0
    return ImageInfo(
        id=answer.image,
        refs=(ref,),
        pipeline=labels.get(Label.PIPELINE, ""),
        variant=labels.get(Label.VARIANT, ""),
        tier=labels.get(Label.TIER, ""),
        key=labels.get(Label.KEY, ""),
        created=created,
        size=answer.size,
        key_document=labels.get(Label.KEY_DOCUMENT, ""),
        trust=labels.get(Label.TRUST, ""),
        digests=(answer.digest,),
    )
