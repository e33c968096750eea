"""What who tries to poison later builds: with each role's credentials, on a server that enforces what names begin with.

Two kinds of attackers. Builds of pull requests run whatever their author wrote, with the credentials that ci/terraform
gives them. And whoever has come by the right to write the bucket, but not by the signing key.
"""

from __future__ import annotations

import json
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from imagetiers.building.ccache_session import namespace_chain
from imagetiers.ccache.format.head import Head, NamespaceState, encode_head
from imagetiers.ccache.namespace import Namespace
from imagetiers.ccache.prune import prune
from imagetiers.ccache.pull import pull
from imagetiers.ccache.push import PushOutcome, push
from imagetiers.config.layout import Layout
from imagetiers.config.model import Trust, TrustedKey, TrustSettings
from imagetiers.errors import ForbiddenError, NotFoundError, StoreError, UntrustedError
from imagetiers.operations.ccache import rollback_one
from imagetiers.planning.plan import Plan, TierPlan
from imagetiers.services import Services
from imagetiers.session import Session
from imagetiers.signing.signers import LazySigner, PemSigner
from imagetiers.signing.statements import Statement, new_key, purpose_of, read_document, signed_line, to_sign
from imagetiers.signing.store import SignedStore
from imagetiers.state import wheels
from imagetiers.state.failures import failure_name, last_failure
from imagetiers.state.registry import passed_before, publication
from imagetiers.state.wheels_whole import file_sha256
from imagetiers.stores.port import Store
from tests.ccache.synthetic import entries_in, make_directory
from tests.cloudbuild.test_infrastructure import writable
from tests.gcs.harness import GcsServer

PEM, PUBLIC = new_key()
SETTINGS = TrustSettings((TrustedKey("main-2026", PUBLIC),), require=True)
KEY, IMAGE, CHECK = "ab" * 32, "sha256:" + "12" * 32, "34" * 32
MAIN = namespace_chain("line", Trust(), "4.14.2")[0]
OTHERS, _ = namespace_chain("line", Trust(trusted=False, branch="topic-2"), "4.14.2")
OWN, _ = namespace_chain("line", Trust(trusted=False, branch="topic"), "4.14.2")
DAY = 86_400
DIGEST = "sha256:" + "56" * 32
TIER = cast(
    "TierPlan",
    SimpleNamespace(
        name="tier", key=KEY, ref="host/tier:k", verify=SimpleNamespace(check=CHECK), repository="host/tier"
    ),
)
VERDICT = f"verdicts/{IMAGE.removeprefix('sha256:')}/{CHECK}.json"

# name: the object that an attacker wants a trusted build to believe, and its content
FORGERIES = {
    "verdict": (VERDICT, b'{"passed": true}'),
    "failure": (VERDICT.removesuffix(".json") + ".failed.json", b'{"passed": false}'),
    "publication": ("published/host/tier:k.json", json.dumps({"key": KEY, "digest": DIGEST}).encode()),
    "key document": (f"keys/{KEY}.json", b"{}"),
    "wheels": (f"wheels/{KEY}.tar", b""),
    "what is no image": (f"made/{KEY}.tar", b""),
    "head": (f"ccache/{MAIN}/head", encode_head(Head())),
    "build folders": ("folders/line.json", b'{"folders": [], "format": 1}'),
}
# what else a build of a pull request must not be able to touch (CREEP, CVE-2025-36852, is that it can)
ELSEWHERE = {
    "pack": f"ccache/{MAIN}/packs/{'0' * 64}-{'0' * 16}",
    "segment": f"ccache/{MAIN}/index/{'0' * 64}-{'0' * 16}",
    "record": "records/tier/image/1.json",
    "a part of a build folder": f"folders/line/{'0' * 64}.zst",
    "another branch's head": f"ccache/{OTHERS}/head",
    "another branch's wheels": f"untrusted/topic-2/wheels/{KEY}.tar",
    "another branch's verdict": f"untrusted/topic-2/{VERDICT}",
}


@dataclass
class Lines:
    told: list[str] = field(default_factory=list)

    def line(self, text: str) -> None:
        self.told.append(text)


@pytest.fixture(scope="module")
def server() -> Iterator[GcsServer]:
    running = GcsServer()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def bucket(server: GcsServer) -> Iterator[GcsServer]:
    grants = {"build": [""], "pr": [], "topic": [f"cache/{start}" for start in writable("topic")]}
    server.config(clear=True, principals=grants)
    yield server
    owner = server.store(principal="build")
    for blob in list(owner.list()):
        owner.delete(blob.name)
    server.close_stores()


