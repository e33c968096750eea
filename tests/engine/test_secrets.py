"""A planted secret, used by image builds and by a compile: it gets there, and it is nowhere else."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.engine.conftest import Checkout, docker, send
from tests.waiting import PATIENCE

COMPILE = """
ls -ln /run/secrets | sed 's/^/files: /'
in_env=$(env | grep -c "$(cat /run/secrets/token)" || true)
echo "mine: $(id -u) $(stat -c %u:%a /run/secrets/token) $(stat -f -c %T /run/secrets) $in_env"
echo "sha: $(sha256sum </run/secrets/binary)"
echo "the token is <$(cat /run/secrets/token)>, and folded:"
fold -w 7 /run/secrets/token
echo
cat /run/secrets/key
while [ ! -e /wheels/go ]; do sleep 0.1; done
"""
RUN = """RUN --mount=type=secret,id=token cat /run/secrets/token && wc -c </run/secrets/token >/length\n"""


@pytest.fixture
def planted(checkout: Checkout) -> tuple[Checkout, dict[str, bytes]]:
    """The tiny pipeline with three secrets of its first tier: in a variable, in a binary file, in a file of lines."""
    values = {
        "token": f"tok-{secrets.token_hex(20)}".encode(),
        "binary": secrets.token_bytes(3000) + b"\n",
        "key": base64.encodebytes(secrets.token_bytes(300)),
    }
    keys = checkout.root.parent / "keys"
    keys.mkdir()
    for id_ in ("binary", "key"):
        (keys / id_).write_bytes(values[id_])
    given = "token: {env: THE_TOKEN}, binary: {file: ../keys/binary}, key: {file: ../keys/key}"
    checkout.edit("pipeline.yaml", "    verify: {params", f"    secrets: {{{given}}}\n    verify: {{params")
    checkout.edit("images/pytorch-clean/Dockerfile", "ENV GREETING", f"{RUN}ENV GREETING")
    checkout.edit("images/pytorch-clean/Dockerfile", "USER 10001", f"{RUN}USER 10001")
    checkout.edit("images/pytorch-clean/make-wheel", "n=0\n", f"n=0\n{COMPILE}")
    return checkout, values


def traces(text: bytes, values: dict[str, bytes]) -> list[str]:
    """Say which values the text holds: whole, one of their lines, or folded over lines."""
    flat = text.replace(b"\n", b"")
    lines = {id_: [line for line in value.splitlines() if len(line) >= 8] for id_, value in values.items()}
    return [id_ for id_, all_lines in lines.items() if any(line in text or line in flat for line in all_lines)]


def kept(checkout: Checkout) -> bytes:
    files = [path for path in checkout.root.rglob("*") if path.is_file()]
    assert any(path.name.startswith("compile-") for path in files)
    return b"\n".join(str(path).encode() + b"\n" + path.read_bytes() for path in files)


def compile_log(checkout: Checkout) -> str:
    logs = (checkout.root / ".imagetiers" / "logs" / "pytorch-clean").glob("compile-*")
    return "".join(path.read_text() for path in logs)


def wait_for_compile(checkout: Checkout, process: subprocess.Popen[str]) -> None:
    """Wait until the compile has printed its secrets and waits for us."""
    while "and folded:" not in compile_log(checkout):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)


def go(checkout: Checkout) -> None:
    (next((checkout.root / ".imagetiers" / "wheels").glob(".partial-*")) / "go").touch()


def layers(ref: str) -> bytes:
    """Return an image as it is saved, its layers as plain tars."""
    return subprocess.run(["docker", "save", ref], check=True, capture_output=True).stdout


def test_a_planted_secret_is_nowhere_but_where_it_is_used(planted: tuple[Checkout, dict[str, bytes]]) -> None:
    checkout, values = planted
    token = values["token"].decode()
    process = checkout.start("-v", "2", THE_TOKEN=token)
    container = checkout.wait_for_container(process)
    wait_for_compile(checkout, process)
    running = docker("inspect", container) + docker("diff", container) + docker("top", container, "-ef")
    exported = subprocess.run(["docker", "export", container], check=True, capture_output=True).stdout
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if "/run/secrets" in line]
    go(checkout)
    out, err = process.communicate(timeout=PATIENCE)

    assert process.returncode == 0, out + err
    assert checkout.containers() == []
    text = compile_log(checkout)
    assert traces(running.encode() + exported, values) == []
    assert mounts == [], "no folder of the host holds them"
    assert traces((out + err + text).encode() + kept(checkout), values) == []
    images = sorted(checkout.refs())
    assert len(images) == 7, images
    for ref in images:
        assert traces(layers(ref), values) == [], ref
        assert traces((docker("inspect", ref) + docker("history", "--no-trunc", ref)).encode(), values) == [], ref
    told = [checkout.doit("plan", "--json", "-"), checkout.doit("explain", "--json"), checkout.doit("info", "compile")]
    assert traces("".join(run.text for run in told).encode(), values) == []
    assert '"secrets": [\n          "binary",\n          "key",\n          "token"' in told[0].out

    user = docker("run", "--rm", images[-1], "cat", "/length").strip()
    assert user == str(len(token)), "the image's own build had it, too"
    lines = text.splitlines()
    assert f"mine: {_uid()} {_uid()}:400 tmpfs 0" in lines
    assert f"sha: {_sha256(values['binary'])}  -" in lines
    assert "the token is <***>, and folded:" in lines
    folded = lines[lines.index("the token is <***>, and folded:") + 1 :]
    assert folded[:7] == ["***"] * 7
    assert len([line for line in folded if line == "***"]) == 7 + len(values["key"].splitlines())


def test_killed_in_the_compile_the_next_doit_goes_on_and_masks(planted: tuple[Checkout, dict[str, bytes]]) -> None:
    checkout, values = planted
    token = values["token"].decode()
    process = checkout.start("compile", THE_TOKEN=token)
    container = checkout.wait_for_container(process)
    wait_for_compile(checkout, process)
    send(process, signal.SIGKILL)
    go(checkout)
    docker("wait", container)  # stopped, and nobody has taken its wheels yet
    stopped = docker("inspect", container) + docker("diff", container)
    exported = subprocess.run(["docker", "export", container], check=True, capture_output=True).stdout
    assert traces(stopped.encode() + exported, values) == []

    again = checkout.doit("compile", THE_TOKEN=token)

    assert again.code == 0, again.text
    assert "resumes the compile" in again.out
    assert traces(kept(checkout) + again.text.encode(), values) == []
    assert checkout.containers() == []


def test_a_secret_that_is_missing_is_told_before_anything_starts(planted: tuple[Checkout, dict[str, bytes]]) -> None:
    checkout, _ = planted
    (checkout.root.parent / "keys" / "key").unlink()

    head = "ERROR: this cannot be done; nothing was run\n"
    for target, code, first in (("compile", 1, ""), ("image:arr-training", 3, head), ("verify", 3, head)):
        run = checkout.doit(target)
        assert run.code == code
        assert run.err.strip() == (
            f"{first}pipeline.yaml: tiers.pytorch-clean.secrets.key: the file {checkout.root}/../keys/key cannot be read: "
            "No such file or directory\n"
            "  hint: put the secret's value there\n"
            "pipeline.yaml: tiers.pytorch-clean.secrets.token: the environment variable THE_TOKEN is not set, or empty\n"
            "  hint: export THE_TOKEN=..."
        )
    (checkout.root.parent / "keys" / "key").write_text("a key")
    checkout.edit("pipeline.yaml", "{parent: arr-base}", "{parent: arr-base, secrets: {late: {env: LATE_TOKEN}}}")
    child = checkout.doit(THE_TOKEN="enough")
    assert child.code == 3
    assert "tiers.arr-training.secrets.late: the environment variable LATE_TOKEN is not set" in child.err
    assert checkout.refs() == set(), "not even what a compile of hours begins with"


def test_a_compile_whose_secrets_are_cut_off_does_not_begin(
    planted: tuple[Checkout, dict[str, bytes]], tmp_path: Path
) -> None:
    """Killed while it hands them over: the container meets the end of its stdin, and the next doit starts anew."""
    checkout, values = planted
    cut = tmp_path / "sitecustomize.py"
    cut.write_text(
        "import os, socket\n"
        "whole = socket.socket.sendall\n"
        "def part(self, data, *rest):\n"
        "    if data.startswith(b'secret '):\n"
        "        whole(self, data[:1000])\n"
        "        os._exit(9)\n"
        "    whole(self, data, *rest)\n"
        "socket.socket.sendall = part\n"
    )
    token = values["token"].decode()
    path = f"{tmp_path}:{Path(__file__).parent.parent.parent}"
    dead = checkout.doit("compile", THE_TOKEN=token, PYTHONPATH=path)
    assert dead.code == 9, dead.text
    container = checkout.containers()[0]
    assert docker("wait", container).strip() == "1"
    assert (
        "the secrets did not arrive"
        in subprocess.run(["docker", "logs", container], check=True, capture_output=True, text=True).stderr
    )

    process = checkout.start("compile", THE_TOKEN=token)
    wait_for_compile(checkout, process)
    go(checkout)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, out + err


def _uid() -> int:
    return os.getuid()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
