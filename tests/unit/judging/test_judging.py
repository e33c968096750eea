"""What is said of an image that is not what was declared, and nothing of one that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from imagetiers.config.checks import CommandCheck, Declared, read_checks
from imagetiers.judging.commands import commands_of, judge_command
from imagetiers.judging.files import judge_files, judge_programs
from imagetiers.judging.forbidden import judge_forbidden
from imagetiers.judging.libraries import judge_libraries
from imagetiers.judging.outcome import CheckOutcome
from imagetiers.judging.settings import judge_settings
from imagetiers.layers.archive import ImageFiles
from tests.conftest import HERE, Golden
from tests.unit.judging.test_credentials import token
from tests.unit.layers.trees import FOLDER, Member, elf, image, loader_cache, symlink

LD = "/lib64/ld-linux-x86-64.so.2"
BASE: dict[str, Member | bytes] = {
    "etc/passwd": b"root:x:0:0::/root:/bin/sh\napp:x:10001:10001::/home/app:/bin/sh\ntoor:x:0:0::/:/bin/sh\n",
    "etc/group": b"root:x:0:\napp:x:10001:\n",
    "etc/motd": b"hello\n",
    "usr/bin/sh": Member(elf("libc.so.6", interpreter=LD), 0o755),
    "bin": symlink("usr/bin"),
    "lib64": symlink("usr/lib64"),
    "usr/lib64/ld-linux-x86-64.so.2": elf(soname="ld-linux-x86-64.so.2"),
    "usr/lib/x86_64-linux-gnu/libc.so.6": elf("ld-linux-x86-64.so.2", soname="libc.so.6"),
    "tmp/": Member(mode=0o1777, kind=FOLDER.kind),
}
CONFIG: dict[str, object] = {
    "User": "app",
    "Entrypoint": ["tini", "--"],
    "Env": ["PATH=/usr/bin:/bin", "LANG=C.UTF-8"],
    "ExposedPorts": {"80/tcp": {}},
    "Labels": {"title": "app"},
    "WorkingDir": "/app",
    "Healthcheck": {"Test": ["CMD", "true"]},
}


def declare(*given: Mapping[str, Any]) -> list[Declared]:
    return [Declared(f"tier-{number}", read_checks(each), "") for number, each in enumerate(given)]


def outcomes(declared: Sequence[Declared], found: ImageFiles) -> Iterator[CheckOutcome]:
    yield from judge_settings(declared, found.config, found.tree)
    yield from judge_programs(declared, found.tree, found.config)
    yield from judge_files(declared, found.tree)
    yield from judge_libraries(declared, found.tree, found.config)
    yield from judge_forbidden(declared, found.tree, found.config)


def made(*layers: Mapping[str, Member | bytes], **config: object) -> ImageFiles:
    return image(BASE, *layers, config={**CONFIG, **config})


EVERYTHING: dict[str, Any] = {
    "commands": ["sh"],
    "user": "non-root",
    "entrypoint": ["tini", "--"],
    "cmd": [],
    "workdir": "/app",
    "env": {"LANG": "C.UTF-8"},
    "labels": {"title": "app"},
    "ports": ["80/tcp"],
    "healthcheck": ["CMD", "true"],
    "libraries": {},
    "files": {
        "/etc/motd": {"kind": "file", "mode": "0644", "owner": "root", "group": "0", "contains": "hello"},
        "/bin": {"kind": "link", "target": "usr/bin"},
        "/bin/sh": "present",
        "/opt/conda": "absent",
    },
    "forbid": {
        "programs": ["gcc"],
        "packages": ["torch"],
        "paths": ["/opt/conda", "*/__pycache__"],
        "compilers": True,
        "caches": True,
        "git": True,
        "credentials": True,
        "setuid": True,
        "world_writable": True,
    },
}
DEBIAN = b"Package: gcc-14\nStatus: install ok installed\n\nPackage: gone\nStatus: deinstall ok config-files\n\n"
# Each is one mistake, in an image in which everything else is right.
MUST_FAIL: dict[str, tuple[dict[str, Member | bytes], dict[str, object], dict[str, Any]]] = {
    "runs as root": ({}, {"User": ""}, {"user": "non-root"}),
    "runs as root by a number": ({}, {"User": "00:10"}, {"user": "non-root"}),
    "runs as another root": ({}, {"User": "toor"}, {"user": "non-root"}),
    "runs as nobody knows whom": ({}, {"User": "ghost"}, {"user": "non-root"}),
    "another user": ({}, {}, {"user": "10001:10001"}),
    "another entry point": ({}, {"Entrypoint": ["sh", "-c", "a b"]}, {"entrypoint": ["tini", "--"]}),
    "an entry point": ({}, {}, {"entrypoint": []}),
    "another command": ({}, {"Cmd": ["sh"]}, {"cmd": ["python3"]}),
    "another folder": ({}, {}, {"workdir": "/srv"}),
    "another variable": ({}, {"Env": ["PATH=/usr/bin", "LANG=C"]}, {"env": {"LANG": "C.UTF-8"}}),
    "no variable": ({}, {"Env": None}, {"env": {"LANG": "C.UTF-8"}}),
    "no label": ({}, {"Labels": None}, {"labels": {"title": "app"}}),
    "another port": ({}, {"ExposedPorts": {"22/tcp": {}, "80/tcp": {}}}, {"ports": ["80/tcp"]}),
    "no health check": ({}, {"Healthcheck": {"Test": ["NONE"]}}, {"healthcheck": ["CMD", "true"]}),
    "a health check": ({}, {}, {"healthcheck": "none"}),
    "no program": ({}, {}, {"commands": ["tini"]}),
    "a program that nobody may run": ({"usr/bin/tini": b"x"}, {}, {"commands": ["tini"]}),
    "no file": ({}, {}, {"files": {"/etc/none": "present"}}),
    "a file": ({}, {}, {"files": {"/etc/motd": "absent"}}),
    "a link that leads nowhere": ({"etc/dangling": symlink("none")}, {}, {"files": {"/etc/dangling": "present"}}),
    "another mode": ({}, {}, {"files": {"/etc/motd": {"mode": "0600"}}}),
    "another owner": ({}, {}, {"files": {"/etc/motd": {"owner": "app", "group": "app"}}}),
    "an owner whom nobody knows": ({}, {}, {"files": {"/etc/motd": {"owner": "ghost"}}}),
    "another kind": ({}, {}, {"files": {"/bin/sh": {"kind": "folder"}}}),
    "another content": ({}, {}, {"files": {"/etc/motd": {"contains": ["hello", "world"], "sha256": "0" * 64}}}),
    "another target": ({}, {}, {"files": {"/bin": {"target": "/usr/bin"}}}),
    "a library is missing": ({"usr/bin/x": Member(elf("libgone.so.1", interpreter=LD), 0o755)}, {}, {"libraries": {}}),
    "a library of another machine": (
        {"usr/lib/libother.so": elf(machine=183), "usr/bin/x": Member(elf("libother.so", interpreter=LD), 0o755)},
        {},
        {"libraries": {}},
    ),
    "a library outside the search path": (
        {"opt/lib/libmine.so.1": elf(soname="libmine.so.1"), "opt/lib/libuser.so": elf("libmine.so.1")},
        {},
        {"libraries": {}},
    ),
    "an interpreter is missing": (
        {"usr/bin/x": Member(elf(interpreter="/lib/ld-musl-x86_64.so.1"), 0o755)},
        {},
        {"libraries": {}},
    ),
    "a library is damaged": ({"usr/lib/libcut.so": elf("libc.so.6")[:200]}, {}, {"libraries": {}}),
    "a damaged cache of the loader": ({"etc/ld.so.cache": b"glibc-ld.so.cache1.1"}, {}, {"libraries": {}}),
    "a forbidden program": (
        {"usr/bin/gcc": symlink("gcc-14"), "usr/bin/gcc-14": Member(b"x", 0o755)},
        {},
        {"forbid": {"programs": ["gcc"]}},
    ),
    "a compiler for another machine": (
        {"usr/bin/aarch64-linux-gnu-g++-14": Member(b"x", 0o755)},
        {},
        {"forbid": {"compilers": True}},
    ),
    "a package of Debian": ({"var/lib/dpkg/status": DEBIAN}, {}, {"forbid": {"packages": ["gcc-14", "gone"]}}),
    "a package of Alpine": ({"lib/apk/db/installed": b"P:gcc\nV:1\n\nP:musl\n"}, {}, {"forbid": {"packages": ["gcc"]}}),
    "a package of Python": (
        {"venv/lib/site-packages/Torch_Vision-1.0.dist-info/METADATA": b""},
        {},
        {"forbid": {"packages": ["torch.vision"]}},
    ),
    "packages that nobody can read": ({"var/lib/rpm/rpmdb.sqlite": b"x"}, {}, {"forbid": {"packages": ["gcc"]}}),
    "a forbidden path": ({"opt/conda/bin/python": b"x"}, {}, {"forbid": {"paths": ["/opt/conda"]}}),
    "lists of apt": ({"var/lib/apt/lists/packages.example_x": b"x"}, {}, {"forbid": {"caches": True}}),
    "a cache of pip": ({"root/.cache/pip/http/a": b"x", "home/app/.cache/b": b"x"}, {}, {"forbid": {"caches": True}}),
    "a repository of git": ({"src/app/.git/HEAD": b"ref: x"}, {}, {"forbid": {"git": True}}),
    "a credential": ({"app/settings": f"ghp_{token(36)}".encode()}, {}, {"forbid": {"credentials": True}}),
    "a set-uid file": ({"usr/bin/su": Member(b"x", 0o4755)}, {}, {"forbid": {"setuid": True}}),
    "a set-gid file": ({"usr/bin/wall": Member(b"x", 0o2755, gid=5)}, {}, {"forbid": {"setuid": True}}),
    "a folder for everybody": (
        {"srv/": Member(mode=0o777, kind=FOLDER.kind)},
        {},
        {"forbid": {"world_writable": True}},
    ),
    "a file for everybody": ({"etc/cron": Member(b"x", 0o666)}, {}, {"forbid": {"world_writable": True}}),
}


def test_an_image_that_is_as_declared_passes() -> None:
    found = list(outcomes(declare(EVERYTHING), made()))

    assert [outcome for outcome in found if not outcome.passed] == []
    assert len(found) == 24


@pytest.mark.parametrize("name", MUST_FAIL)
def test_one_mistake_fails_one_check(name: str) -> None:
    layer, config, asked = MUST_FAIL[name]
    found = list(outcomes(declare(asked), made(layer, **config)))

    assert [outcome.passed for outcome in found].count(False) == 1, found


def test_what_is_said(golden: Golden) -> None:
    texts = []
    for name, (layer, config, asked) in MUST_FAIL.items():
        wrong = [outcome for outcome in outcomes(declare(asked), made(layer, **config)) if not outcome.passed]
        texts += [f"== {name}", *(f"{outcome.check}: {outcome.problem}" for outcome in wrong), ""]
    golden("\n".join(texts), HERE / "golden" / "declared.txt")


def test_a_credential_that_a_later_layer_covers_is_still_there() -> None:
    secret = token(36)
    lower: dict[str, Member | bytes] = {
        "root/key": f"ghp_{secret}".encode(),
        "srv/.env": b"X",
        "opt/t/k": f"ghp_{secret}".encode(),
    }
    found = made(lower, {"root/.wh.key": b"", "opt/.wh.t": b""}, Env=[f"API_TOKEN={secret}"])
    (told,) = outcomes(declare({"forbid": {"credentials": True}}), found)

    assert (
        "/root/key holds a token of GitHub, in layer 2, which a later one covers; it is still in the image"
        in told.problem
    )
    assert "/opt/t/k holds a token of GitHub, in layer 2" in told.problem
    assert "env:API_TOKEN is called like a credential" in told.problem
    assert secret not in told.problem


def test_what_is_allowed_is_not_told() -> None:
    layer: dict[str, Member | bytes] = {"usr/bin/su": Member(b"x", 0o4755), "usr/bin/mount": Member(b"x", 0o4755)}
    forbid = {"setuid": True, "allow": ["/usr/bin/su"]}

    (some,) = outcomes(declare({"forbid": forbid}), made(layer))
    (none,) = outcomes(declare({"forbid": forbid}, {"forbid": {"allow": ["*/mount"]}}), made(layer))

    assert "/usr/bin/mount" in some.problem
    assert "/usr/bin/su " not in some.problem
    assert none.passed


def test_children_are_held_against_their_parents_checks_unless_they_say_otherwise() -> None:
    parent = {"user": "non-root", "env": {"LANG": "C.UTF-8", "TZ": "UTC"}, "files": {"/etc/motd": "present"}}
    child = {"env": {"TZ": "CET"}, "files": {"/etc/motd": "absent"}}

    found = {outcome.check: outcome for outcome in outcomes(declare(parent, child), made(User="0"))}

    assert (found["user"].tier, found["user"].passed) == ("tier-0", False)
    assert found["env LANG"].passed
    assert (found["env TZ"].tier, found["env TZ"].problem) == ("tier-1", "env TZ is not set, not CET")
    assert found["file /etc/motd"].problem == "/etc/motd is there: a file"


SITE = "venv/lib/python3.13/site-packages"
FINE: dict[str, dict[str, Member | bytes]] = {
    "beside it, by $ORIGIN": {"opt/a/liba.so": elf("libb.so", runpath="$ORIGIN"), "opt/a/libb.so": elf()},
    "braces and a way up": {
        "opt/bin/x": Member(elf("libb.so", rpath="${ORIGIN}/../lib", interpreter=LD), 0o755),
        "opt/lib/libb.so": elf(),
    },
    "by the RPATH of the program above": {
        "opt/bin/x": Member(elf("liba.so", rpath="$ORIGIN/../lib", interpreter=LD), 0o755),
        "opt/lib/liba.so": elf("libb.so"),
        "opt/lib/libb.so": elf(),
    },
    "by the cache of the loader": {
        "usr/bin/x": Member(elf("libb.so.1", interpreter=LD), 0o755),
        "opt/cuda/libb.so.1": elf(),
        "etc/ld.so.cache": loader_cache({"libb.so.1": "/opt/cuda/libb.so.1"}),
    },
    "loaded by another package of Python": {
        f"{SITE}/vision/_C.so": elf("libtorch.so"),
        f"{SITE}/torch/lib/libtorch.so": elf(),
    },
    "NVIDIA's driver": {"usr/lib/libcudart.so.12": elf("libcuda.so.1", "libnvidia-ml.so.1")},
    "already loaded by the program": {
        "usr/bin/x": Member(elf("liba.so", "libb.so", rpath="/opt/l", interpreter=LD), 0o755),
        "opt/l/liba.so": elf("libb.so", runpath="/none"),
        "opt/l/libb.so": elf(),
    },
    "by LD_LIBRARY_PATH": {"usr/bin/x": Member(elf("libenv.so", interpreter=LD), 0o755), "env/libenv.so": elf()},
    "a static program": {"usr/bin/x": Member(elf(), 0o755)},
    "symbols for debuggers": {"usr/lib/debug/x.debug": elf("libgone.so")[:200]},
}


@pytest.mark.parametrize("name", FINE)
def test_libraries_are_found_as_the_loader_finds_them(name: str) -> None:
    found = made(FINE[name], Env=["LD_LIBRARY_PATH=/env"])

    assert [outcome.problem for outcome in outcomes(declare({"libraries": {}}), found)] == [""]


def test_a_runpath_is_for_the_file_itself_and_not_for_what_it_needs() -> None:
    layer: dict[str, Member | bytes] = {
        "opt/bin/x": Member(elf("liba.so", runpath="/opt/lib", interpreter=LD), 0o755),
        "opt/lib/liba.so": elf("libb.so"),
        "opt/lib/libb.so": elf(),
    }
    (told,) = outcomes(declare({"libraries": {}}), made(layer))
    (ignored,) = outcomes(declare({"libraries": {"ignore": ["libb.so"]}}), made(layer))

    assert "/opt/lib/liba.so needs libb.so" in told.problem
    assert ignored.passed


def test_commands_are_judged_by_exit_code_and_output() -> None:
    command = CommandCheck(("tini", "--version"), 0, ("tini",), r"^tini version \d+")

    assert judge_command("t", command, 0, ["tini version 0.19"]).passed
    failed = judge_command("t", command, 3, ["nothing"]).problem
    assert failed.startswith(
        "tini --version ended with exit code 3, not 0; did not print 'tini'; printed nothing that matches"
    )
    assert failed.endswith("it printed:\n    nothing")
    younger = declare({"commands": [{"run": ["a"]}]}, {"commands": [{"run": ["a"], "exit_code": 2}, {"run": ["b"]}]})
    assert [(tier, each.run, each.exit_code) for tier, each in commands_of(younger)] == [
        ("tier-1", ("a",), 2),
        ("tier-1", ("b",), 0),
    ]