def trusted(
    server: GcsServer, *, settings: TrustSettings = SETTINGS, signs: bool = False, memory: Path | None = None
) -> SignedStore:
    signer = LazySigner(PEM.decode(), settings) if signs else None
    return SignedStore(server.store(principal="build"), settings, signer, lambda _: None, memory)


def signed_at(name: str, content: bytes, at: float) -> bytes:
    """Sign a document as a trusted build did at that time."""
    statement = Statement.of(name, content, SETTINGS.keys[0], at).encode()
    return signed_line(statement, PemSigner(PEM).sign(to_sign(statement, purpose_of(name)))) + content


def head(sequence: int) -> bytes:
    return encode_head(Head(NamespaceState(sequence)))


def services(store: Store) -> Services:
    return cast("Services", SimpleNamespace(store=store, console=Lines()))


def session(store: Store, root: Path = Path("nowhere"), trust: Trust | None = None) -> Session:
    return Session(cast("Plan", None), Layout(root), services(store), trust or Trust())


def forged_wheels(folder: Path) -> bytes:
    """Make an archive that is right in all but who has made it."""
    (folder / "made").mkdir(parents=True, exist_ok=True)
    (folder / "made" / "torch-1-py3-none-any.whl").write_bytes(b"what the attacker wants")
    listed = {"torch-1-py3-none-any.whl": file_sha256(folder / "made" / "torch-1-py3-none-any.whl")}
    (folder / "made" / wheels.WHEELS_LIST).write_text(json.dumps(listed))
    with tarfile.open(folder / "made.tar", "w") as tar:
        for path in sorted((folder / "made").iterdir()):
            tar.add(path, path.name)
    return (folder / "made.tar").read_bytes()


@pytest.mark.parametrize("role", ["pr", "topic"])
def test_a_pull_request_writes_nothing_that_others_read(bucket: GcsServer, role: str) -> None:
    owner, attacker = bucket.store(principal="build"), bucket.store(principal=role)
    names = [name for name, _ in FORGERIES.values()] + list(ELSEWHERE.values())
    for name in names[::2]:
        owner.write(name, b"right")
    before = {blob.name: blob.generation for blob in owner.list()}

    for name in names:
        with pytest.raises(ForbiddenError):
            attacker.write(name, b"poison")
        with pytest.raises(ForbiddenError):
            attacker.delete(name)
    assert {blob.name: blob.generation for blob in owner.list()} == before


def test_a_branch_writes_its_own_part_and_a_mere_pull_request_nothing(bucket: GcsServer) -> None:
    for name in (f"ccache/{OWN}/head", f"untrusted/topic/{VERDICT}"):
        bucket.store(principal="topic").write(name, b"mine")
        with pytest.raises(ForbiddenError):
            bucket.store(principal="pr").write(name, b"poison")


def test_nobody_without_credentials_reads(bucket: GcsServer) -> None:
    with pytest.raises(StoreError):
        bucket.store().read(VERDICT)


def test_a_trusted_build_takes_nothing_that_a_branch_wrote(bucket: GcsServer, tmp_path: Path) -> None:
    attacker = bucket.store(principal="topic")
    for name, content in FORGERIES.values():
        if not name.startswith("ccache/"):
            attacker.write(f"untrusted/topic/{name}", content or forged_wheels(tmp_path))
    attacker.write(f"ccache/{OWN}/head", encode_head(Head()))
    here = session(trusted(bucket), tmp_path)

    assert not passed_before(here, TIER, IMAGE)
    assert publication(here.services, TIER) is None
    assert not wheels.restore(here, KEY)
    assert OWN not in namespace_chain("line", Trust(), "4.14.2")


def test_a_forged_verdict_does_not_count(bucket: GcsServer) -> None:
    bucket.store(principal="build").write(*FORGERIES["verdict"])

    assert passed_before(session(trusted(bucket, settings=TrustSettings())), TIER, IMAGE), "this is what is stopped"
    assert not passed_before(session(trusted(bucket)), TIER, IMAGE)


