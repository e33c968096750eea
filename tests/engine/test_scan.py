"""Known vulnerabilities as a gate, on the real engine, registry and trivy: what is unknown is not pushed, either."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import HERE
from tests.engine.conftest import Checkout, docker, make_checkout, remove_all, use_registry
from tests.registry.server import RegistryServer
from tests.scanner.database import write_database

ADVISORIES = {"debian 13": {"apt": {"CVE-2026-0001": "99"}, "perl": {"CVE-2026-0002": ""}}}
SEVERITIES = {"CVE-2026-0001": "HIGH", "CVE-2026-0002": "CRITICAL"}
WAIVER = 'waivers: [{vulnerability: CVE-2026-0001, reason: "for a test", until: 2999-01-01}]\ntiers:\n'


@pytest.fixture
def checkout(tmp_path: Path, registry_server: RegistryServer) -> Iterator[Checkout]:
    made = make_checkout(HERE / "repos" / "tiny", tmp_path / "checkout")
    use_registry(made, registry_server)
    made.edit("pipeline.yaml", "tiers:\n", "scan: {database: vulnerabilities}\ntiers:\n")
    yield made
    remove_all(made)


def published(checkout: Checkout, server: RegistryServer) -> bool:
    return bool(server.tags(f"{checkout.name}/arr-base"))


def test_what_is_unknown_or_bad_is_not_pushed(checkout: Checkout, registry_server: RegistryServer) -> None:
    unknown = checkout.doit("push:arr-base")
    assert unknown.code == 1
    assert "scan:pytorch-clean: is unknown: there is no database" in unknown.err

    now = datetime.now(UTC)
    folder = checkout.root / "vulnerabilities"
    write_database(folder, ADVISORIES, SEVERITIES, (now - timedelta(days=30)).isoformat())
    old = checkout.doit("push:arr-base")
    assert old.code == 1
    assert "older than scan.max_age allows" in old.err

    write_database(folder, ADVISORIES, SEVERITIES, (now - timedelta(hours=1)).isoformat())
    bad = checkout.doit("push:arr-base")
    assert bad.code == 1
    assert re.search(r"scan:pytorch-clean: CVE-2026-0001 \(high\): apt \S+, fixed in 99", bad.err)
    assert "CVE-2026-0002" not in bad.err, "nobody has fixed it"
    assert not published(checkout, registry_server)

    checkout.edit("pipeline.yaml", "tiers:\n", WAIVER)
    good = checkout.doit("push:arr-base")
    assert good.code == 0, good.text
    assert published(checkout, registry_server)
    said = re.search(
        r"scan:arr-base: \w+ \(sha256:\w+\), trivy 0\.\S+, database of \S+: (\d+) vulnerabilities", good.out
    )
    assert said, good.out

    report = checkout.doit("report", "--out", "-")
    assert report.code == 0, report.text
    assert re.search(rf"{said[1]} found on \S+ \S+ UTC by trivy", report.out)
    assert re.search(r"CVE-2026-0001</code></th><td[^>]*>high</td><td>apt .*?<td>99</td><td>waived</td>", report.out)

    shown = checkout.doit("scan", "arr-base")
    assert (shown.code, f"{said[1]} vulnerabilities" in shown.out) == (0, True)
    differs = checkout.doit("scan:diff", "debian:trixie-slim", "arr-base")
    assert differs.code == 0, differs.text
    assert len(re.findall(rf"\(sha256:\w+\): {said[1]} vulnerabilities|: {said[1]} vulnerabilities", differs.out)) == 2


def test_two_images_differ_by_what_one_has_removed(checkout: Checkout) -> None:
    now = datetime.now(UTC).isoformat()
    write_database(checkout.root / "vulnerabilities", ADVISORIES, SEVERITIES, now)
    checkout.edit(
        "images/arr-base/Dockerfile",
        "COPY config/ /config/\n",
        "USER root\nRUN dpkg --purge --force-all apt\nUSER 10001\n",
    )
    built = checkout.doit("image:arr-base")
    assert built.code == 0, built.text
    run = checkout.doit("scan:diff", "pytorch-clean", "arr-base")

    assert run.code == 0, run.text
    assert re.search(r"^  gone: CVE-2026-0001 \(high\): apt ", run.out, re.MULTILINE)
    assert "  new: " not in run.out
    assert checkout.doit("scan:diff", "pytorch-clean").code == 3
    assert docker("images", "-q", "debian:trixie-slim")
