"""The seam of a soak of processes: the test server for Google Cloud Storage, with drawn faults and an auditor inside.

Two servers speak for the same objects: one draws a fault for each request, the other one never does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from imagetiers.config.model import TrustSettings
from imagetiers.errors import UntrustedError
from tests.gcs.server import Answer, Connection, Request, Rule, Server, Storage, Stored, error
from tests.soak.audit import Auditor, Violation
from tests.soak.faults import Draw, Fault
from tests.soak.signatures import content_of

BUCKET = "soak"
PREFIX = "cache/"
STALL_SECONDS = 8.0
_DRIP_SECONDS = 0.25  # for each byte: no read ever times out by itself

_RULES = {
    Fault.REFUSED: Rule("status", status=503),
    Fault.THROTTLED: Rule("status", status=429),
    Fault.FORBIDDEN: Rule("status", status=403, message="storage.objects.get denied, for once"),
    Fault.MISSING: Rule("missing"),
    Fault.PORTAL: Rule("portal"),
    Fault.RESET: Rule("reset"),
    Fault.LOST_ANSWER: Rule("cut"),
    Fault.DUPLICATE: Rule("duplicate"),
    Fault.CUT: Rule("truncate"),
    Fault.STALL: Rule("delay", seconds=STALL_SECONDS),
    Fault.DRIP: Rule("drip"),
    Fault.FLIP: Rule("flip"),
    Fault.FLIP_TOLD: Rule("corrupt"),
}
_PAGE = b"<!DOCTYPE html><html><title>Welcome to our network</title><body>Please accept the terms.</body></html>\n"


class AuditedStorage(Storage):
    """Objects in memory whose every change the auditor sees; what has to be signed with one of the keys, is."""

    def __init__(self, now: Callable[[], float], *, max_age: float, keys: TrustSettings) -> None:
        super().__init__(md5=False)
        self.create(BUCKET, {})
        self._keys = keys
        self.auditor = Auditor(self.true_bytes, now, max_age=max_age)

    def true_bytes(self, name: str) -> bytes | None:
        """Return an object's bytes, past every fault."""
        found = self.buckets[BUCKET].objects.get(PREFIX + name)
        return found.data if found else None

    def put(self, bucket: str, name: str, data: bytes, *arguments: object, **more: object) -> Stored:
        stored = super().put(bucket, name, data, *arguments, **more)  # type: ignore[arg-type]
        self._tell(name.removeprefix(PREFIX), data)
        return stored

    def _tell(self, name: str, data: bytes) -> None:
        try:
            content = data if "wheels/" in name else content_of(name, data, self._keys)
        except UntrustedError as error:
            self.auditor.violations.append(Violation("wrote what no reader believes", name, str(error)))
        else:
            self.auditor.wrote(name, content)

    def forge(self, name: str, wheels: bytes) -> None:
        """Put wheels there as an attacker does: nobody is told."""
        super().put(BUCKET, PREFIX + name, wheels, {}, {})

    def delete(self, bucket: str, name: str, query: dict[str, str]) -> None:
        super().delete(bucket, name, query)
        self.auditor.deleted(name.removeprefix(PREFIX))


class SoakServer(Server):
    """A server that draws a fault for each request; none while it is `quiet`."""

    def __init__(self, storage: AuditedStorage, draw: Draw | None) -> None:
        super().__init__(storage)
        self._draw = draw
        self.quiet = False
        self.log.clear()

    def rule_for(self, request: Request) -> Rule | None:
        if self._draw is None or self.quiet:
            return None
        fault = self._draw.next(content=request.op == "download")
        return None if fault is None else _RULES[fault]

    def perform(self, request: Request, where: dict[str, str], rule: Rule | None) -> Answer:
        self.log.clear()  # an hour's requests would fill the memory
        kind = rule.fault if rule else ""
        if kind == "portal":
            return Answer(200, _PAGE, {"Content-Type": "text/html"})
        if kind == "missing":
            # A store's own 404 of a head says that there is none. A page's 404 says nothing, and is what a proxy gives.
            if request.op == "download" and ("/packs/" in request.path or "%2Fpacks%2F" in request.path):
                return error(404, "No such object, for once")
            return Answer(404, _PAGE, {"Content-Type": "text/html"})
        answer = super().perform(request, where, rule)
        if kind == "flip" and self._draw is not None and answer.status in {200, 206}:
            answer.headers = {key: value for key, value in answer.headers.items() if key != "X-Goog-Hash"}
            answer.body = self._draw.flipped(answer.body)
        return answer


class SoakConnection(Connection):
    """A connection that can drip."""

    def _respond(self, request: Request, where: dict[str, str], rule: Rule | None) -> None:
        if rule is None or rule.fault != "drip":
            super()._respond(request, where, rule)
            return
        answer = self.server.perform(request, where, None)
        lines = [f"HTTP/1.1 {answer.status} OK", *(f"{key}: {value}" for key, value in answer.headers.items())]
        self.busy = True
        self.transport.write("\r\n".join([*lines, f"Content-Length: {len(answer.body)}", "", ""]).encode("latin-1"))
        self._drip(answer.body)

    def _drip(self, rest: bytes) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(rest[:1])
        if len(rest) > 1:
            asyncio.get_running_loop().call_later(_DRIP_SECONDS, self._drip, rest[1:])
        else:
            self.busy = False
            self._next()


@contextlib.asynccontextmanager
async def serving(server: SoakServer):  # type: ignore[no-untyped-def]  # noqa: ANN201  an async generator of a url
    """Serve on a free port of this machine for the block; yield the url."""
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: SoakConnection(server), "127.0.0.1", 0, backlog=1024)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