def test_a_forged_failure_is_not_shown_and_a_moved_one_passes_for_nothing(bucket: GcsServer) -> None:
    name = failure_name(TIER, IMAGE, Trust())
    content = json.dumps({"passed": False, "at": 1, "failed": [["tier", "torch", "is gone"]], "more": 0}).encode()
    bucket.store(principal="build").write(name, content)

    assert last_failure(session(trusted(bucket, settings=TrustSettings())), TIER, IMAGE, passed=False)
    assert last_failure(session(trusted(bucket)), TIER, IMAGE, passed=False) is None
    trusted(bucket, signs=True).write(name, content)
    assert last_failure(session(trusted(bucket)), TIER, IMAGE, passed=False)
    bucket.store(principal="build").write(VERDICT, bucket.store(principal="build").read(name)[0])
    assert not passed_before(session(trusted(bucket)), TIER, IMAGE)


def test_a_forged_publication_moves_no_tag_and_is_replaced(bucket: GcsServer) -> None:
    name, content = FORGERIES["publication"]
    bucket.store(principal="build").write(name, content)

    found = publication(services(trusted(bucket, settings=TrustSettings())), TIER)
    assert found is not None
    assert found.digest == DIGEST, "this is what is stopped"
    found = publication(services(trusted(bucket)), TIER)
    assert found is not None
    assert found.digest == ""
    trusted(bucket, signs=True).write(name, content, if_generation=found.generation)
    assert publication(services(trusted(bucket)), TIER) != found


def test_a_forged_key_document_is_refused(bucket: GcsServer) -> None:
    bucket.store(principal="build").write(*FORGERIES["key document"])

    with pytest.raises(UntrustedError):
        trusted(bucket).read(FORGERIES["key document"][0])


def test_forged_wheels_are_not_taken(bucket: GcsServer, tmp_path: Path) -> None:
    bucket.store(principal="build").write(FORGERIES["wheels"][0], forged_wheels(tmp_path))
    open_to_all = session(trusted(bucket, settings=TrustSettings()), tmp_path / "open")
    here = session(trusted(bucket), tmp_path / "here")

    assert wheels.restore(open_to_all, KEY), "this is what is stopped"
    assert not wheels.restore(here, KEY)
    assert "is not signed" in cast("Any", here.services.console).told[0]


def test_outputs_are_signed_as_wheels_are(bucket: GcsServer, tmp_path: Path) -> None:
    patterns, name = ("bin/*",), FORGERIES["wheels"][0]
    maker = session(trusted(bucket, signs=True), tmp_path / "maker")
    made = maker.layout.partial_wheels(KEY) / "outputs" / "bin" / "tool"
    made.parent.mkdir(parents=True)
    made.write_text("a tool")
    wheels.commit(maker.layout, KEY, "compile:t", patterns)
    wheels.publish(maker, KEY)
    here = session(trusted(bucket), tmp_path / "here")

    assert wheels.restore(here, KEY, patterns)
    wheels.forget(here.layout, KEY)
    signed, generation = bucket.store(principal="build").read(name)
    bucket.store(principal="build").write(name, signed.replace(b"a tool", b"a worm"), if_generation=generation)
    assert not wheels.restore(here, KEY, patterns)


def test_a_branch_takes_its_own_wheels_where_the_trusted_ones_are_forged(bucket: GcsServer, tmp_path: Path) -> None:
    bucket.store(principal="build").write(FORGERIES["wheels"][0], b"no archive, and nobody has signed it")
    bucket.store(principal="topic").write(f"untrusted/topic/wheels/{KEY}.tar", forged_wheels(tmp_path))
    store = SignedStore(bucket.store(principal="topic"), SETTINGS, None, lambda _: None)
    here = session(store, tmp_path / "here", Trust(trusted=False, branch="topic"))

    assert wheels.restore(here, KEY)
    assert "is not signed" in cast("Any", here.services.console).told[0]


def test_a_head_that_names_poisoned_packs_is_refused(bucket: GcsServer) -> None:
    bucket.store(principal="build").write(*FORGERIES["head"])

    Namespace(trusted(bucket, settings=TrustSettings()), MAIN, pause=lambda _: None).load()  # this is what is stopped
    with pytest.raises(UntrustedError):
        Namespace(trusted(bucket), MAIN, pause=lambda _: None).load()


