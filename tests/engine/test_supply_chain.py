"""What a push publishes beside images, and what a stranger makes of it: the real engine, registry, trivy and cosign."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from imagetiers.adapters.cosign import Cosign
from imagetiers.adapters.registry import HttpRegistry
from imagetiers.planning.observed import Present
from tests.conftest import HERE
from tests.engine.conftest import REPO, Checkout, forget_images, make_checkout, remove_all, use_registry
from tests.registry.keys import KeyPair, key_pair, needs_cosign
from tests.registry.server import RegistryServer

pytestmark = needs_cosign

COMMAND = "import sys; from imagetiers.cli import main; sys.exit(main())"
SIGNED = "supply_chain: {keys: {main: cosign.pub}, sign: main}\ntiers:\n"


@pytest.fixture
def keys(tmp_path: Path) -> KeyPair:
    return key_pair(tmp_path / "keys")


@pytest.fixture
def checkout(tmp_path: Path, registry_server: RegistryServer, keys: KeyPair) -> Iterator[Checkout]:
    made = make_checkout(HERE / "repos" / "tiny", tmp_path / "checkout")
    use_registry(made, registry_server)
    made.edit("pipeline.yaml", "tiers:\n", SIGNED)
    (made.root / "cosign.pub").write_bytes(keys.public.read_bytes())
    yield replace(made, env=keys.env)
    remove_all(made)


def stranger(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command where there is no pipeline."""
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-c", COMMAND, "verify-supply-chain", *words],
        cwd=folder, env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(REPO)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_what_is_pushed_is_signed_and_a_stranger_can_tell(
    checkout: Checkout, registry_server: RegistryServer, keys: KeyPair, tmp_path: Path
) -> None:
    unsigned = checkout.doit("push:arr-base", IMAGETIERS_COSIGN_KEY="")
    assert unsigned.code == 3
    assert "pipeline.yaml has images signed, but IMAGETIERS_COSIGN_KEY is not set" in unsigned.err
    assert registry_server.tags(f"{checkout.name}/arr-base") == {}, "nothing is built in vain"
    wrong = checkout.doit("push:arr-base", COSIGN_PASSWORD="not that")
    assert wrong.code == 3
    assert "IMAGETIERS_COSIGN_KEY cannot be read: " in wrong.err
    assert "decryption failed" in wrong.err
    other = key_pair(tmp_path / "other")
    stolen = checkout.doit("push:arr-base", **other.env)
    assert stolen.code == 3
    assert re.search(r"IMAGETIERS_COSIGN_KEY is not the private half of \S+/cosign.pub", stolen.err)

    pushed = checkout.doit("push:arr-base")
    assert pushed.code == 0, pushed.text
    assert "push:arr-base: signed by main" in pushed.out
    again = checkout.doit("push:arr-base")
    assert (again.code, again.executed) == (0, []), again.text

    ref = f"{registry_server.host}/{checkout.name}/arr-base:latest"
    seen = stranger(tmp_path / "elsewhere", ref, "--key", str(keys.public))
    assert seen.returncode == 0, seen.stdout + seen.stderr
    assert "  signed by " in seen.stdout
    assert "tier arr-base, key " in seen.stdout
    for kind in ("provenance", "cyclonedx", "spdx"):
        assert f"  {kind}: attested by {keys.public}, attached as sha256:" in seen.stdout
    mine = checkout.doit("verify-supply-chain", "arr-base")
    assert mine.code == 0, mine.text

    refused = stranger(tmp_path / "elsewhere", ref, "--key", str(other.public))
    assert refused.returncode == 1
    assert f"is not signed by {other.public}" in refused.stderr
    assert "provenance is not attested" in refused.stderr


