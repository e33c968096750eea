"""Outputs that are not wheels: kept and brought back exactly, or refused before anything is written."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socket
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetiers.config.layout import Layout
from imagetiers.errors import BuildError, CorruptError
from imagetiers.state import outputs, wheels, wheels_whole
from tests.registry.harness import Builder, builder

KEY = "a" * 64
PATTERNS = ("bin/*", "share/")


def leave(layout: Layout, key: str = KEY) -> Path:
    """Leave what a compile might have: programs, a link, a folder that is empty, and more than is asked for."""
    folder = layout.partial_wheels(key) / wheels_whole.OUTPUTS
    for name, mode in (
        ("bin/tool", 0o755),
        ("share/doc/a text.txt", 0o640),
        ("share/empty", 0o444),
        ("obj/x.o", 0o644),
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name.endswith("empty") else name.encode() * 100)
        path.chmod(mode)
        os.utime(path, (1_600_000_000.75, 1_600_000_000.75))
    (folder / "share" / "nothing").mkdir(mode=0o700)
    (folder / "bin" / "t").symlink_to("tool")
    (folder / "share" / "up").symlink_to("../bin/t")
    (folder / "share" / "doc" / "hard").hardlink_to(folder / "bin" / "tool")
    (layout.partial_wheels(key) / wheels.BEGAN).touch()
    return folder


def tree(folder: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        link = path.is_symlink()
        content = os.readlink(path) if link else path.read_bytes() if path.is_file() else None  # noqa: PTH115
        found[str(path.relative_to(folder))] = (stat.filemode(status.st_mode), status.st_mtime_ns, content)
    return found


def timeless(folder: Path) -> dict[str, tuple[object, object]]:
    return {path: (mode, content) for path, (mode, _, content) in tree(folder).items()}


@pytest.fixture
def me(tiny: Layout, tmp_path: Path) -> Builder:
    return builder(tiny.root, "", tmp_path / "cache")


def test_what_comes_back_is_what_was_kept(me: Builder) -> None:
    leave(me.layout)
    others = wheels.commit(me.layout, KEY, "compile:t", PATTERNS)
    kept = tree(wheels.result(me.layout, KEY, PATTERNS))
    wheels.publish(me.session, KEY)
    wheels.forget(me.layout, KEY)

    assert wheels.restore(me.session, KEY, PATTERNS)
    assert others == ("obj (a folder)",)
    assert tree(wheels.result(me.layout, KEY, PATTERNS)) == kept
    assert list(kept) == [
        "bin", "bin/t", "bin/tool", "share", "share/doc", "share/doc/a text.txt", "share/doc/hard", "share/empty",
        "share/nothing", "share/up",
    ]  # fmt: skip
    assert kept["bin/tool"] == ("-rwxr-xr-x", 1_600_000_000 * 10**9, b"bin/tool" * 100)
    assert kept["share/doc/a text.txt"][0] == "-rw-r-----"
    assert kept["share/nothing"][0] == "drwx------"
    assert kept["share/up"][2] == "../bin/t"
    assert wheels.have(me.layout, KEY)


def test_a_folder_with_rights_that_the_umask_takes(me: Builder) -> None:
    before = os.umask(0o077)
    try:
        folder = leave(me.layout)
        (folder / "share").chmod(0o775)
        wheels.commit(me.layout, KEY, "compile:t", PATTERNS)
        wheels.publish(me.session, KEY)
        wheels.forget(me.layout, KEY)
        assert wheels.restore(me.session, KEY, PATTERNS)
    finally:
        os.umask(before)
    assert tree(wheels.result(me.layout, KEY, PATTERNS))["share"][0] == "drwxrwxr-x"


def relink(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def up_twice(folder: Path) -> None:
    (folder / "bin" / "top").symlink_to("..")
    (folder / "bin" / "far").symlink_to("top/..")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a file is gone": lambda f: (f / "bin" / "tool").unlink(),
    "a file is another": lambda f: (f / "bin" / "tool").write_bytes(b"x" * 800),
    "a mode is another": lambda f: (f / "bin" / "tool").chmod(0o700),
    "a folder's mode is another": lambda f: (f / "share").chmod(0o700),
    "a link leads elsewhere": lambda f: relink(f / "bin" / "t", "/etc/passwd"),
    "a file is a link": lambda f: relink(f / "share" / "empty", "doc"),
    "an empty folder is gone": lambda f: (f / "share" / "nothing").rmdir(),
    "there is one more": lambda f: (f / "share" / "nothing" / "more").touch(),
    "the list is none": lambda f: (f.parent / wheels_whole.OUTPUTS_LIST).write_text("{}"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_what_is_damaged_counts_as_absent(damage: Callable[[Path], object], me: Builder) -> None:
    leave(me.layout)
    wheels.commit(me.layout, KEY, "compile:t", PATTERNS)
    folder = wheels.result(me.layout, KEY, PATTERNS)
    assert wheels.have(me.layout, KEY)

    damage(folder)

    assert not wheels.have(me.layout, KEY)


def sockets(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(folder / "bin")  # a socket's path has no room for pytest's
        try:
            one.bind("sock")
        finally:
            os.chdir(here)


WRONG: list[tuple[Callable[[Path], object], str]] = [
    (
        lambda f: (f / "bin" / "out").symlink_to("../../other"),
        "bin/out: is a link to ../../other, which leads out of the folder",
    ),
    (
        lambda f: (f / "bin" / "abs").symlink_to("/usr/bin/env"),
        "bin/abs: is a link to /usr/bin/env, which is no relative path",
    ),
    (lambda f: (f / "bin" / "no").symlink_to("../obj/x.o"), "bin/no: is a link to ../obj/x.o, which is not kept"),
    (lambda f: (f / "bin" / "me").symlink_to("me"), "bin/me: is a link to me, which leads in a circle"),
    (
        up_twice,
        "bin/far: is a link to top/.., which leads out",
    ),
    (lambda f: (f / "bin" / "tool").chmod(0o4755), "bin/tool: has the set-uid, set-gid or sticky bit"),
    (lambda f: (f / "bin" / "tool").chmod(0o055), "bin/tool: has the mode 55, so not even its owner can use it"),
    (lambda f: (f / "share").chmod(0o555), "share: has the mode 555"),
    (sockets, "bin/sock: is neither a file, a folder nor a link"),
    (
        lambda f: Path(os.fsdecode(os.fsencode(f / "bin") + b"/\xff")).touch(),
        "bin/\\udcff: has a name that is no UTF-8",
    ),
    (
        lambda f: (f / "bin" / "two\nlines").touch(),
        "has a name that is no UTF-8, or too long, or with control characters",
    ),
]


@pytest.mark.parametrize(("spoil", "said"), WRONG, ids=[said.partition(":")[0] for _, said in WRONG])
def test_what_cannot_be_kept_is_told_and_nothing_is_removed(
    spoil: Callable[[Path], object], said: str, me: Builder
) -> None:
    folder = leave(me.layout)
    spoil(folder)
    before = set(tree_names(folder))

    with pytest.raises(BuildError) as error:
        wheels.commit(me.layout, KEY, "compile:t", PATTERNS)

    (folder / "share").chmod(0o755)
    assert said in str(error.value)
    assert set(tree_names(folder)) == before
    assert not wheels.have(me.layout, KEY)


def tree_names(folder: Path) -> list[str]:
    return [os.fsdecode(os.fsencode(path)) for path in folder.rglob("*")]


class Killed(BaseException):
    """What no code of ours catches: from here on nothing of it runs."""


CHANGES = ("unlink", "rmdir", "utime", "chmod", "rename", "fsync")


def dies(monkeypatch: pytest.MonkeyPatch, at: int) -> list[str]:
    """Let nothing be changed from the call `at` on; return the calls so far."""
    calls: list[str] = []

    def replaced(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def call(*args: object, **kwargs: object) -> object:
            calls.append(name)
            if len(calls) > at:
                raise Killed
            return real(*args, **kwargs)

        return call

    for name in CHANGES:
        monkeypatch.setattr(os, name, replaced(name))
    return calls


def test_killed_at_any_moment_nothing_is_half_kept(me: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the mark of the beginning is still there, the next doit takes what the container has left once more."""
    leave(me.layout)
    wheels.commit(me.layout, KEY, "compile:t", PATTERNS)
    whole = timeless(wheels.result(me.layout, KEY, PATTERNS))
    outcomes: set[str] = set()
    for at in range(200):
        wheels.forget(me.layout, KEY)
        partial = me.layout.partial_wheels(KEY)
        shutil.rmtree(partial, ignore_errors=True)
        leave(me.layout)
        with monkeypatch.context() as patch:
            calls = dies(patch, at)
            with contextlib.suppress(Killed):
                wheels.commit(me.layout, KEY, "compile:t", PATTERNS)
        done = wheels.have(me.layout, KEY)
        if not done and (partial / wheels.BEGAN).exists():
            wheels.commit(me.layout, KEY, "compile:t", PATTERNS)
        outcomes.add("done" if done else "again" if wheels.have(me.layout, KEY) else "from the beginning")
        if wheels.have(me.layout, KEY):
            assert timeless(wheels.result(me.layout, KEY, PATTERNS)) == whole
        if len(calls) <= at:
            break
    else:
        raise AssertionError("it never came to its end")
    assert outcomes == {"done", "again", "from the beginning"}


