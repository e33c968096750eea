"""What imagetiers changes in doit itself (by the package's entry points): small cures, each for a measured trouble."""

from __future__ import annotations

import difflib
import sqlite3
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from doit.cmd_clean import Clean as DoitClean
from doit.cmd_forget import Forget as DoitForget
from doit.cmd_info import Info as DoitInfo
from doit.cmd_run import Run as DoitRun
from doit.cmdparse import CmdParseError
from doit.dependency import DatabaseException, SqliteDB
from doit.exceptions import BaseFail, InvalidCommand, InvalidDodoFile
from doit.reporter import ConsoleReporter

from imagetiers.errors import ImagetiersError, Problem, os_problem
from imagetiers.visible import visible

__all__ = ["Clean", "Forget", "Info", "PromptDB", "Reporter", "Run"]


class Info(DoitInfo):
    """`doit info`: an unknown task is one line, not a KeyError; the reason is told in words; no Python objects are shown."""

    def _execute(self, pos_args: list[str], hide_status: bool = False) -> int:  # noqa: FBT001, FBT002  doit's signature
        if len(pos_args) != 1:
            raise InvalidCommand("doit info takes one task")
        tasks = {task.name: task for task in self.task_list}
        task = tasks.get(pos_args[0])
        if task is None:
            raise InvalidCommand(f"there is no task '{pos_args[0]}'; doit list --all shows them")
        self.outstream.write(f"\n{task.name}\n\n{visible(task.doc or '')}\n")
        code = 0
        if not hide_status:
            status = self.dep_manager.get_status(task, tasks, get_log=True)  # type: ignore[union-attr]  # set before _execute
            self.outstream.write(f"\nstatus     : {status.status}\n")
            if status.status != "up-to-date":
                self.outstream.write(visible(self.get_reasons(status.reasons)) + "\n")
                code = 1
        for title, names in (("needs", task.setup_tasks), ("after", task.task_dep)):
            if names:
                self.outstream.write(f"\n{title:11s}: {', '.join(names)}\n")
        for option in task.params:
            self.outstream.write(f"\n--{option['long']:9s}: {option['help']}\n")
        return code

    @staticmethod
    def get_reasons(reasons: dict[str, Any]) -> str:
        """Say why the task would run: our `uptodate` objects say it themselves."""
        own = [str(item) for item, _, _ in reasons.get("uptodate_false") or ()]
        if own:
            return "\n".join(f" * {text}" for text in own)
        return str(DoitInfo.get_reasons(reasons))


class Run(DoitRun):
    """`doit`, `doit run`: a misspelt task or option is told with the right one, and without doit's Python objects."""

    def parse_execute(self, in_args: list[str]) -> Any:
        """Parse and run. Raises InvalidDodoFile (exit code 3) for a wrong command line."""
        try:
            return super().parse_execute(in_args)
        except CmdParseError as error:
            # "Error parsing Task: option --x not recognized (parsing options: [CmdOption({...})]). Got: [...]"
            text = str(error).partition(" (parsing options:")[0]
            raise InvalidDodoFile(visible(f"{text}\n  hint: doit help TASK shows a task's options")) from None
        except InvalidCommand as error:
            if error.not_found is None:
                raise
            names = [*(task.name for task in self.task_list or ()), *self.loader.cmd_names]
            close = difflib.get_close_matches(error.not_found, [name for name in names if name[0] != "_"], n=1)
            hint = f"did you mean '{close[0]}'?" if close else "doit list --all shows the tasks, doit help the commands"
            raise InvalidDodoFile(visible(f"there is no task '{error.not_found}'\n  hint: {hint}")) from None


class Forget(DoitForget):
    """`doit forget`: doit clears its database, where our tasks keep nothing; so they are told, and run once more."""

    def _execute(self, forget_sub: bool, forget_disable_default: bool, forget_all: bool) -> Any:  # noqa: FBT001
        result = super()._execute(forget_sub, forget_disable_default, forget_all)
        chosen = {task.name for task in self.task_list} if forget_all else set(self.sel_tasks or ())
        if not forget_all and self.sel_default_tasks and forget_disable_default:
            return result
        for task in self.task_list:
            tell = (task.meta or {}).get("forget")
            if tell is not None and (task.name in chosen or task.subtask_of in chosen):
                try:
                    tell()
                except OSError as error:
                    raise InvalidDodoFile(visible(f"{task.name} was not forgotten: {os_problem(error)}")) from None
        return result


