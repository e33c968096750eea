"""The ways to move a cache directory that are Python: each runs once, in a process of its own, and says what it took.

    python -m benchmarks.cache_clients CLIENT VERB JOB.json

prints one line of JSON: wall and CPU seconds of the work. Interpreter start and imports are not in them; the connection
is. Every client gets what its library offers at its best: a connection pool as large as its threads, threads (which
beat processes on few cores), the checksums that are the default.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlsplit

import google_crc32c
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage import transfer_manager
from requests.adapters import HTTPAdapter

from benchmarks.cache_data import paths
from benchmarks.cache_methods import Job
from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import push
from imagetiers.stores import gcs_errors
from imagetiers.stores import gcs_http as gcs_wire
from imagetiers.stores.gcs import GcsStore

__all__ = ["CLIENTS", "main"]

THREADS = 16
CHUNK = 32 << 20
PIECE = 8 << 20
PRELOADED = (gcs_errors, gcs_wire)
"""Modules that GcsStore would import at its first call: the other clients' imports are not timed either."""


def imagetiers_push(job: Job) -> None:
    """Push with this project, as the compile step does."""
    result = push(_store(job), "main", Path(job.folder), step=job.step, since=job.since)
    if result.skipped or result.lost:
        raise RuntimeError(f"{result.skipped[:3]} {result.lost[:3]}")


def imagetiers_pull(job: Job) -> None:
    """Pull with this project: the working set of the job's step."""
    result = pull(_store(job), ["main"], Path(job.folder), step=job.step)
    if result.quarantined or result.stopped:
        raise RuntimeError(f"{result.quarantined[:3]} {result.stopped}")


def threads_push(job: Job) -> None:
    """List and compare by CRC32C, then upload what differs, one object a file, on 16 threads."""
    bucket = _bucket(job)
    with ThreadPoolExecutor(THREADS) as pool:

        def one(path: str) -> None:
            bucket.blob(f"{job.prefix}/{path}").upload_from_filename(f"{job.folder}/{path}")

        list(pool.map(one, _changed(job, _listed(job, bucket), paths(Path(job.folder)))))


def threads_pull(job: Job) -> None:
    """List and compare by CRC32C, then download what differs on 16 threads; a list of files needs no listing."""
    bucket = _bucket(job)
    wanted = _wanted(job, bucket)
    _make_folders(job, wanted)
    with ThreadPoolExecutor(THREADS) as pool:

        def one(path: str) -> None:
            bucket.blob(f"{job.prefix}/{path}").download_to_filename(f"{job.folder}/{path}")

        list(pool.map(one, wanted))


def manager_push(job: Job) -> None:
    """As `threads_push`, with the library's own transfer_manager."""
    bucket = _bucket(job)
    changed = _changed(job, _listed(job, bucket), paths(Path(job.folder)))
    transfer_manager.upload_many_from_filenames(
        bucket,
        changed,
        source_directory=job.folder,
        blob_name_prefix=f"{job.prefix}/",
        worker_type=transfer_manager.THREAD,
        max_workers=THREADS,
        raise_exception=True,
    )


def manager_pull(job: Job) -> None:
    """As `threads_pull`, with the library's own transfer_manager."""
    bucket = _bucket(job)
    wanted = _wanted(job, bucket)
    transfer_manager.download_many_to_path(
        bucket,
        wanted,
        destination_directory=job.folder,
        blob_name_prefix=f"{job.prefix}/",
        worker_type=transfer_manager.THREAD,
        max_workers=THREADS,
        raise_exception=True,
    )


def tar_push(job: Job) -> None:
    """Stream `tar | zstd -1` into one object; there is nothing to compare with."""
    command = f"tar -C {shlex.quote(job.folder)} -cf - . | zstd -1 -T0 -q"
    blob = _bucket(job).blob(f"{job.prefix}/cache.tar.zst")
    with (
        subprocess.Popen(["bash", "-o", "pipefail", "-c", command], stdout=subprocess.PIPE) as process,
        blob.open("wb", chunk_size=CHUNK, ignore_flush=True) as file,
    ):
        shutil.copyfileobj(_open(process.stdout), file, 1 << 20)
    if process.returncode:
        raise RuntimeError(f"tar | zstd ended with {process.returncode}")


def tar_pull(job: Job) -> None:
    """Stream the object into `zstd -d | tar x`; of a list of files only those are written."""
    names = "" if job.some is None else f" -T {shlex.quote(_list_file(job))}"
    command = f"zstd -dc -q | tar -C {shlex.quote(job.folder)} -xf -{names}"
    with subprocess.Popen(["bash", "-o", "pipefail", "-c", command], stdin=subprocess.PIPE) as process:
        _bucket(job).blob(f"{job.prefix}/cache.tar.zst").download_to_file(_open(process.stdin))
        _open(process.stdin).close()
    if process.returncode:
        raise RuntimeError(f"zstd | tar ended with {process.returncode}")


def local_pull(job: Job) -> None:
    """Unpack a local tar file: the floor."""
    subprocess.run(["tar", "-C", job.folder, "-xf", job.source], check=True)


def floor_push(job: Job) -> None:
    """Read these files, and store their bytes in pieces as large as a pack: no name, no check, nothing compared."""
    with ThreadPoolExecutor(THREADS) as pool:

        def one(numbered: tuple[int, list[str]]) -> None:
            number, names = numbered
            body = b"".join(Path(job.like, name).read_bytes() for name in names)
            where = f"/upload/storage/v1/b/{job.bucket}/o?uploadType=media&name={job.prefix}/{job.step}-{number}"
            _ask("POST", job.url, where, body)

        list(pool.map(one, enumerate(_pieces(job))))


