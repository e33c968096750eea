"""What imagetiers changes in doit itself (by the package's entry points): small cures, each for a measured trouble."""

from __future__ import annotations

import fnmatch
import functools
import os
import re
import sqlite3
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doit.cmd_base import Command
from doit.cmd_clean import Clean as DoitClean
from doit.cmd_dumpdb import DumpDB as DoitDumpDB
from doit.cmd_forget import Forget as DoitForget
from doit.cmd_help import Help as DoitHelp
from doit.cmd_ignore import Ignore as DoitIgnore
from doit.cmd_info import Info as DoitInfo
from doit.cmd_list import List as DoitList
from doit.cmd_run import Run as DoitRun
from doit.cmdparse import CmdOption, CmdParseError, TaskParse
from doit.dependency import DatabaseException, SqliteDB
from doit.exceptions import BaseFail, InvalidCommand, InvalidDodoFile
from doit.reporter import ConsoleReporter

from imagetiers.adapters.streams import harden
from imagetiers.errors import ImagetiersError, Problem, os_problem
from imagetiers.suggestions import nearest
from imagetiers.tasks.asked import ASKED, Asked
from imagetiers.tasks.options import refused, split_hint
from imagetiers.visible import visible

if TYPE_CHECKING:
    from imagetiers.events import Events

__all__ = ["Clean", "DumpDB", "Forget", "Help", "Ignore", "Info", "List", "PromptDB", "Reporter", "Run"]

# "Error parsing parameter 'days' <function ...>.\n'x' is not a whole number\n  hint: ...\n"
_LINE = "the command line"
_ALL_TASKS = "doit list --all shows the tasks, doit help the commands"
_NO_DODO = "Could not find dodo file"
_PROCESSES = "num_process"  # doit's name of -n
_EVENTS = "events"
_EVENTS_OPTION = {
    "name": _EVENTS,
    "long": "events",
    "type": str,
    "default": None,
    "help": "write what happens to this file as JSON lines (- = stdout; schemas/events.schema.json)",
}
SUMMARY = "_summary"
"""The task that shows what there is at the end of a doit without words."""

_ALL = "subtasks"  # of list --all
_WRONG_VALUE = re.compile(r"Error parsing parameter '(\w+)' .*?\.\n(.+)", re.DOTALL)


class _Plain(Command):
    """A command that reports a wrong line without doit's Python objects."""

    def parse_execute(self, in_args: list[str]) -> Any:
        """Parse and run. Raises InvalidDodoFile (exit code 3) for a wrong command line."""
        harden()
        try:
            return super().parse_execute(in_args)
        except CmdParseError as error:
            raise refused([_command_line_problem(str(error))], _LINE) from None
        except InvalidDodoFile as error:
            if not str(error).startswith(_NO_DODO):
                _annotate(str(error))
                raise
            hint = (
                "doit -k … looks for it in the folders above, doit -f FILE … takes another; both stand before the task"
            )
            raise InvalidDodoFile(str(Problem(str(Path.cwd()), "there is no dodo.py", hint))) from None


def _annotate(problems: str) -> None:
    """Let GitHub show what is wrong beside the lines of a change."""
    from imagetiers.adapters.github import annotate, in_github

    if in_github():
        annotate(problems, print)


@contextmanager
def _asking(asked: Asked | None) -> Iterator[None]:
    """Let the tasks know what is asked for while they are made."""
    token = ASKED.set(asked)
    try:
        yield
    finally:
        ASKED.reset(token)


def _command_line_problem(told: str) -> Problem:
    value = _WRONG_VALUE.match(told)
    if value is not None:
        what, hint = split_hint(value[2])
        if value[1] == _PROCESSES:  # of which Python says it: invalid literal for int() with base 10: 'x'
            return Problem("-n", f"{what.rpartition(': ')[2]} is not a whole number", "write 0 or more")
        name = f"--{value[1].replace('_', '-')}"
        return Problem(name, what, hint or "doit help TASK shows a task's options")
    # "Error parsing Task: option --x not recognized (parsing options: [CmdOption({...})]). Got: [...]"
    what = told.partition(" (parsing options:")[0].removeprefix("Error parsing ")
    return Problem("", what, "doit help TASK shows a task's options, doit help COMMAND a command's")