def test_what_is_attached_is_the_same_from_every_push(checkout: Checkout, registry_server: RegistryServer) -> None:
    assert checkout.doit("push:pytorch-clean").code == 0
    registry, repository = HttpRegistry(), f"{registry_server.host}/{checkout.name}/pytorch-clean"
    tags = registry_server.tags(f"{checkout.name}/pytorch-clean")
    ref = f"{repository}@{tags['latest']}"
    first = registry.referrers(ref)
    assert isinstance(first, tuple)
    documents = {each.kind: registry.attached(f"{repository}@{each.digest}") for each in first}
    assert set(documents) == {"application/vnd.in-toto+json", "application/vnd.cyclonedx+json", "application/spdx+json"}
    made = json.loads(documents["application/vnd.in-toto+json"])
    assert made["subject"] == [{"name": repository, "digest": {"sha256": tags["latest"].removeprefix("sha256:")}}]
    assert json.loads(documents["application/vnd.cyclonedx+json"])["metadata"]["component"]["name"] == repository
    assert str(checkout.root) not in b"".join(documents.values()).decode(), "nothing of this machine"

    name = tags["latest"].replace(":", "-")
    for tag in (f"{name}.sig", name):  # somebody has cleaned up
        registry_server.remove_tag(f"{checkout.name}/pytorch-clean", tag)
    forget_images(checkout)
    (checkout.root / ".imagetiers" / "state").rename(checkout.root / "state of before")
    again = checkout.doit("push:pytorch-clean")
    assert again.code == 0, again.text
    assert "push:pytorch-clean" in again.executed
    assert registry.referrers(ref) == first


def test_what_was_attached_by_somebody_else_is_found_out(checkout: Checkout, registry_server: RegistryServer) -> None:
    assert checkout.doit("push:pytorch-clean").code == 0
    path = f"{checkout.name}/pytorch-clean"
    repository, tags = f"{registry_server.host}/{path}", registry_server.tags(path)
    ref = f"{repository}@{tags['latest']}"
    registry, name = HttpRegistry(), tags["latest"].replace(":", "-")
    registry_server.remove_tag(path, name)
    registry.attach(ref, "application/vnd.cyclonedx+json", b'{"bomFormat": "CycloneDX"}', {})
    forged = checkout.doit("verify-supply-chain", ref)
    assert forged.code == 1
    assert "the cyclonedx that is attached is not what was signed" in forged.err

    base = registry_server.digest("base/debian", "trixie-slim")
    assert base is not None
    registry.set_tag(f"{repository}:latest", base, f"{registry_server.host}/base/debian")
    for ending in ("sig", "att"):  # of the image that was signed, beside another one
        signed = registry.look_up([f"{repository}:{name}.{ending}"])[f"{repository}:{name}.{ending}"]
        assert isinstance(signed, Present)
        registry.set_tag(f"{repository}:{base.replace(':', '-')}.{ending}", signed.digest)
    swapped = checkout.doit("verify-supply-chain", f"{repository}:latest")
    assert swapped.code == 1
    assert "is not signed by main" in swapped.err
    assert "provenance is not attested" in swapped.err


def test_nothing_is_built_from_what_nobody_vouches_for(
    checkout: Checkout, registry_server: RegistryServer, keys: KeyPair
) -> None:
    rules = '[{images: "*/base/debian:*", keys: [main]}, {tiers: "pytorch-*", keys: [main]}]'
    checkout.edit("pipeline.yaml", "sign: main}", f"sign: main, attach: [], require_signed_parents: {rules}}}")
    unsigned = checkout.doit("push:arr-base")
    assert (unsigned.code, unsigned.executed) == (1, ["compile:pytorch-clean"]), "before hours of it"
    assert re.search(
        r"pipeline.yaml:\d+:\d+: supply_chain.require_signed_parents\[0\]: \S+/base/debian:trixie-slim "
        r"\(sha256:\w+\) is not signed by main\n  hint: take one that is signed",
        unsigned.err,
    ), unsigned.err
    base = f"{registry_server.host}/base/debian@{registry_server.digest('base/debian', 'trixie-slim')}"
    notary = Cosign(str(keys.private))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COSIGN_PASSWORD", keys.env["COSIGN_PASSWORD"])
        notary.sign(base)
    pushed = checkout.doit("push:arr-base")
    assert pushed.code == 0, pushed.text

    path = f"{checkout.name}/pytorch-clean"
    digest = registry_server.tags(path)["latest"]
    registry_server.remove_tag(path, f"{digest.replace(':', '-')}.sig")
    (checkout.root / "images/arr-base/config/arr-base.txt").write_text("another one\n")
    child = checkout.doit("image:arr-base")
    assert child.code == 1
    assert re.search(r"require_signed_parents\[1\]: \S+/pytorch-clean \(sha256:\w+\) is not signed by main", child.err)
    mine = checkout.doit("image:arr-base", "trust=untrusted", "branch=mine")
    assert mine.code == 0, "an untrusted build publishes nothing"
