"""What a push attaches, in a real registry: by subject where it lists that, under the tag in its place where it does not."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagetiers.adapters.cosign import Cosign
from imagetiers.adapters.registry import HttpRegistry
from imagetiers.errors import RegistryError, VerifyError
from imagetiers.operations.push import push_image
from imagetiers.operations.verify_supply_chain import verify_supply_chain
from imagetiers.planning.decide import decide
from imagetiers.planning.observed import Unknown
from imagetiers.state.observe import observe
from tests.conftest import HERE
from tests.registry.harness import Builder, builder
from tests.registry.keys import key_pair, needs_cosign
from tests.registry.server import RegistryServer
from tests.registry.subjects import SubjectRegistry

Machine = Callable[..., Builder]
PROVENANCE = "attach: [provenance]"


@pytest.fixture
def machine(tmp_path: Path, registry_server: RegistryServer) -> Machine:
    name, count = f"t-{secrets.token_hex(4)}", iter(range(100))

    def make(settings: str, *, host: str = registry_server.host, channels: str = "") -> Builder:
        root = tmp_path / f"machine-{next(count)}"
        shutil.copytree(HERE / "repos" / "tiny", root)
        pipeline = root / "pipeline.yaml"
        apart = f"\nchannels: {channels}" if channels else ""
        text = f"name: {name}\nregistry: {host}{apart}\nsupply_chain: {{{settings}}}"
        pipeline.write_text(re.sub(r"^name: .*$", text, pipeline.read_text(), flags=re.MULTILINE))
        return builder(root, host, tmp_path / "cache")

    return make


@pytest.fixture
def subjects(registry_server: RegistryServer) -> Iterator[SubjectRegistry]:
    server = SubjectRegistry(registry_server.host)
    yield server
    server.stop()


def push(machine: Builder, name: str = "pytorch-clean") -> str:
    machine.make(name)
    push_image(machine.session, machine.tier(name))
    machine.engine.tag(machine.tier(name).ref, machine.tier(name).tags)
    found = observe(machine.session).published(machine.tier(name))
    assert found is not None
    assert not found.bare
    return f"{machine.tier(name).repository}@{found.digest}"


def attached(ref: str) -> dict[str, bytes]:
    registry = HttpRegistry()
    there = registry.referrers(ref)
    assert not isinstance(there, Unknown), there
    return {each.kind: registry.attached(f"{ref.partition('@')[0]}@{each.digest}") for each in there}


def test_the_provenance_says_what_the_key_is_made_of(machine: Machine) -> None:
    me = machine(f"{PROVENANCE}, builder: 'https://builds.example/trusted'")
    ref = push(me)
    push(me, "arr-base")
    (content,) = attached(ref).values()
    predicate = json.loads(content)["predicate"]
    definition, tier = predicate["buildDefinition"], me.tier("pytorch-clean")

    assert predicate["runDetails"]["builder"]["id"] == "https://builds.example/trusted"
    assert definition["internalParameters"]["key"] == tier.key
    assert definition["externalParameters"]["image"] == tier.key_document.content()
    materials = {each["uri"]: each.get("digest") for each in definition["resolvedDependencies"]}
    assert {path for path, kind, _ in tier.key_document.files if kind != "link"} <= set(materials)
    assert [uri for uri in materials if uri.startswith("docker://")] == ["docker://debian:trixie-slim"]
    child = observe(me.session).published(me.tier("arr-base"))
    assert child is not None
    (content,) = attached(f"{me.tier('arr-base').repository}@{child.digest}").values()
    made_of = json.loads(content)["predicate"]["buildDefinition"]["resolvedDependencies"]
    parent = next(each for each in made_of if each["uri"].endswith("/pytorch-clean"))
    assert parent["annotations"] == {"key": tier.key}
    assert "digest" not in parent, "the table's images share no layers, so nobody can say that it was this one"


def test_a_registry_that_lists_subjects_needs_no_tag(machine: Machine, subjects: SubjectRegistry) -> None:
    me = machine(PROVENANCE, host=subjects.host)
    ref = push(me)

    assert set(attached(ref)) == {"application/vnd.in-toto+json"}
    HttpRegistry().attach(ref, "application/spdx+json", b"{}", {})
    assert set(attached(ref)) == {"application/vnd.in-toto+json", "application/spdx+json"}, "of two pages"
    tags = HttpRegistry().tags(me.tier("pytorch-clean").repository)
    assert not isinstance(tags, Unknown)
    assert not [tag for tag in tags if tag.startswith("sha256-")]


def test_what_is_missing_is_pushed_once_more(machine: Machine, registry_server: RegistryServer) -> None:
    me = machine(PROVENANCE)
    ref = push(me)
    path = me.tier("pytorch-clean").repository.partition("/")[2]
    registry_server.remove_tag(path, ref.partition("@")[2].replace(":", "-"))
    task = "push:pytorch-clean"

    assert str(decide(me.plan, observe(me.session))[task]) == "what it is made of and how is not attached to it"
    push_image(me.session, me.tier("pytorch-clean"))
    assert decide(me.plan, observe(me.session))[task] is None


@needs_cosign
def test_where_the_friendly_tags_are_stands_all_of_it(
    machine: Machine, registry_server: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = key_pair(tmp_path / "keys")
    monkeypatch.setenv("COSIGN_PASSWORD", pair.env["COSIGN_PASSWORD"])
    me = machine(
        f"keys: {{main: {pair.public}}}, sign: main, {PROVENANCE}", channels=f"{registry_server.host}/channels"
    )
    object.__setattr__(me.services, "notary", Cosign(str(pair.private)))
    push(me)
    said: list[str] = []
    friendly = me.tier("pytorch-clean").tags[0]
    notary, keys = Cosign(), {"main": str(pair.public)}
    verify_supply_chain(HttpRegistry(), notary, said.append, friendly, keys=keys, kinds=["provenance"])

    assert "/channels/" in friendly
    assert any("provenance: attested by main, attached as sha256:" in line for line in said), said
    with pytest.raises(VerifyError, match="cyclonedx is not attested"):
        verify_supply_chain(HttpRegistry(), notary, said.append, friendly, keys=keys)
    gone = f"{registry_server.host}/no-such:latest"
    with pytest.raises(VerifyError, match="there is no such image in the registry"):
        verify_supply_chain(HttpRegistry(), notary, said.append, gone, keys=keys)


@needs_cosign
def test_nobody_answers_is_not_not_signed(tmp_path: Path) -> None:
    pair = key_pair(tmp_path)
    image = f"127.0.0.1:9/nobody/here@sha256:{'0' * 64}"

    assert isinstance(Cosign().signed(image, str(pair.public)), Unknown)
    assert isinstance(Cosign().attested(image, "https://slsa.dev/provenance/v1", str(pair.public)), Unknown)
    assert isinstance(Cosign().signed(image, str(tmp_path / "no.pub")), Unknown)


def test_a_machine_without_cosign_knows_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    notary = Cosign(str(tmp_path / "key"))

    assert notary.signed("image", "key") == Unknown("cosign is not installed")
    assert notary.cannot_sign("key") == "IMAGETIERS_COSIGN_KEY cannot be read: cosign is not installed"
    assert Cosign().cannot_sign("key") == "IMAGETIERS_COSIGN_KEY is not set"
    with pytest.raises(RegistryError, match="was not signed: cosign is not installed"):
        notary.sign("image")
