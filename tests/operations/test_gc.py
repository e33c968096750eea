"""cache:gc on a cache that real builds have filled: what goes, what stays, and that no fault makes more go."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from imagetiers.adapters.locks import FileLocks
from imagetiers.ccache.apart import Report, apart
from imagetiers.config.layout import Layout
from imagetiers.config.model import Trust
from imagetiers.errors import CorruptError, ForbiddenError, NotFoundError, StoreError, UnavailableError
from imagetiers.operations.cache_gc import GcOptions, collect_garbage
from imagetiers.planning.forecast import READ, BuildProfile, forecast
from imagetiers.planning.housekeeping import decode_marks
from imagetiers.planning.keys import KeyDocument, short
from imagetiers.planning.objects import KnownObject, KnownObjects
from imagetiers.planning.observed import Absent, Answer, Unknown
from imagetiers.planning.plan import Plan
from imagetiers.session import Session
from imagetiers.state import wheels
from imagetiers.state.aggregates import AGGREGATE, decode_aggregate
from imagetiers.state.history import _samples
from imagetiers.state.records import Record, keep, keep_inputs
from imagetiers.stores.directory import DirectoryStore
from imagetiers.stores.port import Store
from tests.ccache.faults import FaultyStore, Killed
from tests.conftest import HERE, Golden
from tests.registry.harness import NoCancellation
from tests.soak.memory import MemoryStore
from tests.soak.wheels_made import session_of, wheel

DAY = 86_400.0
UNTRUSTED = Trust(trusted=False, branch="pr-7")


class Said:
    """A registry that gives every question the same answer."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def look_up(self, refs: Iterable[str]) -> Mapping[str, Answer]:
        return dict.fromkeys(refs, self.answer)


class Cache:
    """A store with a clock of its own, and what builds have left in it."""

    def __init__(self, root: Path) -> None:
        self.now = 1_700_000_000.0
        self.store = MemoryStore(lambda: self.now)
        self.layout = Layout(root / "checkout")
        self.builds: dict[str, tuple[KeyDocument, KeyDocument]] = {}
        self.registry: Answer = Absent()

    def session(self, trust: Trust | None = None, store: Store | None = None) -> tuple[Session, list[str]]:
        session, console = session_of(store or self.store, self.layout, trust or Trust(), lambda: self.now)
        locks = FileLocks(self.layout.locks, session.services.console, NoCancellation())
        services = replace(session.services, locks=locks, registry=Said(self.registry))  # type: ignore[arg-type]
        return replace(session, services=services), console.lines

    def build(self, name: str, *, trust: Trust | None = None, variant: str = "", fresh: bool = True) -> None:
        """Do as a build does that compiles and makes an image; one that is not `fresh` finds its wheels in the cache."""
        session, _ = self.session(trust)
        compiled = manifest("compile", name)
        image = manifest("image", name, wheels=compiled.key)
        self.builds[name] = compiled, image
        number = len(self.builds)
        if fresh:
            partial = self.layout.partial_wheels(compiled.key)
            partial.mkdir(parents=True, exist_ok=True)
            (partial / "soak-1.0-py3-none-any.whl").write_bytes(wheel(number))
            wheels.commit(self.layout, compiled.key, "compile:torch")
            wheels.publish(session, compiled.key)
            self.record(session, compiled, variant)
            keep_inputs(session, compiled.key, ())
        self.record(session, image, variant)
        keep_inputs(session, image.key, ())
        known = KnownObjects({"/src/a.o": KnownObject(1.5, 1 << 20, self.now)})
        session.services.store.write(f"{session.trust.prefix}objects/p.torch.json", known.encode())
        verdict = {"passed": True, "tier": "torch", "key": image.key}
        session.services.store.write(
            f"{session.trust.prefix}verdicts/{image.key[::-1]}/check.json", json.dumps(verdict).encode()
        )

    def record(self, session: Session, made: KeyDocument, variant: str) -> None:
        like = {"pipeline": "p", "variant": variant, "change": "compile cold", "cpus": 2}
        if made.kind == "image":
            like["change"] = "image"
        keep(session, made, Record(made.kind, "torch", made.key, self.now, 100.0 + len(self.builds), **like))  # type: ignore[arg-type]

    def publish(self, name: str) -> str:
        key = self.builds[name][1].key
        document = {"key": key, "digest": f"sha256:{key}", "at": round(self.now)}
        published = f"published/registry/p/torch:{short(key)}.json"
        self.store.write(published, json.dumps(document).encode())
        return published

    def objects_of(self, name: str, prefix: str = "") -> set[str]:
        compiled, image = (made.key for made in self.builds[name])
        found = {f"{prefix}{kind}/{key}.json" for kind in ("keys", "inputs") for key in (compiled, image)}
        return found | {f"{prefix}wheels/{compiled}.tar", f"{prefix}verdicts/{image[::-1]}/check.json"}

    def there(self) -> set[str]:
        """Return what belongs to a key: not marks, not records, not what is known of objects."""
        return {name for name in self.store.names() if not re.search("(^|/)(gc|records|objects)/", name)}

    def gc(
        self,
        options: GcOptions | None = None,
        *,
        trust: Trust | None = None,
        store: Store | None = None,
        alone: Callable[[str, Callable[[], Report]], Report] = lambda _where, work: work(),  # this store is only here
        pipelines: Iterable[str] = (),
    ) -> str:
        session, lines = self.session(trust, store)
        plans = [cast("Plan", SimpleNamespace(pipeline=SimpleNamespace(name=name), tiers={})) for name in pipelines]
        collect_garbage(session, plans, options or GcOptions(keep=2), alone=alone)
        return "\n".join(line for line in lines).replace(str(self.layout.work), ".imagetiers")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


