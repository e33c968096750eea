"""Publishing: one digest a key, whoever was first; and every way in which a tag can go wrong, found, said and put right."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imagetiers.adapters import registry_http as registry_wire
from imagetiers.adapters.registry import HttpRegistry
from imagetiers.building.preconditions import check_may_build
from imagetiers.config.model import Trust
from imagetiers.errors import EngineError, ImagetiersError, NotBuiltError, RegistryError, StoreError, TagMovedError
from imagetiers.operations.plan import show_plan
from imagetiers.operations.pull import pull_image
from imagetiers.operations.push import push_image
from imagetiers.planning.decide import TierDecision, TierState, decide
from imagetiers.planning.observed import Answer, RegistryState
from imagetiers.planning.plan import Plan
from imagetiers.rules.finding import Finding
from imagetiers.state.observe import observe
from imagetiers.state.registry import publication_name
from tests.conftest import HERE, tiers_of
from tests.registry.harness import QUICK, Builder, builder, upload
from tests.registry.server import RegistryServer
from tests.waiting import PATIENCE

REPO = HERE.parent
HARNESS = str(HERE / "registry" / "harness.py")
Machine = Callable[..., Builder]


@pytest.fixture
def machine(tmp_path: Path, registry_server: RegistryServer) -> Machine:
    """Make machines that share a pipeline, a registry and a cache, and nothing else."""
    name = f"t-{secrets.token_hex(4)}"
    count = iter(range(100))

    def make(
        *, trust: Trust | None = None, host: str = registry_server.host, channels: str = "", containerd: bool = False
    ) -> Builder:
        root = tmp_path / f"machine-{next(count)}"
        shutil.copytree(HERE / "repos" / "tiny", root)
        pipeline = root / "pipeline.yaml"
        apart = f"\nchannels: {channels}" if channels else ""
        text = re.sub(r"^name: .*$", f"name: {name}\nregistry: {host}{apart}", pipeline.read_text(), flags=re.MULTILINE)
        pipeline.write_text(text)
        made = builder(root, registry_server.host, tmp_path / "cache", trust=trust)
        made.engine.containerd = containerd
        return made

    return make


def push(machine: Builder, *, force: bool = False) -> None:
    push_image(machine.session, machine.tier(), force=force)


def found(machine: Builder) -> RegistryState:
    return observe(machine.session).registered["arr-base"]


def decided(machine: Builder) -> tuple[TierDecision, ...]:
    return tiers_of(machine.plan, observe(machine.session))


def push_reason(machine: Builder) -> str:
    seen = observe(machine.session)
    return str(decide(machine.plan, seen)["push:arr-base"] or "")


def place(machine: Builder) -> tuple[str, str]:
    """Return repository (without host) and tag of the tier's key."""
    repository, _, tag = machine.tier().ref.partition("/")[2].rpartition(":")
    return repository, tag


def test_published_once_and_found_by_others(machine: Machine, registry_server: RegistryServer) -> None:
    first, second = machine(), machine()
    image = first.make()
    assert push_reason(first) == "not in the registry yet"
    push(first)
    repository, tag = place(first)
    tags = registry_server.tags(repository)

    assert set(tags) == {tag, "latest"}
    assert found(second).image == image.id
    assert found(second).tags == {second.tier().tags[0]}
    seen = observe(second.session)
    assert seen.verified(second.tier()), "the verdict is the cache's"
    assert push_reason(second) == ""
    decision = decided(second)[1]
    assert (decision.state, decision.runs) == (TierState.FOUND_IN_REGISTRY, ())

    push(second)
    assert registry_server.tags(repository) == tags
    pull_image(second.session, second.tier())
    assert second.engine.table[second.tier().ref].id == image.id
    assert push_reason(second) == ""


@pytest.mark.parametrize(("one", "other"), [(False, True), (True, False), (True, True)])
def test_engines_that_call_images_otherwise_know_what_has_passed(machine: Machine, *, one: bool, other: bool) -> None:
    first, second = machine(containerd=one), machine(containerd=other)
    image = first.make()
    push(first)

    there = observe(second.session)
    assert there.verified(second.tier()), "the verdict is kept under the first engine's word for it"
    assert decided(second)[1].runs == ()
    pull_image(second.session, second.tier())
    here = second.engine.table[second.tier().ref].id

    assert (here == image.id) is (one is other)
    assert observe(second.session).verified(second.tier())
    assert push_reason(second) == ""
    push(second)
    assert "adopted" not in second.said
    assert second.engine.table[second.tier().ref].id == here