def floor_pull(job: Job) -> None:
    """Get as many bytes as these files have, in objects as large as a pack, and write the files: nothing is checked."""
    with ThreadPoolExecutor(THREADS) as pool:

        def one(numbered: tuple[int, list[str]]) -> None:
            number, names = numbered
            data = memoryview(_ask("GET", job.url, f"/download/storage/v1/b/{job.bucket}/o/{stored[number]}?alt=media"))
            at = 0
            for name in names:
                size = os.stat(f"{job.like}/{name}").st_size  # noqa: PTH116  as fast as can be
                fd = os.open(f"{job.folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
                os.write(fd, data[at : at + size])
                os.close(fd)
                at += size

        pieces = _pieces(job)
        listed = _bucket(job).list_blobs(prefix=f"{job.prefix}/build-", fields="items(name,size),nextPageToken")
        blobs = sorted(listed, key=lambda blob: -blob.size)
        pieces.sort(key=lambda names: -sum(Path(job.like, name).stat().st_size for name in names))
        stored = [quote(blob.name, safe="") for blob in blobs]
        _make_folders(job, [name for names in pieces for name in names])
        list(pool.map(one, enumerate(pieces)))


CLIENTS: dict[tuple[str, str], Callable[[Job], None]] = {
    ("imagetiers", "push"): imagetiers_push,
    ("imagetiers", "pull"): imagetiers_pull,
    ("threads", "push"): threads_push,
    ("threads", "pull"): threads_pull,
    ("manager", "push"): manager_push,
    ("manager", "pull"): manager_pull,
    ("tar", "push"): tar_push,
    ("tar", "pull"): tar_pull,
    ("local", "pull"): local_pull,
    ("floor", "push"): floor_push,
    ("floor", "pull"): floor_pull,
}


def _pieces(job: Job) -> list[list[str]]:
    """Cut the job's files into pieces of at most 8 MiB, or of one file."""
    pieces: list[list[str]] = [[]]
    held = 0
    for name in job.some or ():
        size = Path(job.like, name).stat().st_size
        if pieces[-1] and held + size > PIECE:
            pieces.append([])
            held = 0
        pieces[-1].append(name)
        held += size
    return pieces


_here = threading.local()


def _ask(method: str, url: str, where: str, body: bytes | None = None) -> bytes:
    """Send a request over this thread's connection; return the body of the answer."""
    made: http.client.HTTPConnection | None = getattr(_here, "connection", None)
    if made is None:
        made = _here.connection = http.client.HTTPConnection(urlsplit(url).netloc)
    made.request(method, where, body)
    answer = made.getresponse()
    data = answer.read()
    if answer.status != HTTPStatus.OK:
        raise RuntimeError(f"{method} {where}: {answer.status}")
    return data


def _open(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise TypeError
    return pipe


def _store(job: Job) -> GcsStore:
    return GcsStore(job.bucket, job.prefix, endpoint=job.url)


def _bucket(job: Job) -> storage.Bucket:
    client = storage.Client(
        project="benchmark", credentials=AnonymousCredentials(), client_options={"api_endpoint": job.url}
    )
    client._http.mount("http://", HTTPAdapter(pool_connections=4, pool_maxsize=THREADS))  # noqa: SLF001  the known way
    return client.bucket(job.bucket)


def _listed(job: Job, bucket: storage.Bucket) -> dict[str, str]:
    blobs = bucket.list_blobs(prefix=f"{job.prefix}/", fields="items(name,crc32c),nextPageToken")
    return {blob.name.removeprefix(f"{job.prefix}/"): blob.crc32c for blob in blobs}


def _changed(job: Job, listed: dict[str, str], local: Iterable[str]) -> list[str]:
    """Local files that the server does not have with this content."""
    return [path for path in local if path not in listed or _crc32c(job, path) != listed[path]]


def _wanted(job: Job, bucket: storage.Bucket) -> list[str]:
    if job.some is not None:
        return list(job.some)
    local = set(paths(Path(job.folder)))
    listed = _listed(job, bucket)
    return [path for path in listed if path not in local or _crc32c(job, path) != listed[path]]


def _crc32c(job: Job, path: str) -> str:
    data = Path(job.folder, path).read_bytes()
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def _make_folders(job: Job, wanted: Iterable[str]) -> None:
    for folder in {os.path.dirname(path) for path in wanted}:  # noqa: PTH120
        Path(job.folder, folder).mkdir(parents=True, exist_ok=True)


def _list_file(job: Job) -> str:
    path = Path(f"{job.folder}.list")
    path.write_text("".join(f"./{name}\n" for name in job.some or ()))
    return str(path)


def _cpu() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peak() -> float:
    """Peak memory in MB of this process; ru_maxrss would count the starter's, too."""
    own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(own.split()[1]) / 1024


def main() -> None:
    """Do one job and print what it took."""
    client, verb, file = sys.argv[1:]
    values = json.loads(Path(file).read_text())
    values["some"] = None if values["some"] is None else tuple(values["some"])
    job = Job(**values)
    began, cpu = time.perf_counter(), _cpu()
    CLIENTS[client, verb](job)
    taken = {"wall": time.perf_counter() - began, "cpu": _cpu() - cpu, "rss": _peak()}
    print(json.dumps(taken))


if __name__ == "__main__":
    main()
