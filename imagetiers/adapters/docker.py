"""The Docker engine: its API through the docker SDK, and `docker buildx build` through the CLI (the SDK has no BuildKit)."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from imagetiers.adapters.docker_errors import DISK_FULL, disk_full, engine_errors, import_sdk, no_answer, refused
from imagetiers.adapters.docker_socket import DEFAULT_SOCKET, ask, unix_socket
from imagetiers.adapters.process import LONGEST_LINE, run
from imagetiers.config.layout import Volume
from imagetiers.documents import is_digest
from imagetiers.errors import BuildError, EngineError, Interrupted, Problem, RegistryError
from imagetiers.planning.labels import Label
from imagetiers.planning.observed import CacheRecord, ImageInfo, Stored
from imagetiers.retry import RetryDecision, RetryPolicy, retry
from imagetiers.services import Cancellation, ContainerLoad, ContainerState, EngineInfo, OnLine

if TYPE_CHECKING:
    from docker import types
    from docker.api.client import APIClient
    from requests import Response

    from imagetiers.layers.image_config import ImageConfig
    from imagetiers.planning.containers import BindMount, BuildImage, Container, VolumeMount

__all__ = ["DockerEngine"]

_STDIN_SECONDS = 60
_FIRST_ANSWER = 15  # seconds
_FIRST_PIECE = 1800  # seconds: the engine writes all of an image to a file before it sends any, minutes for 7 GB
_ANSWER = 60  # seconds, as the SDK has it
_PIECE = 1 << 20  # bytes of an archive
_ASK_AGAIN = 30.0  # seconds after a daemon was not reached: one that hangs is waited for once, not by every question
_SUBPATHS_SINCE = (1, 45)  # the API of Docker 26
# How the engine, or with containerd's image store containerd, words a registry's 5xx and 429, a connection that broke, and a
# link that another push was just writing.
_MOMENTARY = (
    r"status(?: from \S+ request to \S+)?: (5\d\d|429)|toomanyrequests|unavailable: "
    r"|connection reset|i/o timeout|handshake timeout|\bEOF$|digest invalid"
)
_TRANSFER = RetryPolicy(first=0.5, most=4.0, total=60.0)
_T = TypeVar("_T")


class MomentaryError(Exception):
    """What the engine says when a registry may do better the next time; it has the error to raise if not."""

    def __init__(self, error: RegistryError) -> None:
        super().__init__(str(error))
        self.error = error


# Variables by which buildx changes what an image holds, although no key knows of them: an argument, another source in the
# place of an image, labels.
_NOT_IN_KEYS = dict.fromkeys(("SOURCE_DATE_EPOCH", "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", "BUILDX_GIT_LABELS"))


class DockerEngine:
    """The real Engine. Connects when it is first asked something; `docker` is imported then, too.

    `volume` is where this process shares files with containers when it runs in a container itself.
    """

    def __init__(self, cancel: Cancellation, volume: Volume | None = None) -> None:
        self._cancel = cancel
        self._volume = volume
        self._lock = threading.Lock()
        self._connected: APIClient | None = None
        self._lost: tuple[float, EngineError] | None = None  # until when nobody tries again, and why
        self._buildx_checked = False

    def info(self) -> EngineInfo:
        """Say what the daemon is and has."""
        info = self._ask(lambda api: api.info())
        return EngineInfo(
            version=str(info["ServerVersion"]),
            cpus=int(info["NCPU"]),
            memory=int(info["MemTotal"]),
            gpus=_gives_gpus(info),
            cpusets=info.get("CPUSet") is True,
            compresses=["driver-type", "io.containerd.snapshotter.v1"] in (info.get("DriverStatus") or []),
        )

    def images(self) -> tuple[ImageInfo, ...]:
        """Return all images of tiers, in one request: no builders, which have their parent's labels when made from it.

        With containerd's image store, an engine before API 1.47 is asked of each of them what it weighs.
        """
        filters = {"label": [Label.KEY]}
        listed = self._ask_socket(f"/images/json?manifests=true&filters={quote(json.dumps(filters))}")
        if listed is None:
            listed = self._ask(lambda api: api.images(filters=filters))
        return tuple(
            _image_info(image, _unpacked(image, self._get))
            for image in listed
            if Label.COMPILE_KEY not in (image["Labels"] or {})
        )

    def has_image(self, ref: str) -> bool:
        """Say whether the engine holds an image of that reference or id."""
        import_sdk()
        import docker.errors

        try:
            self._ask(lambda api: api.inspect_image(ref), docker.errors.ImageNotFound)
        except docker.errors.ImageNotFound:
            return False
        return True

    def save(self, *refs: str) -> Iterator[bytes]:
        """Yield images as one archive, in pieces: what they share is in it once."""
        self._api()  # one that was lost a moment ago is not asked again
        with contextlib.closing(_connect(_FIRST_PIECE)) as api:
            with engine_errors():
                response = _archive_of(api, refs)
            try:
                for piece in _pieces(response.iter_content(_PIECE)):
                    if self._cancel.requested:
                        raise Interrupted(Problem(", ".join(refs), "was not read: interrupted"))
                    yield piece
            finally:
                response.close()

    def layers(self, ref: str) -> tuple[str, ...]:
        """Return what an image's layers are called by their unpacked content, the first one first."""
        return tuple(self._ask(lambda api: api.inspect_image(ref))["RootFS"].get("Layers") or ())

    def image_config(self, ref: str) -> ImageConfig:
        """Return how an image says that it is run. Raises EngineError when it is gone, or says nothing of it."""
        from imagetiers.layers.image_config import read_image_config
        from imagetiers.layers.model import LayerError

        try:
            return read_image_config(self._ask(lambda api: api.inspect_image(ref)))
        except LayerError as error:
            raise EngineError(Problem(ref, str(error), "docker image inspect shows what the engine has")) from error

    def build(self, build: BuildImage, context: Iterable[bytes], on_line: OnLine, seconds: float | None = None) -> None:
        """Build and tag an image, or write its files to an archive.

        Raises BuildError when a step fails, EngineError when the daemon's disk is full, OSError when there is no room for the
        archive. After so many `seconds` the client is ended, and BuildKit with it: TimeoutError.
        """
        self._ask(lambda api: api.ping())
        self._check_buildx()
        full = full_here = False

        def watch(line: str) -> None:
            nonlocal full, full_here
            if DISK_FULL in line:
                # buildx itself writes an archive, and the daemon all else.
                full, full_here = True, build.archive is not None and str(build.archive) in line
            on_line(line)

        code = run(build.argv(), stdin=context, env=_NOT_IN_KEYS, on_line=watch, cancel=self._cancel, seconds=seconds)
        if self._cancel.requested:
            raise Interrupted(Problem("", f"the build of {build.tags[0]} was interrupted"))
        if full_here and code != 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(build.archive))
        if full and code != 0:
            raise disk_full()
        if code != 0:
            raise BuildError(Problem("", f"docker buildx build ended with exit code {code}"))

    def tag(self, ref: str, tags: tuple[str, ...]) -> None:
        """Let `tags` point to the image `ref`."""
        for name in tags:
            repository, _, tag = name.rpartition(":")
            self._ask(partial(_tag, ref=ref, repository=repository, tag=tag))

    def untag(self, ref: str) -> bool:
        """Remove a reference, and the image when it was the last one. Say whether there was one."""
        import_sdk()
        import docker.errors

        try:
            self._ask(lambda api: api.remove_image(ref), docker.errors.APIError)
        except docker.errors.ImageNotFound:
            return False
        except docker.errors.APIError as error:
            raise EngineError(
                Problem(ref, f"cannot be removed: {error.explanation}", "end its containers first")
            ) from error
        return True

    def stored(self) -> Stored:
        """Return all images, ours or not, with what they take, and which compiles have a container."""
        from imagetiers.adapters.docker_room import read_stored

        found = read_stored(self._get, _image_info)
        if found is None:  # never taken for an engine that is empty
            raise EngineError(Problem("docker", "the engine does not list its images and containers"))
        return found

    def build_cache(self) -> tuple[CacheRecord, ...]:
        """Return the layers that BuildKit keeps, of whoever builds on this engine."""
        import_sdk()
        from imagetiers.adapters.docker_cache import read_records

        return self._ask(read_records)

    def prune_build_cache(self, ids: Iterable[str]) -> frozenset[str]:
        """Let BuildKit forget these records, but for those that it still needs; return which are gone."""
        import_sdk()
        from imagetiers.adapters.docker_cache import prune_records

        return self._ask(lambda api: prune_records(api, ids))

    def push(self, ref: str, on_line: OnLine) -> str:
        """Push an image under its reference; return the manifest's digest. Raises RegistryError when it is refused.

        The engine tries each layer five times, but a registry that fails at anything else only once: so we push again.
        """
        return retry(_TRANSFER, lambda: self._push(ref, on_line), _momentary)

    def _push(self, ref: str, on_line: OnLine) -> str:
        digest = ""
        for event in self._transfer(lambda api: api.push(ref, stream=True, decode=True), ref, "pushed", on_line):
            digest = (event.get("aux") or {}).get("Digest") or _pushed(str(event.get("status", ""))) or digest
        if not digest:
            raise RegistryError(Problem(ref, "was pushed, but the engine does not say as what", "try again"))
        return digest

    def pull(self, ref: str, on_line: OnLine) -> None:
        """Pull `repository@digest`; again, like a push, when the registry fails for a moment. Raises RegistryError."""
        retry(_TRANSFER, lambda: self._pull(ref, on_line), _momentary)

    def _pull(self, ref: str, on_line: OnLine) -> None:
        for _ in self._transfer(lambda api: api.pull(ref, stream=True, decode=True), ref, "pulled", on_line):
            pass

    def _transfer(
        self, call: Callable[[APIClient], Iterator[dict[str, Any]]], ref: str, done: str, on_line: OnLine
    ) -> Iterator[dict[str, Any]]:
        import_sdk()
        import docker.errors

        hint = f"docker login {ref.partition('/')[0]}, if the registry wants to know who asks"
        try:
            for event in self._events(call):
                if self._cancel.requested:
                    raise Interrupted(Problem(ref, f"was not {done}: interrupted"))
                if "error" in event:
                    if DISK_FULL in event["error"]:
                        raise disk_full()
                    error = RegistryError(Problem(ref, f"cannot be {done}: {event['error']}", hint))
                    raise MomentaryError(error) if re.search(_MOMENTARY, event["error"]) else error
                on_line(" ".join(str(event[key]) for key in ("id", "status", "progress") if event.get(key)))
                yield event
        except docker.errors.APIError as error:
            refused = RegistryError(Problem(ref, f"cannot be {done}: {error.explanation}", hint))
            raise (MomentaryError(refused) if re.search(_MOMENTARY, str(error.explanation)) else refused) from error

    def _events(self, call: Callable[[APIClient], Iterator[_T]]) -> Iterator[_T]:
        """Yield what a long call reports; each piece can fail as the call itself."""
        import_sdk()
        import docker.errors

        with engine_errors(docker.errors.APIError):
            yield from call(self._api())

    def find_containers(self, label: str, value: str) -> tuple[ContainerState, ...]:
        """Return the containers with that label, running or not."""
        import_sdk()
        import docker.errors

        listed = self._ask(lambda api: api.containers(all=True, filters={"label": [f"{label}={value}"]}))
        states = []
        for container in listed:
            try:
                state = self._ask(partial(_inspect, container=container["Id"]), docker.errors.NotFound)["State"]
            except docker.errors.NotFound:
                continue  # it went between the two questions
            name = container["Names"][0].lstrip("/")
            code = -1 if state["Status"] == "created" else int(state["ExitCode"])
            states.append(ContainerState(container["Id"], name, bool(state["Running"]), code))
        return tuple(states)

    def start(self, container: Container, files: bytes | None = None, stdin: bytes | None = None) -> str:
        """Create and start a container, `files` (a tar) unpacked at its root first; return its id.

        Raises EngineError when it does not read its `stdin`.
        """

        def create(api: APIClient) -> str:
            given = self._as_the_daemon_sees_it(api, container)
            created = api.create_container(
                image=given.image,
                name=given.name,
                entrypoint=list(given.argv[:1]),
                command=list(given.argv[1:]),
                user=given.user,
                environment=dict(given.env),
                labels=dict(given.labels),
                stdin_open=stdin is not None,
                host_config=api.create_host_config(
                    mounts=[_mount(mount) for mount in given.mounts],
                    init=True,  # a shell as process 1 would ignore SIGTERM
                    network_mode=given.network,
                    tmpfs=dict(given.tmpfs) or None,
                    device_requests=_all_gpus() if given.gpus else None,
                    cpuset_cpus=given.cpus or None,
                    mem_limit=given.memory,
                    memswap_limit=given.memory,
                ),
            )
            return str(created["Id"])

        container_id = self._ask(create)
        try:
            if files is not None:
                self._ask(lambda api: api.put_archive(container_id, "/", files))
            if stdin is None:
                self._ask(lambda api: api.start(container_id))
            else:
                self._ask(lambda api: _start_and_feed(api, container_id, stdin))
        except BaseException:
            self.remove(container_id)
            raise
        return container_id

    def _as_the_daemon_sees_it(self, api: APIClient, container: Container) -> Container:
        if self._volume is None:
            return container
        from imagetiers.planning.containers import through_volume

        version = tuple(int(part) for part in api.api_version.split("."))
        return through_volume(container, self._volume, subpaths=version >= _SUBPATHS_SINCE)

    def load(self, container_id: str) -> ContainerLoad:
        """Say what a running container takes at this moment: one sample, and a look at its processes."""
        stats = self._ask(lambda api: api.stats(container_id, stream=False, one_shot=True))
        memory = stats.get("memory_stats") or {}
        cached = (memory.get("stats") or {}).get("inactive_file", 0)  # what the kernel gives back when it is asked for
        found = self._ask(lambda api: api.top(container_id, ps_args="-eo pid,ppid,comm"))
        jobs = _count_jobs(found.get("Processes") or ())
        used = max(0, int(memory.get("usage", 0)) - int(cached))
        return ContainerLoad(used, int(memory.get("limit", 0)), *(jobs if jobs is not None else ()))

    def follow(self, container_id: str, on_line: OnLine) -> int:
        """Pass on the container's output from its beginning until it ends; return its exit code."""
        stream = self._ask(lambda api: api.logs(container_id, stream=True, follow=True, stdout=True, stderr=True))
        for line in _lines(_pieces(stream)):
            on_line(line)
        result = self._ask(lambda api: api.wait(container_id, timeout=None))
        return int(result["StatusCode"])

    def stop(self, container_id: str, grace: int) -> None:
        """End a container: SIGTERM, SIGKILL after `grace` seconds. One that is gone is no error."""
        self._ignoring_gone(lambda api: api.stop(container_id, timeout=grace))

    def remove(self, container_id: str) -> None:
        """Remove a container, running or not. One that is gone is no error."""
        self._ignoring_gone(lambda api: api.remove_container(container_id, force=True, v=True))

    def _ignoring_gone(self, call: Callable[[APIClient], object]) -> None:
        import_sdk()
        import docker.errors

        try:
            self._ask(call, docker.errors.NotFound, docker.errors.APIError)
        except docker.errors.NotFound:
            pass
        except docker.errors.APIError as error:
            if error.status_code != 409:  # noqa: PLR2004  409: its removal is already in progress
                raise refused(error) from error

    def _ask(self, call: Callable[[APIClient], _T], *meant: type[Exception]) -> _T:
        """Call the API; what it raises becomes an EngineError, but for the exceptions that the caller is `meant` to get."""
        with engine_errors(*meant):
            return call(self._api())

    def _ask_socket(self, target: str) -> Any:
        """Ask a daemon of this machine without the SDK, unless that is there anyhow; None where only the SDK can tell."""
        with self._lock:
            path = unix_socket(_host()) if self._connected is None else None
            if path is None:
                return None
            self._raise_if_lost()
            try:
                if ask(path, "/_ping", _FIRST_ANSWER) is None:
                    return None
                answer = ask(path, target, _ANSWER)
            except TimeoutError:
                raise self._keep_lost(no_answer()) from None
        try:
            return None if answer is None else json.loads(answer)
        except ValueError:
            return None

    def _get(self, path: str) -> Any:
        """GET a path of the API, without the SDK where that goes; None where there is no such thing."""
        answer = self._ask_socket(path)
        if answer is not None:
            return answer
        import_sdk()
        from imagetiers.adapters.docker_cache import get_json

        return self._ask(lambda api: get_json(api, path))

    def _api(self) -> APIClient:
        with self._lock:
            if self._connected is None:
                self._raise_if_lost()
                try:
                    self._connected = _connect()
                except EngineError as error:
                    raise self._keep_lost(error) from error.__cause__
            return self._connected

    def _raise_if_lost(self) -> None:
        if self._lost is not None and time.monotonic() < self._lost[0]:
            raise self._lost[1]

    def _keep_lost(self, error: EngineError) -> EngineError:
        self._lost = (time.monotonic() + _ASK_AGAIN, error)
        return error

    def _check_buildx(self) -> None:
        if self._buildx_checked:
            return
        try:
            code = run(("docker", "buildx", "version"))
        except FileNotFoundError:
            raise EngineError(
                Problem(
                    "docker",
                    "the docker command is not on the PATH",
                    "https://docs.docker.com/engine/install/ says how",
                )
            ) from None
        if code != 0:
            raise EngineError(
                Problem(
                    "docker buildx",
                    "the buildx plugin is not installed, and without it there are no named build contexts",
                    "apt-get install docker-buildx (docker-buildx-plugin in Docker's repository)",
                )
            )
        self._buildx_checked = True


