"""Whoever may write one namespace may write a million: how many of them one run of housekeeping looks after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from imagetiers.ccache.apart import Report
from imagetiers.ccache.format.head import Head, NamespaceState, encode_head
from imagetiers.ccache.prune import PruneOptions
from imagetiers.ccache.push import push
from imagetiers.config.layout import Layout
from imagetiers.config.model import Trust
from imagetiers.operations import ccache as ccache_verbs
from imagetiers.operations import ccache_namespaces
from imagetiers.operations.ccache_stats import show_stats
from imagetiers.planning.plan import Plan
from imagetiers.session import Session
from imagetiers.stores.directory import DirectoryStore
from tests.ccache.synthetic import make_directory
from tests.soak.wheels_made import session_of

OWN = "trusted.main.p.deb.ccache-4.14"


def of_others(number: int) -> str:
    return f"untrusted.pr-{number}.p.deb.ccache-4.14"


@pytest.fixture
def session(store: DirectoryStore, tmp_path: Path) -> tuple[Session, list[str]]:
    """A trusted build of the pipeline `p`, whose own namespace has five entries, and what its console says."""
    make_directory(tmp_path / "a", 5)
    push(store, OWN, tmp_path / "a")
    session, console = session_of(store, Layout(tmp_path / "checkout"), Trust(), lambda: 0.0)
    plan = cast("Plan", SimpleNamespace(pipeline=SimpleNamespace(name="p"), tiers={}))
    return replace(session, plan=plan, services=replace(session.services, bucket_settings=lambda: None)), console.lines


def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note for which namespaces a process would be started; a thousand of them would take minutes."""
    asked: list[str] = []

    def noted(name: str, _work: Callable[[], Report]) -> Report:
        asked.append(name)
        return Report("looked after")

    monkeypatch.setattr(ccache_namespaces, "apart", noted)
    return asked


def test_a_thousand_of_others_have_their_turn_and_every_one_of_ours(
    store: DirectoryStore, session: tuple[Session, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1_003):
        store.write(f"ccache/{of_others(number)}/head", b"whatever")
    asked = asked_for(monkeypatch)
    built, lines = session
    ccache_verbs.prune_all(built, namespace="", options=PruneOptions(), dry_run=True, accept_loss=False)
    assert len(set(asked)) == len(asked) == 1_000
    assert lines[0] == "1,003 namespaces of others: 1,000 of them, drawn by lot, have their turn now"
    assert sorted(line.partition(":")[0] for line in lines[1:]) == sorted([*asked, OWN])
    assert any(line.startswith(f"{OWN}: 0 entries would be dropped (0 bytes), 5 kept") for line in lines)


def test_none_of_others_is_passed_over_for_ever(
    store: DirectoryStore, session: tuple[Session, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {of_others(number) for number in range(5)}
    for name in names:
        store.write(f"ccache/{name}/head", b"whatever")
    monkeypatch.setattr(ccache_namespaces, "_OTHERS_MAX", 2)
    asked = asked_for(monkeypatch)
    for run in range(1, 101):  # that a given one is not drawn in any of them: once in 10^22
        ccache_verbs.prune_all(session[0], namespace="", options=PruneOptions(), dry_run=True, accept_loss=False)
        assert len(asked) == 2 * run
    assert set(asked) == names


def test_those_that_are_drawn_are_really_looked_after(
    store: DirectoryStore, session: tuple[Session, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        store.write(f"ccache/{of_others(number)}/head", encode_head(Head(NamespaceState(7 + number))))
    monkeypatch.setattr(ccache_namespaces, "_OTHERS_MAX", 2)
    show_stats(session[0], namespace="")
    told = {name: state for name, state in pairwise(session[1]) if name.startswith("untrusted.")}
    assert len(told) == 2
    assert all(told[of_others(n)].startswith(f"  state {7 + n} (") for n in range(3) if of_others(n) in told)
