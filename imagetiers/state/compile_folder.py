"""The build folder of one compile: fetched while the builder image is made, published while ccache is pushed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from imagetiers.building.build_folder import FolderReport, parts_of, read_report
from imagetiers.errors import StoreError
from imagetiers.planning.plan import CompilePlan
from imagetiers.report.amounts import size_text
from imagetiers.session import Session
from imagetiers.state.build_folders import Folder, fetch, publish

__all__ = ["CompileFolder"]


class CompileFolder:
    """A context manager around a compile. Nothing here fails it: without a folder it compiles through ccache alone.

    Where the step keeps no build folder, every method does nothing.
    """

    def __init__(self, session: Session, step: CompilePlan) -> None:
        self._session = session
        self._step = step
        self._place = session.layout.build_folder(step.key)
        self._fetched = self._place.with_name(f".{step.key}.{os.getpid()}")
        self._pool = ThreadPoolExecutor(1, "build-folder")
        self._fetching: Future[Folder | None] | None = None
        self._report: FolderReport | None = None

    @property
    def kept(self) -> bool:
        """Whether the step keeps its build folder."""
        return self._step.config.build_folder is not None

    @property
    def used(self) -> bool:
        """Whether the compile, which has ended, has used the folder that it was given."""
        return self._report is not None and self._report.used

    @property
    def has_saved(self) -> bool:
        """Whether the compile has taken anything for which it would have asked ccache otherwise."""
        results = ({path.name for path in (self._place / name).glob("result-*")} for name in ("in", "out"))
        return self.used or bool(set.intersection(*results))

    def __enter__(self) -> Self:
        if self.kept:
            shutil.rmtree(self._fetched, ignore_errors=True)
            self._fetching = self._pool.submit(fetch, self._session, self._step, self._fetched)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        shutil.rmtree(self._fetched, ignore_errors=True)

    def place(self) -> Path | None:
        """Return the folder for a container that is to start, with what has been fetched; None where none is kept."""
        if self._fetching is None:
            return None
        shutil.rmtree(self._place, ignore_errors=True)
        self._place.mkdir(parents=True)
        try:
            if self._fetching.result() is not None:
                self._fetched.rename(self._place / "in")
        except (StoreError, OSError) as error:
            self._say(f"the build folder cannot be taken from the cache: {error}")
        return self._place

    def look(self) -> None:
        """Read what a container has left that has ended well."""
        if not self.kept:
            return
        self._report = read_report(self._place / "out")
        self._say(
            str(self._report) if self._report is not None else "the step's program did not ask for a build folder"
        )

    @contextmanager
    def publishing(self, *, good: bool) -> Iterator[None]:
        """Publish what the container has left, if the compile was `good`, while the block runs; then remove what is here."""
        waiting: Future[str] | None = None
        try:
            if good and self._report is not None:
                files = parts_of(self._place / "in", self._place / "out", self._report)
                waiting = self._pool.submit(self._publish, files) if files else None
            yield
            if waiting is not None:
                self._say(waiting.result())
        except (StoreError, OSError) as error:
            self._say(f"the build folder is not kept: {error}")
        finally:
            if waiting is not None:
                wait([waiting])
            if self.kept:
                shutil.rmtree(self._place, ignore_errors=True)

    def _publish(self, files: dict[str, Path]) -> str:
        made = publish(self._session, self._step, files)
        if made is None:
            return "the build folder is larger than build_folder.max_size, so it is not kept"
        stored = sum(part.stored for part in made.parts)
        return f"build folder kept: {size_text(made.raw)}, {size_text(stored)} compressed"

    def _say(self, line: str) -> None:
        self._session.services.console.line(f"compile:{self._step.tier}: {line}")