def _count_jobs(processes: Iterable[list[str]]) -> tuple[int, int] | None:
    """Count compilers that run and that wait for memory: launchers with and without a child. None without a launcher."""
    from imagetiers.planning.containers import LAUNCHER

    launchers = {row[0] for row in processes if row[2] == LAUNCHER}
    running = launchers & {row[1] for row in processes}
    return (len(running), len(launchers - running)) if launchers else None


def _unpacked(image: Mapping[str, Any], get: Callable[[str], Any]) -> int:
    """Return the bytes of a listed image's layers, unpacked.

    With a graph driver that is its size. In containerd's image store, where an image's id is the digest of its manifest, that
    has the compressed layers, too; what is unpacked stands beside it since API 1.47, and before in the image's history alone.
    """
    if not any(ref.endswith(f"@{image['Id']}") for ref in image.get("RepoDigests") or ()):
        return int(image["Size"])
    manifests = [each["ImageData"]["Size"] for each in image.get("Manifests") or () if each.get("ImageData")]
    if manifests:
        return sum(int(size["Unpacked"]) for size in manifests)
    return sum(int(entry["Size"]) for entry in get(f"/images/{image['Id']}/history") or ())


def _pushed(status: str) -> str:
    """Return the digest that the line has which ends a push: "TAG: digest: sha256:... size: 1234".

    With containerd's image store there is no other word of it.
    """
    digest = status.partition(": digest: ")[2].partition(" ")[0]
    return digest if is_digest(digest) else ""