def test_what_buildkit_would_obey(me: Builder) -> None:
    (leave(me.layout) / ".dockerignore").write_text("bin")
    with pytest.raises(BuildError, match=r"compile:t: \.dockerignore: would be read by BuildKit"):
        wheels.commit(me.layout, KEY, "compile:t", ("bin/*", ".*"))


def test_patterns_that_mean_nothing(me: Builder) -> None:
    leave(me.layout)
    with pytest.raises(BuildError) as error:
        wheels.commit(me.layout, KEY, "compile:t", ("bin/tool", "dist/*.tar.gz", "*.whl"))
    assert str(error.value) == (
        "compile:t: nothing of what the step left in $OUTPUTS_DIR is meant by 'dist/*.tar.gz'; it left bin, obj, share\n"
        "  hint: correct compile.outputs, or what compile.run copies there\n"
        "compile:t: nothing of what the step left in $OUTPUTS_DIR is meant by '*.whl'; it left bin, obj, share\n"
        "  hint: correct compile.outputs, or what compile.run copies there"
    )


def test_more_than_anybody_wants(me: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(me.layout)
    monkeypatch.setattr(outputs, "MAX_OUTPUTS", 5)
    with pytest.raises(BuildError, match="left more than 5 files and folders"):
        wheels.commit(me.layout, KEY, "compile:t", PATTERNS)
    monkeypatch.setattr(outputs, "MAX_OUTPUTS", 50)
    monkeypatch.setattr(outputs, "MAX_OUTPUT_BYTES", 1000)
    with pytest.raises(BuildError, match=r"is 3\.6 kB in all, and 1 kB is the most"):
        wheels.commit(me.layout, KEY, "compile:t", PATTERNS)


SHA = "0" * 64
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def archive(
    folder: Path, listed: object, members: list[tuple[str, bytes, str]], first: str = wheels_whole.OUTPUTS_LIST
) -> Path:
    """Make an archive of members (name, tar's type, target), all of no bytes."""
    packed = folder / "packed.tar"
    with tarfile.open(packed, "w") as tar:
        data = listed if isinstance(listed, bytes) else json.dumps(listed).encode()
        told = tarfile.TarInfo(first)
        told.size = len(data)
        tar.addfile(told, io.BytesIO(data))
        for name, kind, target in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            tar.addfile(member)
    return packed


REG, DIR, SYM, LNK, FIFO = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE
FILE = f"file 644 {EMPTY}"
BAD: dict[str, tuple[object, list[tuple[str, bytes, str]]]] = {
    "above": ({"../x": FILE}, [("../x", REG, "")]),
    "absolute": ({"/x": FILE}, [("/x", REG, "")]),
    "dots inside": ({"bin": "folder 755", "bin/../../x": FILE}, [("bin/../../x", REG, "")]),
    "a folder that is not listed": ({"bin/x": FILE}, [("bin/x", REG, "")]),
    "through a link": ({"bin": "link /tmp", "bin/x": FILE}, [("bin", SYM, "/tmp"), ("bin/x", REG, "")]),
    "a link that leads out": ({"bin": "folder 755", "bin/x": "link ../../y"}, [("bin", DIR, ""), ("bin/x", SYM, "../../y")]),
    "an absolute link": ({"bin": "folder 755", "bin/x": "link /etc"}, [("bin", DIR, ""), ("bin/x", SYM, "/etc")]),
    "set-uid": ({"bin": "folder 755", "bin/x": f"file 4755 {EMPTY}"}, [("bin", DIR, ""), ("bin/x", REG, "")]),
    "another hash": ({"bin": "folder 755", "bin/x": f"file 644 {SHA}"}, [("bin", DIR, ""), ("bin/x", REG, "")]),
    "a hard link": ({"bin": "folder 755", "bin/x": FILE}, [("bin", DIR, ""), ("bin/x", LNK, "/etc/passwd")]),
    "a pipe": ({"bin": "folder 755", "bin/x": FILE}, [("bin", DIR, ""), ("bin/x", FIFO, "")]),
    "a member more": ({"bin": "folder 755", "bin/x": FILE}, [("bin", DIR, ""), ("bin/x", REG, ""), ("bin/y", REG, "")]),
    "a member less": ({"bin": "folder 755", "bin/x": FILE}, [("bin", DIR, "")]),
    "a member twice": ({"bin": "folder 755", "bin/x": FILE}, [("bin", DIR, ""), ("bin/x", REG, ""), ("bin/x", REG, "")]),
    "what nobody asked for": (
        {"bin": "folder 755", "bin/x": FILE, "y": FILE}, [("bin", DIR, ""), ("bin/x", REG, ""), ("y", REG, "")]
    ),
    "less than was asked for": ({"bin": "folder 755"}, [("bin", DIR, "")]),
    "what BuildKit reads": ({"bin": "folder 755", ".dockerignore": FILE}, [("bin", DIR, ""), (".dockerignore", REG, "")]),
    "no list": ([], []),
    "an empty list": ({}, []),
    "a list of numbers": ({"bin": 7}, [("bin", DIR, "")]),
    "not JSON": (b"\0", []),
    "nested": (b"[" * 100_000, []),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_an_archive_that_anybody_may_have_made(case: str, tmp_path: Path) -> None:
    listed, members = BAD[case]
    place = tmp_path / "in" / "here"
    place.mkdir(parents=True)
    packed = archive(place.parent, listed, members)
    with pytest.raises(CorruptError):
        outputs.unpack(packed, place, ("bin/*", *((".dockerignore",) if case == "what BuildKit reads" else ())))
    assert list(tmp_path.rglob("x")) == ([place / "outputs" / "bin" / "x"] if case in WRITTEN else [])
    assert [path for path in tmp_path.iterdir() if path.name != "in"] == []


WRITTEN = {"another hash", "a member more", "a member twice"}


def test_an_archive_without_its_list(tmp_path: Path) -> None:
    packed = archive(tmp_path, {"bin": "folder 755"}, [], first="bin")
    with pytest.raises(CorruptError):
        outputs.unpack(packed, tmp_path, ("bin/*",))


NAMES = st.text(st.sampled_from("ab.\\é'\" "), min_size=1, max_size=3).filter(lambda name: name not in {".", ".."})
PATHS = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join),
    st.tuples(st.binary(max_size=20), st.sampled_from([0o644, 0o755, 0o400])),
)


@settings(max_examples=60)
@given(files=PATHS)
def test_any_tree_comes_back(files: dict[str, tuple[bytes, int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("tree")
    folder = root / "kept" / "outputs"
    folder.mkdir(parents=True)
    for path, (content, mode) in files.items():
        place = folder / path
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        except OSError:
            continue  # a file stands where a folder should
        place.chmod(mode)
    if not any(folder.iterdir()):
        return
    outputs.commit(folder.parent, ("**",), "compile:t")
    (folder.parent / wheels_whole.OUTPUTS_LIST).write_text(outputs.listed(folder.parent))
    packed = root / "packed.tar"
    with tarfile.open(packed, "w") as tar:
        outputs.pack(folder.parent, tar)
    (root / "back").mkdir()
    outputs.unpack(packed, root / "back", ("**",))

    assert tree(root / "back" / "outputs") == tree(folder)
    assert (root / "back" / wheels_whole.OUTPUTS_LIST).read_bytes() == (
        folder.parent / wheels_whole.OUTPUTS_LIST
    ).read_bytes()