@pytest.mark.parametrize("kind", sorted(FORGERIES))
def test_what_was_signed_cannot_be_shown_as_something_else(bucket: GcsServer, kind: str) -> None:
    for name, content in FORGERIES.values():
        trusted(bucket, signs=True).write(name, content or b"tar")
    owner, target = bucket.store(principal="build"), FORGERIES[kind][0]
    for name, _ in FORGERIES.values():
        if name != target:
            owner.write(target, owner.read(name)[0])
            with pytest.raises(UntrustedError):
                trusted(bucket).read(target)


def test_an_old_head_that_is_put_back_is_refused_by_who_has_seen_a_newer_one(bucket: GcsServer, tmp_path: Path) -> None:
    name = FORGERIES["head"][0]
    owner = bucket.store(principal="build")
    make_directory(tmp_path / "a", 5)
    push(trusted(bucket, signs=True), MAIN, tmp_path / "a")
    old = owner.read(name)[0]
    make_directory(tmp_path / "a", 5, seed=2)
    builder, reader = (tmp_path / who for who in ("builder", "reader"))
    push(trusted(bucket, signs=True, memory=builder), MAIN, tmp_path / "a")
    pull(trusted(bucket, memory=reader), [MAIN], tmp_path / "b")
    owner.write(name, old)

    for memory in (builder, reader):
        with pytest.raises(
            UntrustedError, match=r"is older than what this machine has seen there: state 1 after state 2"
        ):
            trusted(bucket, memory=memory).read(name)
    with pytest.raises(UntrustedError, match="older"):
        push(trusted(bucket, signs=True, memory=builder), MAIN, tmp_path / "a")
    (remembered,) = reader.iterdir()
    remembered.unlink()  # as the hint says, where it was right
    assert trusted(bucket, memory=reader).read(name)[0] == trusted(bucket).read(name)[0]


def test_a_fresh_machine_believes_an_old_head_until_it_is_too_old(bucket: GcsServer, tmp_path: Path) -> None:
    """This is not prevented: docs/signing.md says so, and what limits it."""
    name = FORGERIES["head"][0]
    bucket.store(principal="build").write(name, signed_at(name, head(7), time.time() - 20 * DAY))

    assert trusted(bucket).read(name)[0] == head(7)
    assert trusted(bucket, memory=tmp_path / "fresh").read(name)[0] == head(7)
    within, beyond = (replace(SETTINGS, max_age=days * DAY) for days in (21, 19))
    assert trusted(bucket, settings=within).read(name)[0] == head(7)
    with pytest.raises(NotFoundError, match=r"was signed 20 days ago, longer than trust\.max_age"):
        trusted(bucket, settings=beyond).read(name)


def test_after_a_head_that_is_too_old_a_namespace_begins_anew(bucket: GcsServer, tmp_path: Path) -> None:
    name = FORGERIES["head"][0]
    owner = bucket.store(principal="build")
    settings = replace(SETTINGS, max_age=19 * DAY)
    made = make_directory(tmp_path / "a", 5)
    push(trusted(bucket, signs=True), MAIN, tmp_path / "a")
    content, claim = read_document(owner.read(name)[0], name)
    assert claim is not None
    owner.write(name, signed_at(name, content, time.time() - 20 * DAY))

    assert pull(trusted(bucket, settings=settings), [MAIN], tmp_path / "b").entries == 0
    more = make_directory(tmp_path / "c", 5, seed=2)
    assert push(trusted(bucket, settings=settings, signs=True), MAIN, tmp_path / "c").outcome is PushOutcome.PUSHED
    pull(trusted(bucket, settings=settings), [MAIN], tmp_path / "d")
    assert entries_in(tmp_path / "d") == more
    assert push(trusted(bucket, settings=settings, signs=True), MAIN, tmp_path / "a").entries == len(made)


def test_an_old_publication_that_is_put_back_is_refused_and_replaced(bucket: GcsServer, tmp_path: Path) -> None:
    name = FORGERIES["publication"][0]
    owner = bucket.store(principal="build")
    documents = [json.dumps({"key": KEY, "digest": f"sha256:{digit * 64}"}).encode() for digit in "12"]
    for at, document in enumerate(documents):
        owner.write(name, signed_at(name, document, 1e9 + at))
        assert trusted(bucket, memory=tmp_path).read(name)[0] == document
    owner.write(name, signed_at(name, documents[0], 1e9))

    here = services(trusted(bucket, signs=True, memory=tmp_path))
    found = publication(here, TIER)
    assert found is not None
    assert found.digest == ""
    assert "is older than what this machine has seen" in here.console.told[0]  # type: ignore[attr-defined]
    here.store.write(name, documents[1], if_generation=0)
    assert trusted(bucket, memory=tmp_path).read(name)[0] == documents[1]