def _image_info(image: Mapping[str, Any], size: int) -> ImageInfo:
    labels = image["Labels"] or {}
    return ImageInfo(
        id=image["Id"],
        refs=tuple(image.get("RepoTags") or ()),
        pipeline=labels.get(Label.PIPELINE, ""),
        variant=labels.get(Label.VARIANT, ""),
        tier=labels.get(Label.TIER, ""),
        key=labels.get(Label.KEY, ""),
        created=int(image["Created"]),
        size=size,
        key_document=labels.get(Label.KEY_DOCUMENT, ""),
        trust=labels.get(Label.TRUST, ""),
        digests=tuple(image.get("RepoDigests") or ()),
    )


def _momentary(error: Exception) -> RetryDecision:
    """Say what an exception of a transfer means: a failure of the moment is worth four tries, everything else is not ours."""
    if isinstance(error, MomentaryError):
        return RetryDecision(error.error, 4)
    raise error


def _connect(timeout: int | None = None) -> APIClient:
    """Return a client that waits so many seconds for an answer, None: as many as the SDK."""
    import_sdk()
    from docker.api.client import APIClient
    from docker.constants import DEFAULT_TIMEOUT_SECONDS
    from docker.utils import kwargs_from_env

    with engine_errors(), _addressable():
        kwargs: dict[str, Any] = {**kwargs_from_env()}
        if not os.environ.get("DOCKER_HOST"):
            kwargs["base_url"] = _host() or f"unix://{DEFAULT_SOCKET}"
        # The first question is a small one: a daemon that hangs is told from one that is slow by it.
        api = APIClient(version="auto", timeout=_FIRST_ANSWER, **kwargs)
        api.timeout = DEFAULT_TIMEOUT_SECONDS if timeout is None else timeout
        return api


