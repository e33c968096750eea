"""What is known of objects, and the hit rates that come of it."""

from __future__ import annotations

from imagetiers.ccache.call_log import Call, Outcome, read_call_log
from imagetiers.planning import objects
from imagetiers.planning.hit_rates import HitRates, class_of, hit_rates
from imagetiers.planning.objects import Job, KnownObject, KnownObjects, learn, read_jobs

HOUR = 3600.0


def job(target: str, seconds: float = 2.0, *, outcome: str = "done", peak: int = 100, lease: int = 50) -> Job:
    words = ("/usr/bin/g++", "-O2", "-MF", f"{target}.d", "-o", target, "-c", "a.cpp")
    return Job(outcome, seconds, peak, lease, "0" * 16, target, "a.cpp", words)


def hit(target: str, source: str = "a.cpp") -> Call:
    return Call(target, source, Outcome.HIT)


def miss(target: str, source: str = "a.cpp") -> Call:
    return Call(target, source, Outcome.MISS)


def known(**seconds: float) -> KnownObjects:
    return KnownObjects({f"/{name}.o": KnownObject(value, 100, HOUR) for name, value in seconds.items()})


def test_a_document_says_what_it_was_told() -> None:
    after = learn(KnownObjects(), [job("/a.o"), job("/b.o", 5.5, outcome="starved", peak=300)], [], HOUR)
    assert KnownObjects.decode(after.encode()) == after
    assert after.objects["/a.o"].memory == 100
    assert after.objects["/b.o"].memory == 600, "twice the room"
    assert set(after.flags.values()) == {"/usr/bin/g++ -O2 -c"}


def test_what_is_garbled_knows_nothing() -> None:
    assert KnownObjects.decode(b"{") == KnownObjects()
    assert KnownObjects.decode(b'{"format": 2, "objects": {}, "flags": {}}') == KnownObjects()
    rows = b'{"format": 1, "flags": {}, "objects": {"a": [1, -1, 2, "", ""], "b": [1, 2], "c": [1, 2, 3, "s", "f"]}}'
    assert set(KnownObjects.decode(rows).objects) == {"c"}


def test_it_does_not_grow_without_bound(monkeypatch: object) -> None:
    monkeypatch.setattr(objects, "MAX_OBJECTS", 3)  # type: ignore[attr-defined]
    many = KnownObjects({f"/{n}.o": KnownObject(1.0, 1, float(n)) for n in range(9)}, {"f": "gone"})
    assert KnownObjects.decode(many.encode()) == KnownObjects({f"/{n}.o": many.objects[f"/{n}.o"] for n in (6, 7, 8)})


def test_failures_and_configure_checks_teach_nothing_and_hits_are_seen() -> None:
    before = known(a=3.0)
    jobs = [job("/x.o", outcome="failed"), job("/b/CMakeFiles/CMakeScratch/TryCompile-1/x.o"), job("/b/conftest.o")]
    after = learn(before, jobs, [hit("/a.o")], 9 * HOUR)
    assert set(after.objects) == {"/a.o"}
    assert after.objects["/a.o"].seen == 9 * HOUR


def test_many_hits_that_saved_little_are_no_warm_compile() -> None:
    calls = [*(hit(f"/s{n}.o") for n in range(9)), miss("/slow.o")]
    rates = hit_rates(calls, [job("/slow.o", 91.0)], known(**{f"s{n}": 1.0 for n in range(9)}))
    assert rates.total.rate == 0.09
    assert str(rates) == "9.0 of 100 s of compiling saved (9.0 %)"
    assert rates.by_class() == ()


def test_what_nobody_has_measured_is_no_rate() -> None:
    rates = hit_rates([hit("/a.o"), hit("/b.o"), miss("/c.o")], [job("/c.o")], known(a=3.0))
    assert rates.total.unknown == 1
    assert rates.total.rate is None
    assert str(rates) == ""
    assert HitRates().total.rate is None


def test_each_class_has_its_own_rate() -> None:
    units = "/b/k.cu.o.units"
    before = KnownObjects(
        {
            f"{units}/sm_80.o": KnownObject(30.0, 1, 1.0),
            f"{units}/host.o": KnownObject(9.0, 1, 1.0),
            "/a.o": KnownObject(2.0, 1, 1.0),
        }
    )
    calls = [
        hit(f"{units}/sm_80.o", "k.cu"),
        miss(f"{units}/sm_90.o", "k.cu"),
        hit(f"{units}/host.o", "k.cu"),
        hit("/a.o"),
        Call("/libx.so", "", Outcome.OTHER),
    ]
    rates = hit_rates(calls, [job(f"{units}/sm_90.o", 40.0), job("/libx.so", 7.0)], before)
    assert rates.by_class() == (
        "C and C++: 1 of 1 calls were hits, 2.0 of 2.0 s saved (100.0 %)",
        "device code sm_80: 1 of 1 calls were hits, 30 of 30 s saved (100.0 %)",
        "device code sm_90: 0 of 1 calls were hits, 0.0 of 40 s saved (0.0 %)",
        "host half of CUDA: 1 of 1 calls were hits, 9.0 of 9.0 s saved (100.0 %)",
        "links and other: 7.0 s, which no cache saves",
    )
    assert class_of("/x/k.o", "/src/k.cu") == "CUDA"


def test_lines_that_are_not_whole_are_left_out() -> None:
    assert list(read_jobs(["done\t1", "done\tx\t1\t1\th\to\ts\tw", "done\t1.5\t2\t3\th\t/o\ts\tg++\x1f-c\x1fs\n"])) == [
        Job("done", 1.5, 2, 3, "h", "/o", "s", ("g++", "-c", "s"))
    ]


def test_the_log_of_ccache_is_read_by_process() -> None:
    log = """\
[2026-11-29T05:14:50.414666 10 ] === CCACHE 4.14.2 STARTED =========================================
[2026-11-29T05:14:50.414666 10 ] Working directory: /b
[2026-11-29T05:14:50.414666 11 ] === CCACHE 4.11.2 STARTED =========================================
[2026-11-29T05:14:50.415453 10 ] Source file: a.cpp
[2026-11-29T05:14:50.415453 11 ] Source file: /src/b.cpp
[2026-11-29T05:14:50.415456 10 ] Object file: a.o
[2026-11-29T05:14:50.415456 11 ] Object file: /o/b.o
[2026-11-29T05:14:50.415696 10 ] Manifest key: 7497lm
[2026-11-29T05:14:50.418282 10 ] Retrieved 7497lm from local storage (/ccache/7/4/97lmM)
[2026-11-29T05:14:50.544770 11 ] Result: direct_cache_hit
[2026-11-29T05:14:50.547596 10 ] Result: cache_miss
[2026-11-29T05:14:50.547596 10 ] Result: direct_cache_miss
not a line of it
[2026-11-29T05:14:50.600000 10 ] === CCACHE 4.14.2 STARTED =========================================
[2026-11-29T05:14:50.600000 10 ] Working directory: /b
[2026-11-29T05:14:50.600001 10 ] Result: called_for_link
[2026-11-29T05:14:50.600000 12 ] === CCACHE 4.14.2 STARTED =========================================
""".splitlines()
    assert list(read_call_log(log)) == [
        Call("/b/a.o", "a.cpp", Outcome.MISS, manifest="7497lm"),
        Call("/o/b.o", "/src/b.cpp", Outcome.HIT),
        Call("", "", Outcome.OTHER),
    ]