@pytest.mark.parametrize(
    ("before", "after"),
    [((5, 1000), (6, 900)), ((5, 1000), (1, 1001)), ((5, 1000), (5, 1000)), ((5, 1000), (5, 900))],
    ids=["a clock was put right", "the namespace began anew", "again", "the same state, signed before"],
)
def test_what_is_no_attack_is_taken(
    bucket: GcsServer, tmp_path: Path, before: tuple[int, int], after: tuple[int, int]
) -> None:
    name = FORGERIES["head"][0]
    for sequence, at in (before, after):
        bucket.store(principal="build").write(name, signed_at(name, head(sequence), at))
        assert trusted(bucket, memory=tmp_path).read(name)[0] == head(sequence)


@pytest.mark.parametrize("text", ["", "[", '{"at": "x"}', '{"at": 5, "sequence": 1.5}', "\udcff", '{"at": NaN}'])
def test_a_memory_that_is_none_remembers_nothing(bucket: GcsServer, tmp_path: Path, text: str) -> None:
    name = FORGERIES["head"][0]
    owner = bucket.store(principal="build")
    for sequence in (5, 1):
        owner.write(name, signed_at(name, head(sequence), 1000 + sequence))
        assert trusted(bucket, memory=tmp_path / "m").read(name)[0] == head(sequence)
        (path,) = (tmp_path / "m").iterdir()
        path.write_text(text, errors="surrogateescape")
    (tmp_path / "file").touch()
    assert trusted(bucket, memory=tmp_path / "file" / "m").read(name)[0] == head(1)


def test_a_signed_namespace_lives_as_an_unsigned_one(bucket: GcsServer, tmp_path: Path) -> None:
    """Push, push again, prune, pull: the head is signed each time, and whoever has no key reads and writes nothing."""
    made = make_directory(tmp_path / "a", 40)
    assert push(trusted(bucket, signs=True), MAIN, tmp_path / "a").outcome is PushOutcome.PUSHED
    more = make_directory(tmp_path / "b", 40, seed=2)
    assert push(trusted(bucket, signs=True), MAIN, tmp_path / "b").outcome is PushOutcome.PUSHED
    prune(trusted(bucket, signs=True), MAIN)

    pull(trusted(bucket), [MAIN], tmp_path / "c")
    assert entries_in(tmp_path / "c") == made | more
    make_directory(tmp_path / "d", 40, seed=3)
    assert push(trusted(bucket), MAIN, tmp_path / "d").outcome is PushOutcome.READ_ONLY
    assert trusted(bucket).signed_by(f"ccache/{MAIN}/head") == "main-2026"


def test_a_repair_signs_no_segment_that_somebody_put_there(bucket: GcsServer, tmp_path: Path) -> None:
    store = trusted(bucket, signs=True)
    made = make_directory(tmp_path / "made", 10)
    push(store, MAIN, tmp_path / "made")
    attacker = bucket.store(principal="build")
    poison = make_directory(tmp_path / "poison", 5, seed=9)
    push(attacker, "elsewhere", tmp_path / "poison")
    for blob in list(attacker.list("ccache/elsewhere/")):
        if not blob.name.endswith("/head"):
            attacker.write(blob.name.replace("elsewhere", MAIN), attacker.read(blob.name)[0])
    attacker.write(f"ccache/{MAIN}/head", b"damaged")

    plan = SimpleNamespace(pipeline=SimpleNamespace(trust=SETTINGS, name="line"), tiers={})
    mine = replace(session(store), plan=cast("Plan", plan))
    asked = {"namespace": MAIN, "to": None, "from_index": True, "accept_loss": False}
    with pytest.raises(UntrustedError, match="--accept-unsigned"):
        rollback_one(mine, **asked, accept_unsigned=False)  # type: ignore[arg-type]
    assert attacker.read(f"ccache/{MAIN}/head")[0] == b"damaged"

    rollback_one(mine, **asked, accept_unsigned=True)  # type: ignore[arg-type]
    pull(store, [MAIN], tmp_path / "back")
    assert entries_in(tmp_path / "back") == made | poison  # what would be believed without being asked