@contextlib.contextmanager
def _addressable() -> Iterator[None]:
    """Turn what is raised for a port of 99999 into what is raised for every other wrong address."""
    import_sdk()
    import docker.errors

    try:
        yield
    except (ValueError, OverflowError) as error:
        raise docker.errors.DockerException(f"Invalid bind address: {error}") from error


def _gives_gpus(info: Mapping[str, Any]) -> bool:
    """Say whether NVIDIA's runtime is registered, or the engine has found devices of NVIDIA's by itself (CDI, Docker 28)."""
    found = [str(device.get("ID", "")) for device in info.get("DiscoveredDevices") or ()]
    return "nvidia" in (info.get("Runtimes") or {}) or any(name.startswith("nvidia.com/gpu") for name in found)


def _all_gpus() -> list[types.DeviceRequest]:
    from docker import types

    return [types.DeviceRequest(count=-1, capabilities=[["gpu"]])]


def _mount(mount: BindMount | VolumeMount) -> types.Mount:
    from docker import types

    from imagetiers.planning.containers import BindMount

    if isinstance(mount, BindMount):
        return types.Mount(mount.target, str(mount.source), type="bind", read_only=mount.read_only)
    made = types.Mount(mount.target, mount.volume, type="volume", read_only=mount.read_only, no_copy=True)
    if mount.subpath:
        made["VolumeOptions"]["Subpath"] = mount.subpath
    return made