def _no_match(word: str) -> Problem:
    return Problem("", f"no task's name is like '{word}'", _ALL_TASKS)


class Info(_Plain, DoitInfo):
    """`doit info`: an unknown task is one line, not a KeyError; the reason is in words; no Python objects are shown."""

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
        for line in (task.meta or {}).get("notes", list)():
            self.outstream.write(f"\n{visible(line)}\n")
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


def _events(path: str | None) -> Events | None:
    """Open what is told of the run. Raises InvalidDodoFile (exit code 3)."""
    if path is None:
        return None
    from imagetiers.adapters.event_log import EventLog

    try:
        if not path:
            raise refused([Problem("--events", "names no file", "a path, or - for the standard output")], _LINE)
        return EventLog.open(path)
    except OSError as error:
        raise refused([replace(os_problem(error), where=f"--events {path}")], _LINE) from None


class Run(_Plain, DoitRun):
    """`doit`, `doit run`: a misspelt task or option is reported with the right one, and without doit's Python objects."""

    cmd_options: tuple[dict[str, Any], ...] = (*DoitRun.cmd_options, _EVENTS_OPTION)  # type: ignore[assignment]  # doit's has so many

    def parse_execute(self, in_args: list[str]) -> Any:
        """Parse and run. Raises InvalidDodoFile (exit code 3) for a wrong command line."""
        try:
            return super().parse_execute(in_args)
        except InvalidCommand as error:
            if error.not_found is None:
                raise
            raise InvalidDodoFile(visible(str(self._unknown(error.not_found)))) from None

    def _unknown(self, name: str) -> Problem:
        if name in self.loader.cmd_names:
            return Problem("", f"'{name}' is a command, and no task", f"it comes first: doit {name} …")
        tasks = [task.name for task in self.task_list or ()]
        of_a_tier = (f"{verb}:{name}" for verb in (*(self.sel_tasks or ()), "image"))  # `doit verify app`, `doit app`
        meant = next((task for task in of_a_tier if task in tasks), None)
        names = [*tasks, *self.loader.cmd_names]
        close = meant or nearest(name, [name for name in names if name[0] != "_"])
        hint = _ALL_TASKS if close is None else f"did you mean '{close}'?"
        return Problem("", f"there is no task '{name}'", hint)

    def execute(self, params: Any, args: list[str]) -> Any:
        """Run, once the words are such that something can: doit does nothing for fewer than no processes, or no match."""
        if params[_PROCESSES] < 0:
            raise refused([Problem("-n", f"{params[_PROCESSES]} is too small", "write 0 or more")], _LINE)
        with _asking(Asked(tuple(args), events=_events(params[_EVENTS]))):
            return super().execute(params, args)

    @functools.wraps(DoitRun._execute)  # noqa: SLF001  doit finds out by its signature what to call it with
    def _execute(self, *args: Any, **options: Any) -> Any:
        tasks = {task.name: task for task in self.task_list}
        previous = ""
        for word in self.sel_tasks or ():
            if word in tasks and tasks[word].pos_arg:
                break  # what follows is its own
            is_value = previous.startswith("--") and "=" not in previous
            if "*" in word and not is_value and not word.startswith("-") and not fnmatch.filter(tasks, word):
                raise refused([_no_match(word)], _LINE)
            previous = word
        if self.sel_tasks:
            self.sel_tasks = _each_once(tasks, self.sel_tasks)
        if options["single"]:
            _let_alone(tasks, self.sel_tasks or ())
            options["single"] = False
        return super()._execute(*args, **options)


class Forget(_Plain, DoitForget):
    """`doit forget`: doit clears its database, where our tasks keep nothing; so the tasks are asked, and run once more."""

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


