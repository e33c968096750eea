"""trivy as it is, with a database of the tests: what it finds, what it is told not to mind, and how it can fail to answer."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import tarfile
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from imagetiers.adapters.trivy import Trivy
from imagetiers.config.model import ScanClass, ScanPolicy, Waiver
from imagetiers.planning.observed import Unknown
from imagetiers.planning.vulnerabilities import ScanReport, SeverityLevel, Vulnerability, judge_scan, read_report
from imagetiers.services import Scan
from tests.conftest import HERE
from tests.scanner.database import write_database
from tests.scanner.image import debian, saved_by_containerd, tar

UPDATED = "2026-11-20T06:00:00Z"
NOW = datetime(2026, 11, 21, tzinfo=UTC).timestamp()
POLICY = ScanPolicy("database")
ADVISORIES = {"debian 13": {"zlib": {"CVE-2026-0001": "1.4", "CVE-2026-0003": ""}, "curl": {"CVE-2026-0002": "9.0"}}}
SEVERITIES = {"CVE-2026-0001": "CRITICAL", "CVE-2026-0002": "LOW", "CVE-2026-0003": "HIGH"}
ZLIB = Vulnerability("CVE-2026-0001", "zlib", "1.3.1", "1.4", SeverityLevel.CRITICAL)
CURL = Vulnerability("CVE-2026-0002", "curl", "8.14", "9.0", SeverityLevel.LOW)
UNFIXED = Vulnerability("CVE-2026-0003", "zlib", "1.3.1", "", SeverityLevel.HIGH)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return write_database(tmp_path / "database", ADVISORIES, SEVERITIES, UPDATED)


@pytest.fixture(scope="module")
def sbom() -> bytes:
    made = Trivy().sbom([debian({"zlib": "1.3.1", "curl": "8.14", "bash": "5.2"})])
    assert isinstance(made, bytes), made
    return made


def scanned(sbom: bytes, database: Path, *vex: bytes) -> ScanReport | Unknown:
    found = Trivy().scan(sbom, database, vex)
    return (
        found if isinstance(found, Unknown) else read_report(found.scanner, found.database, found.report, POLICY, NOW)
    )


def test_what_it_finds(sbom: bytes, database: Path) -> None:
    document = json.loads(sbom)
    report = scanned(sbom, database)

    assert document["bomFormat"] == "CycloneDX"
    assert {"zlib", "curl", "bash"} <= {component["name"] for component in document["components"]}
    assert isinstance(report, ScanReport), report
    assert report.scanner.startswith("trivy 0.")
    assert (report.database, report.found) == (UPDATED, (ZLIB, CURL, UNFIXED))
    assert not (database / "fanal").exists(), "it writes nothing beside the database"


def test_a_statement_of_ours_takes_away_what_a_build_has_patched(sbom: bytes, database: Path) -> None:
    product = "pkg:deb/debian/zlib@1.3.1"
    vex = {
        "@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://example.org/vex", "author": "us", "version": 1,
        "timestamp": "2026-11-20T00:00:00Z",
        "statements": [{"vulnerability": {"name": "CVE-2026-0001"}, "products": [{"@id": product}], "status": "fixed"}],
    }  # fmt: skip
    report = scanned(sbom, database, json.dumps(vex).encode())

    assert isinstance(report, ScanReport), report
    assert [each.id for each in report.found] == ["CVE-2026-0002", "CVE-2026-0003"]


def test_the_statements_of_pytorch_clean_rule_out_what_its_patches_fix_and_nothing_else(tmp_path: Path) -> None:
    fixed, other = "CVE-2025-3730", "CVE-2025-2953"
    advisories = {"pip::GitHub Security Advisory Pip": {"torch": {fixed: "2.8.0", other: "2.7.1"}}}
    database = write_database(tmp_path, advisories, {fixed: "MEDIUM", other: "LOW"}, UPDATED)
    statements = (HERE.parent / "images" / "pytorch-clean" / "patched.openvex.json").read_bytes()

    left = {}
    for version in ("2.6.0", "2.6.0+cu124", "2.6.0+debian", "2.7.0"):
        made = Trivy().sbom([debian({"bash": "5.2"}, python={"torch": version})])
        assert isinstance(made, bytes), made
        reports = scanned(made, database), scanned(made, database, statements)
        assert all(isinstance(report, ScanReport) for report in reports), reports
        left[version] = [{each.id for each in report.found} for report in reports if isinstance(report, ScanReport)]

    assert left.pop("2.7.0") == [{fixed, other}] * 2, "we have patched no other version"
    assert all(those == [{fixed, other}, {other}] for those in left.values()), left


def test_without_a_database_nothing_is_known(sbom: bytes, tmp_path: Path) -> None:
    report = scanned(sbom, tmp_path / "nowhere")

    assert isinstance(report, Unknown)
    assert "there is no database" in report.reason


def test_a_database_that_is_none(sbom: bytes, database: Path) -> None:
    (database / "db" / "trivy.db").write_bytes(b"no database")
    broken = scanned(sbom, database)
    (database / "db" / "metadata.json").unlink()
    undated = scanned(sbom, database)

    assert isinstance(broken, Unknown)
    assert isinstance(undated, Unknown)


def test_an_old_database_tells_nothing_of_today(sbom: bytes, database: Path) -> None:
    found = Trivy().scan(sbom, database, ())
    assert isinstance(found, Scan)

    late = read_report(found.scanner, found.database, found.report, POLICY, NOW + 8 * 86_400)

    assert late == Unknown(f"the database is of {UPDATED}, and older than scan.max_age allows")


def test_an_image_whose_distribution_nobody_knows_is_not_clean(database: Path) -> None:
    made = Trivy().sbom(
        [
            debian({"zlib": "1.3.1"}, release="ID=homemade\nVERSION_ID=1\n").replace(
                b"etc/debian_version", b"etc/homemade_versio"
            )
        ]
    )
    report = scanned(made, database) if isinstance(made, bytes) else made

    assert isinstance(report, Unknown), report


def test_layers_of_which_one_is_compressed(database: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(debian({"zlib": "1.3.1"}))) as saved:
        config, layer = (saved.extractfile(name).read() for name in ("config.json", "layer.tar"))  # type: ignore[union-attr]
    document = json.loads(config)
    above = tar({"etc/motd": "hello\n"})
    document["rootfs"]["diff_ids"].append(f"sha256:{hashlib.sha256(above).hexdigest()}")
    document["history"].append({"created_by": "COPY motd /etc"})

    made = Trivy().sbom([saved_by_containerd(document, [layer, gzip.compress(above)])])

    assert isinstance(made, bytes), made
    report = scanned(made, database)
    assert isinstance(report, ScanReport), report
    assert report.found == (ZLIB, UNFIXED)


def test_what_is_no_archive() -> None:
    assert isinstance(Trivy().sbom([b"no archive"]), Unknown)


@pytest.mark.parametrize(
    "answer",
    [b"", b"{}", b"[]", b'{"SchemaVersion": 2}', b'{"SchemaVersion": 2, "Metadata": {"OS": {"Family": "debian"}}}'],
)
def test_a_report_that_is_none(answer: bytes) -> None:
    assert isinstance(read_report("trivy", UPDATED, answer, POLICY, NOW), Unknown)


def test_where_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    monkeypatch.setenv("PATH", str(tmp_path))

    assert Trivy().sbom([b""]) == Unknown("trivy is not installed")


REPORT = ScanReport("trivy", UPDATED, (ZLIB, CURL, UNFIXED))
DAY = date(2026, 11, 21)


def waiver(until: str, tier: str | None = None) -> Waiver:
    return Waiver("we never call it", until, vulnerability="CVE-2026-0001", tier=tier)


@pytest.mark.parametrize(
    ("policy", "failing"),
    [
        (POLICY, [ZLIB]),
        (ScanPolicy("d", unfixed=True), [ZLIB, UNFIXED]),
        (ScanPolicy("d", fail_on="low"), [ZLIB, CURL]),
        (ScanPolicy("d", fail_on="critical", unfixed=True), [ZLIB]),
    ],
)
def test_the_policy(policy: ScanPolicy, failing: list[Vulnerability]) -> None:
    judged = judge_scan(REPORT, policy, (), "app", DAY)

    assert (list(judged.failing), len(judged.failing) + len(judged.passed)) == (failing, 3)


def test_waivers_and_their_end() -> None:
    def judged(given: Waiver) -> tuple[bool, bool, bool, bool]:
        found = judge_scan(REPORT, POLICY, [given], "app", DAY)
        return bool(found.failing), bool(found.waived), bool(found.expired), bool(found.soon)

    assert judged(waiver("2027-01-01")) == (False, True, False, False)
    assert judged(waiver("2026-12-04")) == (False, True, False, True)
    assert judged(waiver("2026-11-20")) == (True, False, True, False)
    assert judged(waiver("2027-01-01", "other")) == (True, False, False, False)
    clean = judge_scan(ScanReport("trivy", UPDATED, ()), POLICY, [waiver("2020-01-01")], "app", DAY)
    assert (clean.failing, clean.expired) == ((), ()), (
        "an image that does not have it has nothing to do with the waiver"
    )


def test_what_nobody_has_rated_fails() -> None:
    unrated = Vulnerability("CVE-2026-9", "x", "1", "2", SeverityLevel.UNKNOWN)

    assert judge_scan(
        ScanReport("t", UPDATED, (unrated,)), ScanPolicy("d", fail_on="critical"), (), "app", DAY
    ).failing == (unrated,)


def test_classes_of_packages_have_rules_of_their_own(tmp_path: Path) -> None:
    advisories = {
        "debian 13": {"zlib": {"CVE-2026-0001": "1.4"}},
        "pip::GitHub Security Advisory Pip": {"torch": {"CVE-2026-0007": "2.8.0"}},
    }
    severities = {"CVE-2026-0001": "HIGH", "CVE-2026-0007": "HIGH"}
    database = write_database(tmp_path / "database", advisories, severities, UPDATED)
    made = Trivy().sbom([debian({"zlib": "1.3.1"}, python={"torch": "2.6.0"})])
    assert isinstance(made, bytes), made
    report = scanned(made, database)
    assert isinstance(report, ScanReport), report
    assert {each.id: each.kind for each in report.found} == {"CVE-2026-0001": "os", "CVE-2026-0007": "python"}

    def failing(**classes: ScanClass) -> set[str]:
        policy = ScanPolicy("d", classes=classes)
        return {each.package for each in judge_scan(report, policy, (), "app", DAY).failing}

    assert failing() == {"zlib", "torch"}
    assert failing(python=ScanClass(fail_on="critical")) == {"zlib"}
    assert failing(os=ScanClass(fail_on="critical"), python=ScanClass(unfixed=True)) == {"torch"}
    assert ScanPolicy("d", unfixed=True, classes={"os": ScanClass(unfixed=False)}).of("os") == ("high", False)
