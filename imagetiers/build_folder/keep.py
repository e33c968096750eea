"""Use a kept folder, build in it, keep it: the steps of one compile, each of which a compile's script asks for by itself."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from imagetiers.build_folder import install, manifest, ninja, parts, toolchain, tree
from imagetiers.build_folder.beside import beside
from imagetiers.build_folder.errors import UnusableError
from imagetiers.build_folder.manifest import COMPILED, ELSEWHERE, UNREAD, FolderManifest

__all__ = ["BEGIN_AGAIN", "Keeper"]

BEGIN_AGAIN = 75
"""Exit code: what the kept folder made ninja do is not what may be done in it; it is gone, so configure anew."""

UTILITY = ".util"  # the end of CMake's names for what is no file and runs whenever it is asked for: `install`
# Nothing before or behind what links; a static library is removed first.
_PLAIN_LINK = re.compile(r": &&(?:(?!&&).)*(?:&&(?:(?!&&).)*){0,3}&& :", re.DOTALL)
USED, WATCHED, OFF = "used", "watched", "off"


@dataclass
class Keeper:
    """`given` is the kept folder as the cache had it, `left` becomes the next one, `state` is what the steps tell each other.

    `mode`: a folder is in use, or a build from nothing is watched, or neither. `made` are objects that were compiled. `placed`
    is the moment (Unix ns) in which the kept folder was in place.
    """

    given: str
    left: str
    state: str
    mode: str = OFF
    why: str = ""
    found: FolderManifest | None = None
    changed: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    objects: int = 0
    placed: int = 0
    targets: tuple[str, ...] = ()
    reads: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def resume(cls, given: str, left: str, state: str) -> Keeper:
        """Go on where the last step of this compile was."""
        keeper = cls(given, left, state)
        try:
            with open(f"{state}/keeper.json", encoding="utf-8") as file:
                kept = json.load(file)
            with open(f"{state}/{manifest.NAME}", "rb") as data:
                keeper.found = FolderManifest.decode(data.read())
        except FileNotFoundError:
            return keeper
        for name in ("mode", "why", "objects", "placed", "reads"):
            setattr(keeper, name, kept[name])
        keeper.changed, keeper.made, keeper.targets = (tuple(kept[name]) for name in ("changed", "made", "targets"))
        return keeper

    def suspend(self) -> None:
        """Write down what the next step must know."""
        os.makedirs(self.state, exist_ok=True)
        names = ("mode", "why", "objects", "placed", "reads", "changed", "made", "targets")
        if self.found is not None:
            with open(f"{self.state}/{manifest.NAME}", "wb") as data:
                data.write(self.found.encode())
        with open(f"{self.state}/keeper.json", "w", encoding="utf-8") as file:
            json.dump({name: getattr(self, name) for name in names}, file)

    @property
    def here(self) -> FolderManifest:
        """What is known of this worker's sources, or of the folder in use. Raises UnusableError before `restore`."""
        if self.found is None:
            raise UnusableError("nothing is known of the sources: restore comes first")
        return self.found

    def restore(self, root: str, build: str) -> bool:
        """Put the kept folder where it was, if that is safe; otherwise begin to watch. Say whether it is in use.

        Raises OSError where a folder that may not be used could not be removed again: nothing may be built beside it.
        """
        self.found = FolderManifest(root, build, {})
        try:
            self._now()
            self._use()
        except (UnusableError, OSError) as error:
            self.why = str(error)
            self._begin_watching()
            return False
        self.mode = USED
        return True

    def _now(self) -> None:
        root, build = self.here.root, self.here.build
        # A program's byte code would be read in the place of its source.
        for folder, names, _ in os.walk(root):
            if "__pycache__" in names:
                shutil.rmtree(f"{folder}/__pycache__", ignore_errors=True)
                names.remove("__pycache__")
        machine = beside(lambda: toolchain.machine([root]))
        sources = tree.sources(root)
        self.found = FolderManifest(root, build, machine() | toolchain.environment(os.environ), sources)

    def _use(self) -> None:
        now = self.here
        try:
            with open(f"{self.given}/{manifest.NAME}", "rb") as file:
                kept = FolderManifest.decode(file.read())
        except FileNotFoundError:
            raise UnusableError("there is none yet") from None
        if (kept.root, kept.build) != (now.root, now.build):
            raise UnusableError(f"it is that of {kept.build}")
        if differs := toolchain.differences(kept.fingerprint, now.fingerprint):
            raise UnusableError(f"it was not made with the same {differs}")
        self.changed = kept.changed(now.sources)
        at = time.time_ns()
        if at <= kept.newest:
            raise UnusableError("this machine's clock is behind that of the one that made it")
        _set_outside(kept)
        try:
            parts.unpack(self.given, now.root)
            times = dict.fromkeys(self.changed, at)
            sources = {
                path: replace(one, mtime=times.get(path, kept.sources[path].mtime)) for path, one in now.sources.items()
            }
            for path, one in sources.items():
                if one.kind != "link" and one.mtime != now.sources[path].mtime:
                    tree.set_time(f"{now.root}/{path}", one.mtime)
            self.placed = self._moment()
        except (UnusableError, OSError) as error:
            self._empty()
            raise UnusableError(str(error)) from error
        self.found = replace(kept, sources=sources)

    def _moment(self) -> int:
        """Return what the file system takes for now: no change that is still to come has an earlier time."""
        os.makedirs(self.state, exist_ok=True)
        with open(f"{self.state}/moment", "wb") as file:
            return os.fstat(file.fileno()).st_ctime_ns

    def _begin_watching(self) -> None:
        self.mode, self.changed, self.reads = OFF, (), {}
        if not self.here.sources:
            return
        try:
            tree.watch(self.here.root, self.here.sources)
            self.mode = WATCHED
        except UnusableError as error:
            self.why += f"; and what is built now is not kept: {error}"

    def build(self, words: Sequence[str], targets: Sequence[str], *, installs: bool = False) -> int:
        """Build these targets, and install what CMake's rules say if it `installs`.

        Returns ninja's or CMake's exit code, or BEGIN_AGAIN.
        """
        code = self._build(words, targets, installs=installs)
        return install.install(self.here.build) if installs and code == 0 else code

    def _build(self, words: Sequence[str], targets: Sequence[str], *, installs: bool) -> int:
        build = self.here.build
        if self.mode == OFF:
            return ninja.run(build, [*words, *targets])
        try:
            if self.mode == WATCHED:
                return self._watched(words, targets)
            before = os.path.getsize(f"{build}/.ninja_log")
            with install.ahead(build, self.state) if installs else contextlib.nullcontext():
                code = ninja.run(build, [*words, *targets])
            if code:
                return code
            self._judge(before)
        except (UnusableError, OSError) as error:
            self.why = str(error)
            if self.mode == WATCHED:
                self.mode = OFF
                return ninja.run(build, [*words, *targets])
            self._empty()
            with contextlib.suppress(UnusableError):
                self._now()
            self._begin_watching()
            return BEGIN_AGAIN
        return 0

    def _judge(self, before: int) -> None:
        """Raise UnusableError if ninja has done anything but compile, link, and what it does each time."""
        build = self.here.build
        kinds = ninja.kinds(build)
        made = ninja.outputs_since(build, before)
        other = sorted(
            path
            for path in _but(made - kinds.compiled - kinds.linked, build, self.here.each_time)
            if path not in kinds.custom or os.path.lexists(os.path.join(build, path))
        )
        if other:
            raise UnusableError(f"{other[0]} was to be made again, which is neither compiled nor linked")
        self.made, self.objects = tuple(sorted(made & kinds.compiled)), len(kinds.compiled)

    def _empty(self) -> None:
        """Leave nothing but the sources. Raises OSError if anything else stays."""
        root = self.here.root
        stay = self.here.sources.keys() | _folders(self.here.sources)
        parts.remove(root, (path for path, _ in tree.files_below(root) if path not in stay))
        for path, _ in tree.files_below(root):
            if path not in stay:
                raise FileExistsError(errno.EEXIST, "could not be removed", f"{root}/{path}")

    def _watched(self, words: Sequence[str], targets: Sequence[str]) -> int:
        """Build in steps of one kind each, so that it is known whether a generator, a compiler or a linker reads what."""
        build = self.here.build
        self._read("configure")
        # build.ninja itself is one of ninja's targets, each time, with the generators that CMake would read from.
        self.targets = (*targets, "build.ninja")
        kinds, graph = ninja.kinds(build), ninja.graph(build, self.targets)
        wanted = graph.inputs(self.targets) - {path for path in kinds.custom if path.endswith(UTILITY)}
        for kind, some in graph.steps(kinds, wanted):
            products = self._products(kinds) if kind == "custom" else {}
            tree.watch_times(build, products)
            if code := self._step(words, some):
                return code
            self._read(kind)
            self.reads["by generators"] = sorted(
                {*self.reads.get("by generators", ()), *tree.read_since(build, products)}
            )
        before = os.path.getsize(f"{build}/.ninja_log")
        if code := ninja.run(build, [*words, *targets]):
            return code
        made = _but(ninja.outputs_since(build, before), build, ninja.each_time(build))
        left = sorted(path for path in made if os.path.lexists(os.path.join(build, path)))
        if left:
            self.mode, self.why = OFF, f"what was built is not kept: {left[0]} was made in no step of its own"
        self.made, self.objects = tuple(sorted(kinds.compiled & wanted)), len(kinds.compiled & wanted)
        return 0

    def _products(self, kinds: ninja.Kinds) -> dict[str, int]:
        """Return the times of what is compiled and linked so far: a generator may read that, or be it."""
        found = {}
        for path in kinds.compiled | kinds.linked:
            with contextlib.suppress(FileNotFoundError):
                found[path] = os.stat(os.path.join(self.here.build, path)).st_mtime_ns
        return found

    def _step(self, words: Sequence[str], targets: set[str]) -> int:
        """Build these targets, by a name for all of them: theirs may be more than a command line holds."""
        given = f"{self.state}/step.ninja"
        with open(given, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write("include build.ninja\n")
            names = " ".join(path.replace("$", "$$").replace(" ", "$ ").replace(":", "$:") for path in sorted(targets))
            file.write(f"build imagetiers_step: phony {names}\n")
        return ninja.run(self.here.build, ["-f", given, *words, "imagetiers_step"])

    def _read(self, step: str) -> None:
        root, sources = self.here.root, self.here.sources
        seen = tree.read_since(root, sources)
        self.reads[step] = sorted({*self.reads.get(step, ()), *seen})
        for path in seen:
            if sources[path].kind != "link" and os.path.lexists(f"{root}/{path}"):
                tree.set_time(f"{root}/{path}", os.lstat(f"{root}/{path}").st_mtime_ns)

    def save(self) -> str:
        """Leave what was built for the next compile: a `new` folder, the `same` as was given, or `none`."""
        if self.mode == OFF:
            return "none"
        if self.mode == USED and not self.changed and not self.made:
            return "same"
        try:
            ninja.tool(self.here.build, "recompact")
            kept = self._followed() if self.mode == USED else self._seen()
            os.makedirs(self.left, exist_ok=True)
            same = parts.Placed(self.given, self.placed) if self.mode == USED else None
            parts.pack(kept.root, kept.products, self.left, same)
            with open(f"{self.left}/{manifest.NAME}", "wb") as file:
                file.write(kept.encode())
        except (UnusableError, OSError) as error:
            self.why = "; ".join(text for text in (self.why, f"what was built is not kept: {error}") if text)
            return "none"
        return "new"

    def _seen(self) -> FolderManifest:
        """Describe a folder whose building was watched from its beginning."""
        root, build = self.here.root, self.here.build
        kinds, graph = ninja.kinds(build), ninja.graph(build, self.targets)
        sources = _as_they_were(self.here)
        dependencies = _real(root, ninja.dependencies(build))
        generated = {path for path in kinds.custom if os.path.lexists(os.path.join(build, path))}
        feeds = graph.inputs(generated, strongly=True) & (kinds.compiled | kinds.linked)
        feeds |= set(self.reads.get("by generators", ()))
        feeds |= graph.inputs(feeds) & (kinds.compiled | kinds.linked)
        elsewhere = {path for step in ("configure", "custom", "linked") for path in self.reads.get(step, ())}
        if feeds & kinds.compiled:
            elsewhere |= _real(root, ninja.dependencies(build, feeds & kinds.compiled))
        for path in feeds & kinds.linked:
            if not _PLAIN_LINK.fullmatch(ninja.command(build, path)):
                raise UnusableError(f"{path} feeds a generator and is made with commands of its own")
        compiled = set(self.reads.get("compiled", ()))
        readers = {}
        for path, one in sources.items():
            if path in elsewhere or one.kind == "link" or (path in compiled and path not in dependencies):
                readers[path] = ELSEWHERE
            else:
                readers[path] = COMPILED if path in dependencies else UNREAD
        again = {_below(root, os.path.join(build, path)) for path in kinds.linked - feeds}
        again |= {_below(root, path) for path in ninja.installed(build)}
        again |= sources.keys() | _folders(sources)
        # With its folders: one that is empty may be where something is to be written.
        products = tuple(sorted(path for path, _ in tree.files_below(root) if path not in again))
        return _timed(
            replace(
                self.here,
                sources=sources,
                readers=readers,
                products=products,
                each_time=tuple(sorted(ninja.each_time(build))),
                outside=_outside(root, build, graph),
            )
        )

    def _followed(self) -> FolderManifest:
        """Describe a folder that was used: as before, but for what has been compiled."""
        root, build = self.here.root, self.here.build
        sources = _as_they_were(self.here)
        outside, readers = dict(self.here.outside), dict(self.here.readers)
        for path in ninja.dependencies(build, self.made) if self.made else ():
            below = os.path.relpath(os.path.realpath(path), root)
            one = sources.get(below)
            if one is not None and one.undeclared:
                raise UnusableError(f"{below} may let a compiler read what it does not tell")
            if one is not None and readers[below] == UNREAD:
                readers[below] = COMPILED
            elif one is None and below.startswith("../"):
                outside[path] = os.stat(path).st_mtime_ns
        return _timed(replace(self.here, sources=sources, readers=readers, outside=outside))


def _but(paths: Iterable[str], build: str, absolute: Iterable[str]) -> set[str]:
    """Return those paths, as ninja names them, that are none of the absolute ones."""
    known = set(absolute)
    return {path for path in paths if os.path.normpath(os.path.join(build, path)) not in known}


def _real(root: str, paths: Iterable[str]) -> set[str]:
    """Return the files behind these paths, relative to `root`."""
    return {os.path.relpath(os.path.realpath(path), root) for path in paths}


def _set_outside(kept: FolderManifest) -> None:
    """Give the image's files the times that they had: another build of the same image has written them at another time."""
    try:
        for path, mtime in kept.outside.items():
            status = os.stat(path)
            if status.st_mtime_ns != mtime:
                os.utime(path, ns=(status.st_atime_ns, mtime))
    except OSError as error:
        raise UnusableError(f"the time of {error.filename} cannot be set: {error.strerror}") from error


def _outside(root: str, build: str, graph: ninja.Graph) -> dict[str, int]:
    """Return the times of everything beside the sources that ninja looks at."""
    named = {os.path.normpath(os.path.join(build, path)) for path in graph.names.values()}
    found = {}
    for path in named | ninja.dependencies(build):
        if not f"{path}/".startswith(f"{root}/") and os.path.exists(path):
            found[path] = os.stat(path).st_mtime_ns
    return found


def _as_they_were(found: FolderManifest) -> dict[str, tree.Source]:
    """Return the sources with the times that they have now. Raises UnusableError if the build has changed one."""
    sources = {}
    for path, one in found.sources.items():
        try:
            status = os.lstat(f"{found.root}/{path}")
        except OSError:
            raise UnusableError(f"the build has removed {path}") from None
        if one.kind == "link" or status.st_mtime_ns == one.mtime:
            sources[path] = one
            continue
        again = tree.source(f"{found.root}/{path}")
        if (again.kind, again.digest) != (one.kind, one.digest):
            raise UnusableError(f"the build has changed {path}")
        sources[path] = again
    return sources


def _below(root: str, path: str) -> str:
    return os.path.relpath(path, root)


def _folders(sources: Mapping[str, tree.Source]) -> set[str]:
    """Return the folders of the sources."""
    found: set[str] = set()
    for path in sources:
        parent = os.path.dirname(path)
        while parent and parent not in found:
            found.add(parent)
            parent = os.path.dirname(parent)
    return found


def _timed(kept: FolderManifest) -> FolderManifest:
    times = [one.mtime for one in kept.sources.values()]
    times += [os.lstat(f"{kept.root}/{path}").st_mtime_ns for path in kept.products]
    return replace(kept, newest=max(times, default=0))