def manifest(kind: str, name: str, **more: str) -> KeyDocument:
    return KeyDocument(kind, "torch", "linux/amd64", (), name, {}, {}, (), (), **more)  # type: ignore[arg-type]


def filled(cache: Cache) -> None:
    """Six builds, a month apart, the first one published, and two newest of another variant."""
    for number in range(6):
        cache.build(f"build-{number}")
        cache.now += 30 * DAY
    cache.publish("build-0")
    cache.build("of a variant", variant="a100")
    cache.now += 100 * DAY


def test_two_runs_a_day_apart_and_what_each_says(cache: Cache, golden: Golden) -> None:
    filled(cache)
    cache.registry = Unknown("down")
    before = cache.there()
    said = [cache.gc(GcOptions(keep=2, dry_run=True))]
    assert not any(name.startswith("gc/") for name in cache.store.names())
    said.append(cache.gc())
    assert cache.there() == before
    cache.now += 2 * 3600
    said.append(cache.gc())
    assert cache.there() == before
    cache.now += DAY
    said.append(cache.gc())
    stay = {"build-0", "build-4", "build-5", "of a variant"}  # published, the two newest, and a variant's newest
    expected = set().union(*(cache.objects_of(name) for name in stay)) | {
        name for name in before if "published" in name
    }
    assert cache.there() == expected
    said.append(cache.gc())
    golden("\n\n".join(said) + "\n", HERE / "golden" / "gc.txt")


def test_what_was_published_goes_when_the_registry_has_lost_it(cache: Cache) -> None:
    filled(cache)
    cache.registry = Absent()
    cache.gc()
    cache.now += 2 * DAY
    cache.gc()
    assert not any(name.startswith("published/") for name in cache.store.names())
    cache.now += DAY
    cache.gc()
    cache.now += 2 * DAY
    cache.gc()
    assert not cache.objects_of("build-0") & cache.there()


def test_wheels_that_a_build_has_taken_meanwhile_are_unmarked(cache: Cache) -> None:
    filled(cache)
    cache.gc()
    cache.now += 3600
    cache.build("build-1", fresh=False)
    cache.now += 2 * DAY
    assert "unmarked" in cache.gc()
    assert cache.objects_of("build-1") <= cache.there()


def test_limits_by_count_and_bytes(cache: Cache) -> None:
    for number in range(6):
        cache.build(f"build-{number}")
        cache.now += DAY
    options = GcOptions(keep=1, max_count=3)
    cache.gc(options)
    cache.now += 2 * DAY
    cache.gc(options)
    assert [cache.objects_of(f"build-{n}") <= cache.there() for n in range(6)] == [False] * 3 + [True] * 3
    options = GcOptions(keep=1, max_bytes=0)
    cache.gc(options)
    cache.now += 2 * DAY
    cache.gc(options)
    assert cache.there() == cache.objects_of("build-5")


def test_archives_of_files_are_counted_by_tier_as_wheels_are(cache: Cache) -> None:
    for number in range(4):
        cache.build(f"build-{number}")
        cache.store.write(f"made/{cache.builds[f'build-{number}'][1].key}.tar", b"files in place of an image")
        cache.now += DAY
    options = GcOptions(keep=1, max_count=2)
    cache.gc(options)
    cache.now += 2 * DAY
    cache.gc(options)
    assert [f"made/{cache.builds[f'build-{n}'][1].key}.tar" in cache.there() for n in range(4)] == [False] * 2 + [
        True
    ] * 2