def test_an_image_of_the_same_key_that_is_another_has_not_passed(machine: Machine) -> None:
    first, second = machine(containerd=True), machine()
    first.make()
    push(first)
    second.engine.make(second.tier())

    assert not observe(second.session).verified(second.tier())
    assert "another image of this key" in push_reason(second)


def test_a_deploy_job_needs_the_registry_and_no_docker(machine: Machine, tmp_path: Path) -> None:
    """`doit plan --require-built` on a machine without an engine: built, not built, and nobody can tell."""
    first, job = machine(), machine()
    job.engine.images = lambda: (_ for _ in ()).throw(EngineError.of("docker", "is not there"))  # type: ignore[method-assign]
    for name in first.plan.tiers:
        first.make(name)
        push_image(first.session, first.tier(name))
    to = str(tmp_path / "plan.json")

    def gate(one: Builder) -> str:
        try:
            show_plan(one.session, to=to, require_built=True)
        except NotBuiltError as error:
            return str(error)
        return ""

    assert gate(job) == ""
    told = json.loads((tmp_path / "plan.json").read_text())
    assert told["forecast"]["pull_bytes"] == 0, "what is published and verified is not pulled"

    (first.layout.root / "images/arr-training/config/arr-training.txt").write_text("edited")
    fresh = builder(first.layout.root, "", tmp_path / "cache")
    assert gate(fresh).count("is not built") == 1
    assert "arr-training: is not built, image:arr-training would run" in gate(fresh)
    step = json.loads((tmp_path / "plan.json").read_text())["tiers"][2]["forecast"]
    assert step["steps"][0]["change"] == "image, parent pulled"
    assert [pull["what"] for pull in step["pulls"]] == ["image arr-base"]
    assert step["pulls"][0]["bytes"] > 0

    away = machine(host="127.0.0.1:9")
    assert gate(away).count("nobody can tell whether it is built") == 3
    assert "is not built" not in gate(away)


def test_who_comes_second_adopts(machine: Machine, registry_server: RegistryServer) -> None:
    first, second = machine(), machine()
    image = first.make()
    second.make()
    push(first)
    before = registry_server.listing()
    reason = push_reason(second)
    assert "another image of this key" in reason

    push(second)

    assert registry_server.listing() == before
    assert second.engine.table[second.tier().ref].id == image.id
    assert "another builder was first with this key" in second.said


def test_the_other_one_wins_between_look_and_push(machine: Machine, registry_server: RegistryServer) -> None:
    first, second = machine(), machine()
    image = first.make()
    second.make()
    second.engine.before_push = lambda: push(first)

    push(second)

    repository, tag = place(first)
    published = found(first)
    assert published.image == image.id
    assert registry_server.digest(repository, tag) == published.digest, "the tag is back where the first one put it"
    assert second.engine.table[second.tier().ref].id == image.id