def _start_and_feed(api: APIClient, container_id: str, stdin: bytes) -> None:
    """Start a container and write its stdin, which the engine neither keeps nor logs.

    Attached before the start: when we die at any moment, the container is not started, or meets the end of its stdin.
    """
    attached = api.attach_socket(container_id, params={"stdin": 1, "stream": 1})
    pipe = getattr(
        attached, "_sock", attached
    )  # a reader around the socket, unless the daemon is reached by SSH or TLS
    try:
        api.start(container_id)
        pipe.settimeout(_STDIN_SECONDS)
        pipe.sendall(stdin)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it ended early; its exit code and its log tell why
    except TimeoutError:
        raise EngineError(
            Problem(container_id[:12], f"does not read its stdin for {_STDIN_SECONDS} s", "try again")
        ) from None
    finally:
        with contextlib.suppress(OSError):
            pipe.shutdown(socket.SHUT_RDWR)
        attached.close()


def _tag(api: APIClient, *, ref: str, repository: str, tag: str) -> None:
    api.tag(ref, repository, tag, force=True)


def _inspect(api: APIClient, *, container: str) -> Any:
    return api.inspect_container(container)


def _host() -> str | None:
    """Return where the daemon is, None for the default: DOCKER_HOST, or the endpoint of the CLI's current context.

    `docker context use` sets that, so that the CLI and we talk to one daemon.
    """
    given = os.environ.get("DOCKER_HOST")
    if given:
        return given
    try:
        folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
        current = json.loads((folder / "config.json").read_text()).get("currentContext")
    except (OSError, ValueError, AttributeError, RuntimeError):  # RuntimeError: a user without a home
        return None
    name = os.environ.get("DOCKER_CONTEXT") or current
    if not name or name == "default":
        return None
    import_sdk()
    from docker.context import ContextAPI

    context = ContextAPI.get_context(name)
    host = getattr(context, "Host", None)  # None for a context that is not there
    return str(host) if host else None


def _archive_of(api: APIClient, refs: tuple[str, ...]) -> Response:
    """Ask for several images in one archive, for which the SDK has no call."""
    import_sdk()
    from docker.errors import create_api_error_from_http_exception
    from requests.exceptions import HTTPError

    url = f"{api.base_url}/v{api.api_version}/images/get"
    response = api.get(url, params={"names": list(refs)}, stream=True, timeout=api.timeout)
    try:
        response.raise_for_status()
    except HTTPError as error:
        create_api_error_from_http_exception(error)
    return response


def _pieces(stream: Iterator[bytes]) -> Iterator[bytes]:
    with engine_errors():
        yield from stream


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace").rstrip("\r")
        while len(rest) >= LONGEST_LINE:  # what never ends its line would fill the memory
            yield rest[:LONGEST_LINE].decode(errors="replace")
            rest = rest[LONGEST_LINE:]
    if rest:
        yield rest.decode(errors="replace").rstrip("\r")