class List(_Plain, DoitList):
    """`doit list`, with plain errors."""

    def execute(self, params: Any, args: list[str]) -> Any:
        """List; of groups alone no more than these are made."""
        with _asking(None if args or params[_ALL] else Asked(groups=True)):
            return super().execute(params, args)


class Ignore(_Plain, DoitIgnore):
    """`doit ignore`: without a task it is an error."""

    def _execute(self, pos_args: list[str]) -> Any:
        if not pos_args:
            raise InvalidCommand("doit ignore takes tasks")
        return super()._execute(pos_args)


class DumpDB(_Plain, DoitDumpDB):
    """`doit dumpdb`: there is nothing in it that could be shown, and doit ends in a traceback."""

    def execute(self, params: Any, args: list[str]) -> Any:  # noqa: ARG002  doit's signature
        """Raise InvalidCommand."""
        raise InvalidCommand("doit keeps nothing here but doit ignore; doit status shows what there is")


class Help(_Plain, DoitHelp):
    """`doit help`: what it does not know is an error, and not a page of something else."""

    def execute(self, params: Any, args: list[str]) -> Any:
        """Show the help. Raises InvalidCommand."""
        if len(args) > 1:
            raise InvalidCommand("doit help takes one task or command")
        return super().execute(params, args)

    def _execute(self, pos_args: list[str]) -> bool:
        if not super()._execute(pos_args):
            raise InvalidCommand(f"there is no task or command '{pos_args[0]}'; {_ALL_TASKS}")
        return True


class Clean(_Plain, DoitClean):
    """`doit clean`: says what it removes and nothing else; exit code 1 when something could not be removed."""

    _failed = False

    def clean_tasks(self, tasks: Iterable[Any], dryrun: bool, cleanforget: bool) -> None:  # noqa: FBT001  doit's signature
        """Clean each task once; one that fails does not keep the others from it, and is reported once."""
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
        names = [task.name for task in self.task_list]
        for word in pos_args or ():
            if "*" in word and not fnmatch.filter(names, word):
                raise refused([_no_match(word)], _LINE)
        super()._execute(dryrun, cleandep, cleanall, cleanforget, pos_args)
        return 1 if self._failed else 0


class PromptDB(SqliteDB):
    """doit's sqlite3 database, for two doits at once.

    doit holds the write lock from a task's failure to the end of the run (`--continue`), and another doit dies with
    "database is locked" after 5 seconds. Here each removal is committed at once, and the other one waits.

    Nothing but `doit ignore` is kept in it, so there is no file before. One that cannot be opened or written costs only that:
    then `doit ignore` fails, and everything else goes on without it.
    """

    desc = "sqlite3, safe for two doits at once"

    def _sqlite3(self, name: str) -> sqlite3.Connection:
        self._broken = ""
        if not os.path.exists(name):  # noqa: PTH110  False for whatever is wrong with it
            return self._in_memory()
        try:
            connection: sqlite3.Connection = super()._sqlite3(name)
            connection.execute("pragma busy_timeout = 60000")
            connection.execute("select count(*) from doit").fetchone()
        except (sqlite3.Error, DatabaseException) as error:
            self._broken = str(error).rpartition("Original error: ")[2]
            connection = self._in_memory()
        return connection

    def _in_memory(self) -> sqlite3.Connection:
        connection: sqlite3.Connection = super()._sqlite3(":memory:")
        return connection

    def _make_file(self) -> None:
        folder, _ = os.path.split(self.name)
        try:
            os.makedirs(folder or ".", exist_ok=True)  # noqa: PTH103  as above
            self._conn = super()._sqlite3(self.name)
        except OSError as error:
            self._broken = str(os_problem(error))
        except (sqlite3.Error, DatabaseException) as error:
            self._broken = str(error).rpartition("Original error: ")[2]

    def remove(self, task_id: str) -> None:
        """Remove a task's state and let go of the lock."""
        self._forgiving(lambda: SqliteDB.remove(self, task_id))

    def remove_all(self) -> None:
        """Remove everything and let go of the lock."""
        self._forgiving(lambda: SqliteDB.remove_all(self))

    def dump(self) -> None:
        """Save and close. Raises InvalidDodoFile when it is `doit ignore` that cannot be kept."""
        self._dirty = {task for task in self._dirty if "ignore:" in self._cache.get(task, {})}
        ignored = bool(self._dirty)
        if ignored and not os.path.exists(self.name):  # noqa: PTH110  as above
            self._make_file()
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
    begin: Callable[[], object] = staticmethod(lambda: None)

    def initialize(self, tasks: Mapping[str, Any], selected_tasks: list[str]) -> None:
        """Begin, and refuse a run that would end in hours for want of something that can be looked for now."""
        super().initialize(tasks, selected_tasks)
        wrong = [problem for name in selected_tasks for problem in _wrong(tasks[name])]
        if wrong:
            raise refused(wrong, _LINE)
        self.begin()
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

    def write_error(self, text: str) -> None:
        """Write to stderr."""
        sys.stderr.write(text)
        sys.stderr.flush()

    def _write_failure(self, result: dict[str, Any], write_exception: bool = True) -> None:  # noqa: FBT001, FBT002
        fail: BaseFail = result["exception"]
        self.outstream.flush()
        if type(fail).__name__ == "TaskFailed":
            self.write_error(f"{visible(fail.get_msg().strip())}\n")
        elif type(fail).__name__ == "UnmetDependency":
            if result["task"].name == SUMMARY:
                return
            self.write_error(f"{result['task'].name}: not done, because this failed: {fail.get_msg().strip()}\n")
        else:
            super()._write_failure(result, write_exception)

    def complete_run(self) -> None:
        """Repeat nothing: failures were reported when they happened."""
        self.failures = []
        super().complete_run()