class Interrupting(HttpRegistry):
    """A registry at which somebody else acts between the moving of a tag and the reading back."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__(QUICK)
        self._acts, self._armed = [act], False

    def set_tag(self, ref: str, digest: str, source: str = "") -> None:
        self._armed = True
        super().set_tag(ref, digest, source)

    def _look_up(self, ref: str) -> Answer:
        if self._armed and self._acts:
            self._acts.pop()()
        return super()._look_up(ref)


def test_a_third_one_pushes_before_the_tag_is_read_back(machine: Machine, registry_server: RegistryServer) -> None:
    first, second, third = machine(), machine(), machine()
    image = first.make()
    second.make()
    third.make()
    second.engine.before_push = lambda: push(first)
    late = Interrupting(lambda: third.engine.push(third.tier().ref, lambda _: None))

    push(replace(second, services=replace(second.services, registry=late)))

    repository, tag = place(first)
    assert registry_server.digest(repository, tag) == found(first).digest
    assert found(first).image == image.id == second.engine.table[second.tier().ref].id


def test_a_friendly_tag_that_somebody_moves_at_the_same_time(machine: Machine, registry_server: RegistryServer) -> None:
    only, other = machine(), machine()
    only.make()
    other.make()
    repository, _ = place(only)
    latest = f"{only.tier().repository}:latest"
    other.engine.table[latest] = other.engine.table[other.tier().ref]
    late = Interrupting(lambda: other.engine.push(latest, lambda _: None))

    with pytest.raises(TagMovedError, match=f"{latest}: was pointed to sha256:.*but read back it is sha256:"):
        push(replace(only, services=replace(only.services, registry=late)))
    push(only)
    assert registry_server.digest(repository, "latest") == found(only).digest


class Pointing(HttpRegistry):
    """A registry that remembers which tags it was told to move."""

    def __init__(self) -> None:
        super().__init__(QUICK)
        self.moved: list[str] = []

    def set_tag(self, ref: str, digest: str, source: str = "") -> None:
        self.moved.append(ref)
        super().set_tag(ref, digest, source)


def test_friendly_tags_apart_from_key_tags(
    machine: Machine, registry_server: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_bytes(*_: object) -> None:
        raise AssertionError("what the same registry holds is mounted, and not sent again")

    monkeypatch.setattr(registry_wire, "_Passing", no_bytes)
    channels = f"{registry_server.host}/channels"
    registry = Pointing()
    first, second = (machine(channels=channels) for _ in range(2))
    first = replace(first, services=replace(first.services, registry=registry))
    repository, old = place(first)
    latest = f"{channels}/{repository}:latest"
    assert first.tier().tags == (latest,)

    image = first.make()
    push(first)
    digests = [registry_server.digest(repository, old)]
    assert registry_server.tags(repository) == {old: digests[0]}
    assert registry_server.tags(f"channels/{repository}") == {"latest": digests[0]}

    seen = observe(second.session)
    assert seen.registered["arr-base"].tags == {latest}
    assert push_reason(second) == "", "a fresh machine has nothing to do"
    pull_image(second.session, second.tier())
    assert second.engine.table[latest].id == image.id

    # Another key, and back again: the channel moves, and no tag by key ever does.
    (first.layout.root / "images/arr-base/config/arr-base.txt").write_text("edited\n")
    changed = builder(first.layout.root, registry_server.host, first.layout.root.parent / "cache")
    changed = replace(changed, services=replace(changed.services, registry=registry))
    changed.make()
    push(changed)
    _, new = place(changed)
    digests.append(registry_server.digest(repository, new))
    assert registry_server.tags(repository) == dict(sorted({old: digests[0], new: digests[1]}.items()))
    assert registry_server.tags(f"channels/{repository}") == {"latest": digests[1]}
    assert push_reason(second).endswith("points elsewhere")
    push(first)
    assert registry_server.tags(f"channels/{repository}") == {"latest": digests[0]}
    assert registry.moved == [latest] * 3, "a repository whose tags are immutable would have refused nothing"


def test_friendly_tags_in_another_registry(machine: Machine, registry_server: RegistryServer, tmp_path: Path) -> None:
    other = RegistryServer(tmp_path / "other")
    try:
        only = machine(channels=f"{other.host}/friendly")
        only.make()
        push(only)
        repository, tag = place(only)
        assert other.digest(f"friendly/{repository}", "latest") == registry_server.digest(repository, tag)
        assert found(only).tags == set(only.tier().tags)

        # Whose channel went away: the image is, and nothing is built, but the tag must be put back.
        other.collect(f"friendly/{repository}", str(other.digest(f"friendly/{repository}", "latest")))
        assert found(only).digest == registry_server.digest(repository, tag)
        push(only)
        assert other.digest(f"friendly/{repository}", "latest") == registry_server.digest(repository, tag)
        other.stop()
        with pytest.raises(RegistryError, match="no answer from the registry"):
            push(only)
    finally:
        other.stop()


def test_a_friendly_tag_apart_that_somebody_moves(machine: Machine, registry_server: RegistryServer) -> None:
    channels = f"{registry_server.host}/channels"
    only, other = machine(channels=channels), machine(channels=channels)
    only.make()
    other.make()
    (latest,) = only.tier().tags
    other.engine.table[latest] = other.engine.table[other.tier().ref]
    late = Interrupting(lambda: other.engine.push(latest, lambda _: None))

    with pytest.raises(TagMovedError, match=f"{latest}: was pointed to sha256:"):
        push(replace(only, services=replace(only.services, registry=late)))
    push(only)
    assert registry_server.digest(f"channels/{place(only)[0]}", "latest") == found(only).digest


def test_a_registry_with_immutable_tags_refuses_the_second(machine: Machine) -> None:
    first, second = machine(), machine()
    image = first.make()
    second.make()

    def lose() -> None:
        push(first)
        second.engine.refuse = "the tag is immutable"

    second.engine.before_push = lose
    push(second)
    assert second.engine.table[second.tier().ref].id == image.id


def test_a_push_that_is_refused_says_so(machine: Machine, registry_server: RegistryServer) -> None:
    only = machine()
    only.make()
    only.engine.refuse = "denied: no permission"

    with pytest.raises(RegistryError, match="denied: no permission"):
        push(only)
    assert registry_server.tags(place(only)[0]) == {}


@pytest.mark.parametrize("attempt", range(3))
def test_builders_at_once_in_processes(
    machine: Machine, registry_server: RegistryServer, tmp_path: Path, attempt: int
) -> None:
    del attempt
    machines = [machine() for _ in range(3)]
    start = str(time.time() + 2.5)
    racers = [
        subprocess.Popen(
            [sys.executable, HARNESS, str(one.layout.root), registry_server.host, str(tmp_path / "cache"), start],
            env={**os.environ, "PYTHONPATH": str(REPO)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for one in machines
    ]
    outputs = [racer.communicate(timeout=PATIENCE) for racer in racers]
    assert "".join(err for _, err in outputs) == ""
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    results = [json.loads(out)["results"] for out, _ in outputs]

    assert results[0] == results[1] == results[2]
    assert sum(out.count("is adopted") for out, _ in outputs) == 6, "of three builders of three tiers, two came second"
    for name, (digest, image) in results[0].items():
        tier = machines[0].tier(name)
        repository, _, tag = tier.ref.partition("/")[2].rpartition(":")
        assert digest.endswith(str(registry_server.digest(repository, tag)))
        assert registry_server.digest(repository, "latest") == registry_server.digest(repository, tag)
        assert observe(machines[1].session).registered[name].image == image


def test_a_tag_that_was_removed_is_said_and_put_back(machine: Machine, registry_server: RegistryServer) -> None:
    first, second = machine(), machine()
    first.make()
    push(first)
    repository, tag = place(first)
    digest = str(registry_server.digest(repository, tag))
    registry_server.remove_tag(repository, tag)

    state = found(second)
    assert state.digest == digest, "it is found by its digest, and nothing is built"
    assert "was removed" in state.wrong
    assert decided(second)[1].state is TierState.FOUND_IN_REGISTRY

    push(second)
    assert registry_server.digest(repository, tag) == digest
    assert found(second).wrong == ""


def test_an_image_that_was_collected_is_evicted(machine: Machine, registry_server: RegistryServer) -> None:
    first, second = machine(), machine()
    first.make()
    push(first)
    repository, tag = place(first)
    registry_server.collect(repository, str(registry_server.digest(repository, tag)))

    state = found(second)
    assert (state.digest, state.unknown) == ("", "")
    assert state.wrong.startswith("evicted: sha256:")
    decision = decided(second)[1]
    assert decision.state is TierState.BUILD
    assert decision.why[0].startswith("evicted")

    image = second.make()
    push(second)
    assert found(first).image == image.id, "the record of publication is written anew"


def test_a_tag_overwritten_by_hand_with_another_key(machine: Machine, registry_server: RegistryServer) -> None:
    first, second = machine(), machine()
    first.make()
    push(first)
    repository, tag = place(first)
    digest = str(registry_server.digest(repository, tag))
    wrong = machine()
    wrong.engine.make(wrong.tier(), key="f" * 64)
    wrong.engine.push(wrong.tier().ref, lambda _: None)

    state = found(second)
    assert state.digest == digest
    assert "was overwritten: it holds an image of another key (arr-base ffffffffffff)" in state.wrong
    assert "was overwritten" in found(first).wrong, "also where the right image is here"
    push(second)
    assert registry_server.digest(repository, tag) == digest
    assert "was overwritten" in second.said


def test_a_tag_overwritten_and_nothing_left(machine: Machine, registry_server: RegistryServer) -> None:
    first = machine()
    repository, tag = place(first)
    upload(registry_server.host, repository, tag, b'{"config": {"Labels": null}}')

    state = found(first)
    assert state.blocked
    assert "holds an image that imagetiers has not built" in state.wrong
    image = first.make()
    with pytest.raises(RegistryError, match=r"was overwritten(.|\n)*push:arr-base --rebuild"):
        push(first)
    push(first, force=True)
    assert found(first).image == image.id


def test_another_build_of_the_same_key_put_there_by_hand(machine: Machine, registry_server: RegistryServer) -> None:
    first, hand, third = machine(), machine(), machine()
    first.make()
    push(first)
    repository, tag = place(first)
    digest = str(registry_server.digest(repository, tag))
    hand.make()
    hand.engine.push(hand.tier().ref, lambda _: None)

    assert found(third).digest == digest, "what was published stays the image of the key"
    registry_server.collect(repository, digest)
    lone = found(third)
    assert lone.digest == registry_server.digest(repository, tag)
    assert "is gone" in lone.wrong
    push(third)
    assert found(third).wrong == ""


def test_a_builder_that_died_between_push_and_record(machine: Machine) -> None:
    dead, second = machine(), machine()
    image = dead.make()
    dead.engine.push(dead.tier().ref, lambda _: None)

    push(second)

    assert found(second).image == image.id
    assert second.services.store.stat(publication_name(second.tier())) is not None


def test_a_damaged_record_is_written_anew(machine: Machine) -> None:
    first, second = machine(), machine()
    image = first.make()
    push(first)
    first.services.store.write(publication_name(first.tier()), b"{")

    assert found(second).image == image.id
    push(second)
    assert json.loads(second.services.store.read(publication_name(second.tier()))[0])["key"] == second.tier().key


def test_a_cache_that_cannot_be_written_costs_a_line(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    only = machine()
    image = only.make()

    def refuse(*_: object, **__: object) -> int:
        raise StoreError.of("cache", "read-only")

    monkeypatch.setattr(only.services.store, "write", refuse)
    push(only)
    assert found(only).image == image.id
    assert "was not recorded" in only.said


def test_untrusted_builds_read_and_never_push(machine: Machine, registry_server: RegistryServer) -> None:
    pull_request, trusted = machine(trust=Trust(trusted=False, branch="pr-7")), machine()
    pull_request.make()
    before = registry_server.listing()
    with pytest.raises(RegistryError, match="an untrusted build pushes nothing"):
        push(pull_request)
    assert registry_server.listing() == before

    trusted.engine.make(trusted.tier(), trust="untrusted/pr-7")
    seen = observe(trusted.session)
    assert seen.image(trusted.tier()) is None, "an image that a pull request has left on this machine is none"
    trusted.engine.push(trusted.tier().ref, lambda _: None)
    assert "was built by untrusted/pr-7" in found(trusted).wrong, "nor when it got into the registry"

    trusted.make()
    push(trusted, force=True)
    assert found(pull_request).digest == found(trusted).digest


def test_a_registry_that_does_not_answer_builds_nothing(machine: Machine) -> None:
    only = machine(host="127.0.0.1:9")
    seen = observe(only.session)
    decision = decided(only)[1]

    assert decision.state is TierState.UNKNOWN
    assert decision.runs == ()
    assert "no answer from the registry" in decision.why[0]
    with pytest.raises(RegistryError, match="nothing is built for hours on a guess"):
        check_may_build(only.plan, only.tier(), seen, "image:arr-base", force=False)
    only.engine.make(only.tier())
    assert decided(only)[1].state is TierState.FOUND_LOCALLY
    with pytest.raises(RegistryError, match="nothing was pushed"):
        push(only)


def test_trusted_builds_for_a_registry_want_pinned_bases(machine: Machine) -> None:
    trusted, untrusted = machine(), machine(trust=Trust(trusted=False, branch="pr-7"))
    for one, refused in ((trusted, True), (untrusted, False)):
        tier = one.plan.tiers["pytorch-clean"]
        seen = observe(one.session)
        if refused:
            with pytest.raises(ImagetiersError, match=r"debian:trixie-slim is not pinned(.|\n)*doit lock"):
                check_may_build(one.plan, tier, seen, "image:pytorch-clean", force=True)
        else:
            check_may_build(one.plan, tier, seen, "image:pytorch-clean", force=False)


def test_a_dockerfile_that_breaks_a_rule_is_not_published(machine: Machine, registry_server: RegistryServer) -> None:
    only = machine()
    only.make()
    broken = Finding(
        "copy-then-remove", "arr-base", "images/arr-base/Dockerfile", 3, "line 4 removes it", is_error=True
    )
    tier = replace(only.tier(), findings=(broken,))

    with pytest.raises(RegistryError, match=r"line 4 removes it(.|\n)*costs:"):
        push_image(only.session, tier)
    assert registry_server.tags(place(only)[0]) == {}

    push(only)
    assert registry_server.tags(place(only)[0])


def test_without_a_registry_nothing_is_asked(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    only = machine()
    pipeline = only.layout.root / "pipeline.yaml"
    pipeline.write_text(re.sub(r"^registry: .*\n", "", pipeline.read_text(), flags=re.MULTILINE))
    again = builder(only.layout.root, only.engine.host, only.layout.root / "cache")
    plan: Plan = again.plan

    def ask(*_: object) -> None:
        raise AssertionError("a request")

    monkeypatch.setattr(again.services.registry, "look_up", ask)
    assert observe(replace(again.session, plan=plan)).registered == {}
    with pytest.raises(RegistryError, match="the pipeline has no registry"):
        push(again)