def test_an_untrusted_build_removes_only_its_own(cache: Cache) -> None:
    cache.build("trusted")
    cache.build("own", trust=UNTRUSTED)
    cache.build("other", trust=Trust(trusted=False, branch="pr-8"))
    cache.now += 300 * DAY
    options = GcOptions(keep=0)
    cache.gc(options, trust=UNTRUSTED)
    cache.now += 2 * DAY
    cache.gc(options, trust=UNTRUSTED)
    assert cache.there() == cache.objects_of("trusted") | cache.objects_of("other", "untrusted/pr-8/")
    cache.gc(options)
    cache.now += 2 * DAY
    cache.gc(options)
    assert cache.there() == set()


def test_what_a_branch_writes_keeps_and_blocks_nothing_of_others(cache: Cache) -> None:
    """It can name trusted keys as built yesterday, and write what cannot be read."""
    cache.build("trusted")
    cache.build("of pr-8", trust=Trust(trusted=False, branch="pr-8"))
    cache.now += 300 * DAY
    compiled = cache.builds["trusted"][0]
    cache.record(cache.session(UNTRUSTED)[0], compiled, "")
    cache.store.write(f"untrusted/pr-7/keys/{'ab' * 32}.json", b"not what its name says")
    for name in ("untrusted/PR 7/wheels/x.tar", "untrusted/x"):
        cache.store.write(name, b"none of ours")
    for _ in range(2):
        with pytest.raises(StoreError) as error:
            cache.gc(GcOptions(keep=0))
        assert [problem.where for problem in error.value.problems] == ["untrusted/pr-7"]
        cache.now += 2 * DAY
    left = {name for name in cache.there() if not name.startswith("untrusted/")}
    assert left == set()
    assert not any(name.startswith("untrusted/pr-8/wheels/") for name in cache.there())


def test_a_branch_that_fills_the_memory_is_told_and_the_others_turn_comes(tmp_path: Path) -> None:
    """In processes, on a real store: the documents of one branch take four times as much as the process may have."""
    store = DirectoryStore(tmp_path / "cache")
    for number in range(8):
        bomb = b"[" + b"[]," * 1_000_000 + b"0]"
        store.write(f"untrusted/pr-7/records/torch/image/{number}-{'ab' * 6}.json", bomb)
    for branch in ("pr-6", "pr-8"):
        store.write(f"untrusted/{branch}/wheels/{'ab' * 32}.tar", b"old")
    old = time.time() - 300 * DAY
    for path in (tmp_path / "cache").rglob("*"):
        os.utime(path, (old, old))
    cache = Cache(tmp_path)
    with pytest.raises(StoreError) as error:
        cache.gc(GcOptions(), store=store, alone=partial(apart, memory=128 << 20))
    assert [problem.where for problem in error.value.problems] == ["untrusted/pr-7"]
    for branch in ("pr-6", "pr-8"):
        assert len(decode_marks(store.read(f"untrusted/{branch}/gc/marks.json")[0])) == 1


def test_a_build_that_runs_here_keeps_what_it_uses(cache: Cache) -> None:
    filled(cache)
    compiled, image = (made.key for made in cache.builds["build-1"])
    locks = cache.session()[0].services.locks
    with locks.hold(f"compile-{compiled}", "x"), locks.hold(f"image-{image}", "x"):
        cache.gc()
        cache.now += 2 * DAY
        cache.gc()
        assert cache.objects_of("build-1") <= cache.there()
    assert locks.held() == frozenset()


def test_objects_that_are_none_of_ours_are_left_alone_and_said(cache: Cache) -> None:
    for name in ("wheels/notes.txt", "keys/x/y.json", "untrusted/x", "records/a", "published/x.json", "other/thing"):
        cache.store.write(name, b"{}")
    cache.now += 300 * DAY
    cache.gc()
    cache.now += 2 * DAY
    said = cache.gc()
    assert "\n  4 objects are none of imagetiers'" in said
    assert "\nuntrusted/: 1 objects are none of imagetiers'" in said
    assert len(cache.there()) == 5  # and the record