def _each_once(tasks: Mapping[str, Any], words: Iterable[str]) -> list[str]:
    """Return a line's tasks with their options, each task once: where it stands first, with all that is said of it.

    Behind a task that was named before, doit drops the rest of the line: other tasks, options and misspelt words.
    """
    left = list(words)
    named: dict[str, list[str]] = {}
    while left:
        word = left.pop(0)
        matching = fnmatch.filter(tasks, word) if "*" in word else []
        for name in matching or [word]:
            options = named.setdefault(name, [])
        if matching or word not in tasks:
            continue
        parser = TaskParse([CmdOption(option) for option in (*tasks[word].params, *tasks[word].creator_params)])
        if tasks[word].pos_arg:  # what follows is its own
            options += _options_first(parser, left)
            break
        try:
            _, rest = parser.parse(left)
        except CmdParseError:  # doit says what is wrong
            rest = []
        options += left[: len(left) - len(rest)]
        left = rest
    return [word for name, options in named.items() for word in (name, *options)]


def _options_first(parser: TaskParse, words: Iterable[str]) -> list[str]:
    """Return a task's own words with its options before the others: doit takes what stands behind one for no option.

    Raises CmdParseError for a wrong one.
    """
    options: list[str] = []
    others: list[str] = []
    left = list(words)
    while left:
        if left[0].startswith("-") and left[0] != "-":
            _, rest = parser.parse(left)
            options += left[: len(left) - len(rest)]
            left = rest
        else:
            others.append(left.pop(0))
    return [*options, *others]


def _let_alone(tasks: Mapping[str, Any], words: Iterable[str]) -> None:
    """Do what doit's --single does, which itself forgets all tasks but the first: what a task waits for is not run."""
    for task in (tasks[word] for word in words if word in tasks):
        for each in [tasks[name] for name in task.task_dep] if task.has_subtask else [task]:
            each.task_dep = []


def _wrong(task: Any) -> Iterable[Problem]:
    """Return what is wrong with a task's options and words, which it can tell without doing anything."""
    tell = (task.meta or {}).get("wrong")
    found: Iterable[Problem] = tell(task.options or {}, task.pos_arg_val or []) if tell is not None else ()
    return found


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
