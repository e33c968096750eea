"""Where secrets come from: all that is missing is reported at once, and a value is in no text."""

from __future__ import annotations

import pytest

from imagetiers.building.secrets import read_secrets
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