def test_forecasts_know_after_the_records_are_gone_what_they_said(cache: Cache) -> None:
    cache.build("of a variant", variant="a100")
    for number in range(READ + 5):
        cache.now += DAY
        cache.build(f"build-{number % 3}")
    cache.gc()
    cache.now += 2 * DAY
    cache.gc()
    names = [name for name in cache.store.names() if name.startswith("records/torch/image/")]
    assert len(names) == READ + 1
    aggregate = decode_aggregate(cache.store.read(f"records/torch/image/{AGGREGATE}")[0])
    assert sum(group.count for group in aggregate.groups.values()) == 6
    asked = ("torch", "image")
    told = _samples(cache.store, Trust(), [asked])[asked]
    assert len(told) == READ + 6
    found = forecast(told, BuildProfile("p", "a100", "image", 2))
    assert found is not None
    assert found.seconds == 101.0


FAULTS: dict[str, Callable[[], BaseException]] = {
    "unavailable": lambda: UnavailableError.of("x", "503"),
    "forbidden": lambda: ForbiddenError.of("x", "403"),
    "missing": lambda: NotFoundError.of("x", "404"),
    "corrupt": lambda: CorruptError.of("x", "checksum"),
    "killed": Killed,
}


@pytest.fixture(scope="module")
def long_used(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Records enough to be added up, and three builds, of which a published one and the newest are to stay."""
    cache = Cache(tmp_path_factory.mktemp("gc"))
    for number in range(READ + 3):
        cache.build(f"build-{number % 3}", fresh=number < 3)
        cache.now += DAY
    cache.now += 200 * DAY
    cache.publish("build-0")
    cache.registry = Unknown("down")
    return cache


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_no_fault_at_any_call_removes_what_is_to_stay(long_used: Cache, fault: str, *, after: bool) -> None:
    """At each third call of both runs, at others for each fault. What is to go has gone after two more runs, added up once."""
    stay = set().union(*(long_used.objects_of(name) for name in ("build-0", "build-2")))
    stay |= {name for name in long_used.there() if name.startswith("published/")}
    options = GcOptions(keep=1)
    step = -(list(FAULTS).index(fault) % 3)
    while True:
        step += 3
        cache = copy.copy(long_used)
        cache.store = copy.copy(long_used.store)
        cache.store._objects = dict(long_used.store._objects)
        cache.store._now = partial(getattr, cache, "now")
        faulty = FaultyStore(cache.store, at=step, fault=FAULTS[fault], after=after, dead=fault == "killed")
        for _ in range(2):
            with contextlib.suppress(StoreError, Killed):
                cache.gc(options, store=faulty)
            assert stay <= cache.there()
            cache.now += 2 * DAY
        for _ in range(2):
            cache.gc(options)
            cache.now += 2 * DAY
        assert cache.there() == stay
        aggregate = decode_aggregate(cache.store.read(f"records/torch/image/{AGGREGATE}")[0])
        assert [group.count for group in aggregate.groups.values()] == [3]
        if len(faulty.calls) < step:
            assert step > 60
            return


class LateClock(MemoryStore):
    """A store that tells its own time only after it was asked something, as a bucket does; the machine's is a year ahead."""

    asked = False

    def now(self) -> float:
        return super().now() + (0 if self.asked else 365 * DAY)

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> tuple[bytes, int]:
        self.asked = True
        return super().read(name, start=start, length=length)


def test_a_wrong_clock_makes_nothing_old(cache: Cache) -> None:
    late = LateClock(lambda: cache.now)
    cache.store = late
    cache.build("young")
    cache.build("younger")
    for _ in range(2):
        late.asked = False
        cache.gc(GcOptions(keep=0))
        cache.now += 2 * DAY
    assert cache.objects_of("young") <= cache.there()


def test_of_two_at_once_one_gives_up(cache: Cache, tmp_path: Path) -> None:
    filled(cache)
    another = copy.copy(cache)
    another.layout = Layout(tmp_path / "another machine")
    racing = FaultyStore(cache.store)

    def meanwhile(verb: str, name: str) -> None:
        if verb == "write" and name == "gc/marks.json":
            racing.hook = None
            another.gc()

    racing.hook = meanwhile
    with pytest.raises(StoreError, match="another cache:gc is at work"):
        cache.gc(store=racing)


def test_a_key_document_that_is_not_what_its_name_says_keeps_everything(cache: Cache) -> None:
    filled(cache)
    compiled, image = cache.builds["build-0"]
    garbled = image.json().replace(compiled.key, compiled.key.translate(str.maketrans("ab", "ba")))
    cache.store.write(f"keys/{image.key}.json", garbled.encode())
    for _ in range(2):
        with pytest.raises(StoreError, match="is not what its name says"):
            cache.gc()
        cache.now += 2 * DAY
    assert cache.objects_of("build-1") <= cache.there()


def test_a_key_document_that_is_too_large_keeps_everything(cache: Cache) -> None:
    filled(cache)
    cache.store.write(f"keys/{cache.builds['build-0'][1].key}.json", b" " * (16 * 1024 * 1024 + 1))
    for _ in range(2):
        with pytest.raises(StoreError, match="is larger than any document"):
            cache.gc()
        cache.now += 2 * DAY
    assert cache.objects_of("build-1") <= cache.there()


def test_garbled_marks_and_aggregates_lose_nothing(cache: Cache) -> None:
    filled(cache)
    cache.store.write("gc/marks.json", b"[")
    before = cache.there()
    assert "begins anew" in cache.gc()
    assert cache.there() == before


def test_this_checkout(cache: Cache) -> None:
    work = cache.layout.work
    names = ["wheels/old/wheels.json", "wheels/.partial-x/a.whl", "ccache/old/0/0/entry", "logs/torch/image-1.log"]
    killed = {"made/abc.tar", "contexts/abc/site/page", "folders/abc/part.tar"}
    for name in [
        *names,
        *killed,
        "logs/torch/image-2.log",
        "state/verdicts/abc.check",
        "state/forgotten/image:torch",
        "cache/x",
    ]:
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x" * 100)
    for path in [*work.rglob("*"), work]:
        os.utime(path, (cache.now, cache.now))
    cache.now += 100 * DAY
    kept = work / "logs" / "torch" / "image-2.log"
    os.utime(kept, (cache.now, cache.now))
    options = GcOptions(keep=1)
    cache.gc(options)
    assert (work / names[0]).exists()
    cache.now += 2 * DAY
    locks = cache.session()[0].services.locks
    with locks.hold("compile-x", "somebody"), locks.hold("output-report", "somebody"):
        cache.gc(options)
    left = {str(path.relative_to(work)) for path in work.rglob("*") if path.is_file() and "locks" not in path.parts}
    assert left == {
        "wheels/.partial-x/a.whl",  # somebody compiles: what may be his stays
        "ccache/old/0/0/entry",
        "logs/torch/image-2.log",
        "state/forgotten/image:torch",
        "state/gc.json",
        "cache/x",
        *killed,  # somebody makes files of a key that nobody can tell
    }
    cache.gc(options)
    cache.now += 2 * DAY
    cache.gc(options)
    assert not (work / "ccache" / "old").exists()
    assert not (work / "wheels" / ".partial-x").exists()
    assert not [path for path in work.rglob("*") if "abc" in path.name]


def test_what_untrusted_builds_keep_in_a_trusted_checkout(cache: Cache) -> None:
    layout = cache.layout
    dead, alive = (replace(layout, apart=f"untrusted/{name}/") for name in ("pr-1", "pr-2"))
    elsewhere = layout.root / "elsewhere"
    for branch in (dead, alive):
        for name in (
            "wheels/old/a.whl",
            "ccache/old/0/entry",
            "logs/torch/image-1.log",
            "state/verdicts/a.b",
            "doit.db",
        ):
            path = branch.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x" * 100)
    (elsewhere / "wheels" / "old").mkdir(parents=True)
    (layout.work / "untrusted" / "link").symlink_to(elsewhere)
    for path in [*layout.work.rglob("*"), *elsewhere.rglob("*")]:
        os.utime(path, (cache.now, cache.now), follow_symlinks=False)
    cache.now += 100 * DAY
    os.utime(alive.work / "doit.db", (cache.now, cache.now))
    options = GcOptions(keep=0)
    first = cache.gc(options)
    cache.now += 2 * DAY
    with FileLocks(dead.locks, cache.session()[0].services.console, NoCancellation()).hold(
        "compile-x", "a compile of the branch"
    ):
        cache.gc(options)
        assert (dead.work / "doit.db").exists(), "somebody works there"
        assert (dead.work / "ccache" / "old").exists(), "and may use this"
    assert not (dead.work / "wheels" / "old").exists()
    for path in (dead.work, *dead.work.rglob("*")):  # the files of this test are younger than its clock
        os.utime(path, (cache.now - 100 * DAY, cache.now - 100 * DAY))
    cache.now += 2 * DAY
    cache.gc(options)
    cache.now += 2 * DAY
    cache.gc(options)

    assert "branches here: 1 (100 B) kept, 1 (100 B) marked" in first
    assert sorted(path.name for path in (layout.work / "untrusted").iterdir()) == ["link", "pr-2"]
    assert [path.name for path in alive.work.rglob("*") if path.is_file()] == ["doit.db"]
    assert (elsewhere / "wheels" / "old").exists()
