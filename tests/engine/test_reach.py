"""What a build may reach: an SSH agent, a network, or nothing; and BuildKit's layers, or none of them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.engine.conftest import ASK, Checkout, docker


def one_tier(checkout: Checkout, run: str, more: str) -> str:
    """Make the tiny pipeline one tier that runs this; return its image's repository."""
    (checkout.root / "pipeline.yaml").write_text(
        f"version: 1\nname: {checkout.name}\ntiers:\n  arr-base:\n    bases: {{BASE: 'debian:trixie-slim'}}\n{more}"
    )
    (checkout.root / "images" / "arr-base" / "Dockerfile").write_text(
        f"ARG BASE\nFROM ${{BASE}}\nCOPY config/ /config/\n{run}\n"
    )
    return f"{checkout.name}/arr-base"


def said(checkout: Checkout, path: str) -> str:
    ref = checkout.plan()["arr-base"]["ref"]
    return docker("run", "--rm", "--network=none", str(ref), "cat", path)


def test_a_build_asks_the_agent_and_keeps_nothing_of_it(checkout: Checkout, agent: tuple[str, str]) -> None:
    place, public = agent
    one_tier(
        checkout,
        # BuildKit keeps the layer of a RUN whatever the agent holds, so it says whose it is.
        f"RUN --mount=type=ssh {ASK} >/answer # {public}\nRUN --mount=type=ssh,id=git,required {ASK} >/git # {public}",
        f"    secrets: {{default: {{ssh: default}}, git: {{ssh: {place}}}}}\n",
    )

    missing = checkout.doit("image", SSH_AUTH_SOCK="")
    run = checkout.doit("image", SSH_AUTH_SOCK=place)

    assert missing.code == 3, missing.text
    assert "tiers.arr-base.secrets.default: there is no SSH agent: SSH_AUTH_SOCK is not set" in missing.err
    assert run.code == 0, run.text
    assert said(checkout, "/answer") == f"1 {public}"
    assert said(checkout, "/git") == f"1 {public}"
    document = checkout.plan()["arr-base"]["manifest"]
    assert isinstance(document, dict)
    assert document["secrets"] == ["ssh:default", "ssh:git"]
    private = (Path(place).parent / "id").read_bytes().splitlines()[1]
    kept = b"".join(path.read_bytes() for path in (checkout.root / ".imagetiers").rglob("*") if path.is_file())
    assert private not in kept
    assert place.encode() not in docker("history", "--no-trunc", min(checkout.refs())).encode()


def test_the_network_of_builds_and_compiles(checkout: Checkout) -> None:
    """It is in the key, and none keeps even the usual network from a RUN."""
    look = "RUN ls /sys/class/net >/net; readlink /proc/self/ns/net >/namespace"
    keys, namespaces = set(), {}
    for network in ("", "none", "host"):
        one_tier(checkout, look, f"    network: {network}\n" if network else "")
        keys.add(checkout.plan()["arr-base"]["key"])
        run = checkout.doit("image")
        assert run.code == 0, run.text
        namespaces[network] = said(checkout, "/namespace")
        assert (said(checkout, "/net") == "lo\n") == (network == "none")
    host = docker("run", "--rm", "--network=host", "debian:trixie-slim", "readlink", "/proc/self/ns/net")
    assert len(keys) == len(set(namespaces.values())) == 3
    assert namespaces["host"] == host


def test_a_compile_reaches_the_hosts_network_only_where_that_is_asked(checkout: Checkout) -> None:
    look = "readlink /proc/self/ns/net | sed 's/^/net: /'"
    checkout.edit("images/pytorch-clean/make-wheel", "n=0\n", f"n=0\nls /sys/class/net | sed 's/^/net: /'\n{look}\n")
    without = checkout.doit("compile")
    checkout.edit("pipeline.yaml", "    compile:", "    network: host\n    compile:")
    host = checkout.doit("compile")

    assert (without.code, host.code) == (0, 0), without.text + host.text
    logs = sorted((checkout.root / ".imagetiers" / "logs" / "pytorch-clean").glob("compile-*"), key=os.path.getmtime)
    nets = [re.findall("^net: (.*)$", log.read_text(), re.MULTILINE) for log in logs]
    there = docker("run", "--rm", "--network=host", "debian:trixie-slim", "readlink", "/proc/self/ns/net").strip()
    assert nets[0][:-1] == ["lo"]
    assert [net[-1] == there for net in nets] == [False, True]


def test_no_cache_makes_the_image_of_the_key_anew(checkout: Checkout) -> None:
    """The key stays what it is: what differs is what nobody could hash."""
    one_tier(checkout, "RUN cat /proc/sys/kernel/random/uuid >/once", "")
    first = checkout.doit("image")
    once, key = said(checkout, "/once"), checkout.plan()["arr-base"]["key"]
    docker("rmi", str(checkout.plan()["arr-base"]["ref"]))
    from_layers = checkout.doit("image")
    same = said(checkout, "/once")
    nothing = checkout.doit("image:arr-base")
    anew = checkout.doit("image:arr-base", "--no-cache")

    assert [first.code, from_layers.code, nothing.code, anew.code] == [0] * 4, first.text + from_layers.text + anew.text
    assert same == once, "BuildKit still had the layer"
    assert nothing.executed == []
    assert anew.executed == ["image:arr-base"]
    assert said(checkout, "/once") != once
    assert checkout.plan()["arr-base"]["key"] == key


def test_no_cache_makes_the_builder_of_a_compile_anew(checkout: Checkout) -> None:
    checkout.edit(
        "images/pytorch-clean/Dockerfile",
        "COPY make-wheel",
        "RUN cat /proc/sys/kernel/random/uuid >/once\nCOPY make-wheel",
    )
    checkout.edit("images/pytorch-clean/make-wheel", "n=0\n", "n=0\nsed 's/^/once: /' /once\n")
    log = checkout.root / ".imagetiers" / "logs" / "pytorch-clean"
    onces = []
    for options in ((), ("--rebuild",), ("--no-cache",)):
        run = checkout.doit("compile:pytorch-clean", *options)
        assert run.code == 0, run.text
        found = re.search(r"^once: (.*)$", next(log.glob("compile-*")).read_text(), re.MULTILINE)
        assert found is not None
        onces.append(found[1])
    assert onces[0] == onces[1] != onces[2]