class Clean(DoitClean):
    """`doit clean`: says what it removes and nothing else; exit code 1 when something could not be removed."""

    _failed = False

    def clean_tasks(self, tasks: Iterable[Any], dryrun: bool, cleanforget: bool) -> None:  # noqa: FBT001  doit's signature
        """Clean each task once; one that fails does not keep the others from it, and is told once."""
        told: set[str] = set()
        unique = {task.name: task for task in tasks}
        for task in unique.values():
            task.init_options()
            for action in task.clean_actions:
                action.kwargs["dryrun"] = dryrun
                failure = action.execute(out=self.outstream)
                if isinstance(failure, BaseFail):
                    self._failed = True
                    text = visible(failure.get_msg().strip())
                    if text not in told:
                        sys.stderr.write(f"{text}\n")
                    told.add(text)
            if cleanforget and not dryrun:
                self.dep_manager.remove(task.name)  # type: ignore[union-attr]  # set before _execute
        self.dep_manager.close()  # type: ignore[union-attr]

    def _execute(
        self,
        dryrun: bool,  # noqa: FBT001
        cleandep: bool,  # noqa: FBT001
        cleanall: bool,  # noqa: FBT001
        cleanforget: bool,  # noqa: FBT001
        pos_args: list[str] | None = None,
    ) -> int:
        super()._execute(dryrun, cleandep, cleanall, cleanforget, pos_args)
        return 1 if self._failed else 0


class PromptDB(SqliteDB):
    """doit's sqlite3 database, for two doits at once.

    doit holds the write lock from a task's failure to the end of the run (`--continue`), and another doit dies with
    "database is locked" after 5 seconds. Here each removal is committed at once, and the other one waits.

    A file that cannot be opened or written costs nothing but `doit ignore`, which is all that it is kept for: then that
    fails, and everything else goes on without it.
    """

    desc = "sqlite3, safe for two doits at once"

    def _sqlite3(self, name: str) -> sqlite3.Connection:
        self._broken = ""
        try:
            connection: sqlite3.Connection = super()._sqlite3(name)
            connection.execute("pragma busy_timeout = 60000")
            connection.execute("select count(*) from doit").fetchone()
        except (sqlite3.Error, DatabaseException) as error:
            self._broken = str(error).rpartition("Original error: ")[2]
            connection = super()._sqlite3(":memory:")
        return connection

    def remove(self, task_id: str) -> None:
        """Remove a task's state and let go of the lock."""
        self._forgiving(lambda: SqliteDB.remove(self, task_id))

    def remove_all(self) -> None:
        """Remove everything and let go of the lock."""
        self._forgiving(lambda: SqliteDB.remove_all(self))

    def dump(self) -> None:
        """Save and close. Raises InvalidDodoFile when it is `doit ignore` that cannot be kept."""
        ignored = any("ignore:" in self._cache.get(task, {}) for task in self._dirty)
        self._forgiving(lambda: SqliteDB.dump(self), commit=False)
        if ignored and self._broken:
            raise InvalidDodoFile(visible(f"{self.name}: doit ignore cannot be kept: {self._broken}"))

    def _forgiving(self, work: Callable[[], None], *, commit: bool = True) -> None:
        try:
            work()
            if commit:
                self._conn.commit()
        except sqlite3.Error as error:
            self._broken = str(error)


class Reporter(ConsoleReporter):
    """doit's console output, without a title line for tasks that only print, and errors as plain text on stderr."""

    desc = "console, errors as plain text"

    def initialize(self, tasks: Mapping[str, Any], selected_tasks: list[str]) -> None:
        """Refuse a run that would end in hours for want of something that can be looked for now."""
        super().initialize(tasks, selected_tasks)
        problems: dict[Problem, None] = {}
        try:
            for name in _would_run(tasks, selected_tasks):
                missing = (tasks[name].meta or {}).get("missing")
                problems.update(dict.fromkeys(missing() if missing is not None else ()))
        except ImagetiersError:
            return  # the task meets it, too, and says whose it is
        if problems:
            raise InvalidDodoFile(visible("\n".join(["this cannot be done; nothing was run", *map(str, problems)])))

    def execute_task(self, task: Any) -> None:
        """Print the task's title, unless its output is all that shall be seen."""
        if not (task.meta or {}).get("quiet"):
            super().execute_task(task)

    def _write_failure(self, result: dict[str, Any], write_exception: bool = True) -> None:  # noqa: FBT001, FBT002
        fail: BaseFail = result["exception"]
        self.outstream.flush()
        if type(fail).__name__ == "TaskFailed":
            sys.stderr.write(f"{visible(fail.get_msg().strip())}\n")
            sys.stderr.flush()
        else:
            super()._write_failure(result, write_exception)

    def complete_run(self) -> None:
        """Repeat nothing: failures were told when they happened."""
        self.failures = []
        super().complete_run()


def _would_run(tasks: Mapping[str, Any], names: Iterable[str]) -> Iterator[str]:
    """Yield the tasks that these need and that are not up to date, as doit is going to find them."""
    seen: set[str] = set()
    left = deque(names)
    while left:
        name = left.popleft()
        if name in seen:
            continue
        seen.add(name)
        task = tasks[name]
        left += task.task_dep
        is_up_to_date = (task.meta or {}).get("up_to_date")
        if is_up_to_date is None or not is_up_to_date(task, {}):
            yield name
            left += task.setup_tasks
