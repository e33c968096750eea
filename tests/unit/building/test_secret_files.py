"""Where secrets come from: all that is missing is reported at once, and a value is in no text."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from imagetiers.building.secrets import given_secrets, read_secrets
from imagetiers.config.layout import Layout
from imagetiers.config.model import Secret, Tier, Trust
from imagetiers.errors import PipelineError
from imagetiers.planning.commands import MAX_SECRET, secrets_stream

TIER = Tier("t", "x", secrets=(Secret("key", file="keys/id"), Secret("token", env="A_TOKEN")))


def test_values(tiny: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    (tiny.root / "keys").mkdir()
    (tiny.root / "keys" / "id").write_bytes(b"\0\xff\n")
    monkeypatch.setenv("A_TOKEN", "s3cr3t")

    values = read_secrets(TIER, tiny, Trust())

    assert dict(values) == {"key": b"\0\xff\n", "token": b"s3cr3t"}
    assert repr(values) == "Values(key, token)"
    assert "s3cr3t" not in f"{values}"
    assert secrets_stream(values) == b"secret 3 key\n\0\xff\nsecret 6 token\ns3cr3tend\n"


def test_all_that_is_missing_is_told(tiny: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "")

    with pytest.raises(PipelineError) as error:
        read_secrets(TIER, tiny, Trust())

    assert str(error.value) == (
        f"pipeline.yaml: tiers.t.secrets.key: the file {tiny.root}/keys/id cannot be read: No such file or directory\n"
        "  hint: put the secret's value there\n"
        "pipeline.yaml: tiers.t.secrets.token: the environment variable A_TOKEN is not set, or empty\n"
        "  hint: export A_TOKEN=..."
    )


def test_what_is_no_secret(tiny: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "x")
    (tiny.root / "keys").mkdir()
    (tiny.root / "keys" / "id").write_bytes(b"")
    with pytest.raises(PipelineError, match="is empty"):
        read_secrets(TIER, tiny, Trust())
    (tiny.root / "keys" / "id").write_bytes(b"x" * (MAX_SECRET + 1))
    with pytest.raises(PipelineError, match="is longer than 512,000 bytes"):
        read_secrets(TIER, tiny, Trust())


def test_pull_requests_get_none(tiny: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A_TOKEN", raising=False)
    only = Tier("t", "x", secrets=TIER.secrets[1:])

    assert read_secrets(only, tiny, Trust(trusted=False, branch="pr-7")) == {"token": b""}


AGENTS = Tier(
    "t", "x", secrets=(Secret("default", ssh="default"), Secret("git", ssh="keys/id"), Secret("token", env="A_TOKEN"))
)


def test_an_agent_has_no_value(tiny: Layout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("A_TOKEN", "s3cr3t")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    (tiny.root / "keys").mkdir()
    (tiny.root / "keys" / "id").write_text("a key")

    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "agent"))
        assert read_secrets(AGENTS, tiny, Trust()) == {"token": b"s3cr3t"}
        assert given_secrets(AGENTS, tiny, Trust()) == AGENTS.secrets
        assert given_secrets(AGENTS, tiny, Trust(trusted=False, branch="pr-7")) == AGENTS.secrets


@pytest.mark.parametrize(
    ("agent", "key", "said"),
    [
        ("", "a folder", "there is no SSH agent: SSH_AUTH_SOCK is not set"),
        ("/nowhere", "a folder", "SSH_AUTH_SOCK names no socket: /nowhere"),
        (os.devnull, "nothing", f"SSH_AUTH_SOCK names no socket: {os.devnull}"),
    ],
)
def test_agents_that_are_missing(
    agent: str, key: str, said: str, tiny: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", "s3cr3t")
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    if key == "a folder":
        (tiny.root / "keys" / "id").mkdir(parents=True)

    with pytest.raises(PipelineError) as error:
        read_secrets(AGENTS, tiny, Trust())

    path = tiny.root / "keys" / "id"
    wrong = {
        "a folder": f"{path} is a folder\n  hint: name a private key, or an agent's socket",
        "nothing": f"{path} cannot be read: No such file or directory\n  hint: put the private key there, or an agent's socket",
    }
    assert str(error.value) == (
        f'pipeline.yaml: tiers.t.secrets.default: {said}\n  hint: eval "$(ssh-agent)" && ssh-add\n'
        f"pipeline.yaml: tiers.t.secrets.git: {wrong[key]}"
    )
    pr = Trust(trusted=False, branch="pr-7")
    assert read_secrets(AGENTS, tiny, pr) == {"token": b"s3cr3t"}
    assert given_secrets(AGENTS, tiny, pr) == AGENTS.secrets[2:]
