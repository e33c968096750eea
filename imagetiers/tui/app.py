"""The screen: the tiers as a tree, panes about the one that is chosen, and keys that run what one would type."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Group
from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Footer, Header, RichLog, Static, TabbedContent, TabPane, Tree
from textual.widgets.tree import TreeNode

from imagetiers.adapters.process import Child
from imagetiers.errors import ImagetiersError
from imagetiers.operations.status import Status, look
from imagetiers.planning.status import TierStatus
from imagetiers.report.status import STYLE
from imagetiers.session import Session
from imagetiers.tui.command import VERBS, DoitCommand, command_for
from imagetiers.tui.dialogs import Ask, Leave
from imagetiers.tui.panes import PANES, Shown, newest_log, pane
from imagetiers.visible import visible

__all__ = ["TiersApp"]

_LOG, _OUTPUT = "log", "doit"
_FOLLOW_SECONDS = 0.5
_LOG_BYTES = 256 << 10  # of a log's end that is shown at first
_LOG_LINES = 10_000
_NARROWEST = 20  # columns of a log: below that its lines are cut


class TiersApp(App[None]):
    """Looks at a session's pipeline. What it runs is a doit of its own, in this process group."""

    CSS = """
    Tree { width: 34%; min-width: 24; max-width: 38; border-right: solid $primary; }
    TabbedContent { width: 1fr; }
    VerticalScroll { padding: 0 1; }
    VerticalScroll Static { width: 100%; }
    Ask, Leave { align: center middle; }
    .dialog { width: 72; max-width: 90%; height: auto; border: round $primary; padding: 1 2; background: $surface; }
    .command { margin: 1 0; text-style: bold; }
    .dim { color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(verb.key, f"ask('{verb.key}')", verb.name, show=verb.shown) for verb in VERBS),
        Binding("r", "refresh", "refresh"),
        Binding("ctrl+c", "stop", "stop it", show=False, priority=True),
        Binding("q", "leave", "quit"),
        Binding("ctrl+q", "leave", "quit", show=False, priority=True),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, session: Session, begin: Callable[..., Child] = Child) -> None:
        super().__init__()
        self._session = session
        self._begin = begin
        self._status: Status | None = None
        self._runs: tuple[DoitCommand, Child] | None = None
        self._leaving = False
        self._followed: tuple[Path, int] | None = None
        plan = session.plan.pipeline
        self.title = plan.name + (f", variant {plan.variant}" if plan.variant else "")

    def compose(self) -> ComposeResult:
        """Lay it out."""
        yield Header(icon="")
        with Horizontal():
            yield Tree[str]("tiers", id="tiers")
            with TabbedContent(id="panes"):
                for name in PANES:
                    with TabPane(name, id=name), VerticalScroll():
                        yield Static(id=f"{name}-text", markup=False)
                for name in (_LOG, _OUTPUT):
                    with TabPane(name, id=name):
                        yield RichLog(
                            id=f"{name}-text",
                            max_lines=_LOG_LINES,
                            min_width=_NARROWEST,
                            wrap=True,
                            markup=False,
                            highlight=False,
                        )
        yield Footer()

    def on_mount(self) -> None:
        """Look for the first time."""
        tree = self.query_one("#tiers", Tree)
        tree.show_root = False
        tree.guide_depth = 3
        tree.focus()
        self._say(Text("Nothing was run yet: a key of the last line shows its command, and asks.", style="dim"))
        self.set_interval(_FOLLOW_SECONDS, self._follow)
        self.action_refresh()

    def _show_from_thread(self, show: Callable[..., object], *args: object, **options: Any) -> None:
        """Let the app show something, unless it has been left meanwhile."""

        def shown() -> None:
            if self._is_there:
                show(*args, **options)

        with contextlib.suppress(RuntimeError):  # it is not running any more
            self.call_from_thread(shown)

    @property
    def _is_there(self) -> bool:
        return self.is_running and bool(self.query("#panes")) and bool(self.query("#tiers"))

    # ---- what is looked at ----

    @work(thread=True, exclusive=True, group="look")
    def action_refresh(self) -> None:
        """Look again at all tiers, in a thread: the registry and the cache may take seconds."""
        try:
            status = look(self._session)
        except (ImagetiersError, OSError) as error:
            self._show_from_thread(self.notify, visible(str(error)), severity="error", timeout=30)
            return
        self._show_from_thread(self._draw, status)

    def _draw(self, status: Status) -> None:
        first = self._status is None
        self._status = status
        tree: Tree[str] = self.query_one("#tiers", Tree)
        chosen = self._chosen
        tree.clear()
        nodes: dict[str | None, TreeNode[str]] = {None: tree.root}
        parents = {each.tier.config.parent for each in status.tiers}
        for each in status.tiers:
            above = nodes[each.tier.config.parent]
            label = _label(each)
            leaf = each.tier.name not in parents
            name = each.tier.name
            nodes[name] = above.add_leaf(label, name) if leaf else above.add(label, name, expand=True)
        wanted = nodes.get(chosen) or nodes.get(status.tiers[0].tier.name)
        if first and wanted is not None:
            tree.root.expand()
        if wanted is not None:
            self.call_after_refresh(tree.move_cursor, wanted)
        self._show()

    @property
    def _chosen(self) -> str:
        node = self.query_one("#tiers", Tree).cursor_node
        return str(node.data) if node is not None and node.data is not None else ""

    def on_tree_node_highlighted(self) -> None:
        """Another tier is chosen."""
        if not self._is_there:
            return
        self._followed = None
        self.query_one(f"#{_LOG}-text", RichLog).clear()
        self._show()

    def on_tabbed_content_tab_activated(self) -> None:
        """Another pane is chosen."""
        self._show()

    def _show(self) -> None:
        if not self._is_there:
            return
        active, chosen = self.query_one("#panes", TabbedContent).active, self._chosen
        if active not in PANES or self._status is None or chosen not in self._session.plan.tiers:
            return
        self.sub_title = chosen
        self.query_one(f"#{active}-text", Static).update("…")
        self._fill(active, Shown(self._session, self._session.plan.tiers[chosen], self._status))

    @work(thread=True, exclusive=True, group="pane")
    def _fill(self, name: str, shown: Shown) -> None:
        things: list[Any] = pane(name, shown)
        self._show_from_thread(self._put, name, Group(*things))

    def _put(self, name: str, group: Group) -> None:
        self.query_one(f"#{name}-text", Static).update(group)

    def _follow(self) -> None:
        """Add to the log what was written since."""
        if not self._is_there or self.query_one("#panes", TabbedContent).active != _LOG or not self._chosen:
            return
        path = newest_log(self._session, self._chosen)
        shown = self.query_one(f"#{_LOG}-text", RichLog)
        if path is None:
            return
        try:
            size = path.stat().st_size
            known, at = self._followed or (None, 0)
            if known != path or size < at:  # another build has begun
                shown.clear()
                shown.write(Text(visible(str(path)), style="dim"))
                at = max(0, size - _LOG_BYTES)
            with path.open("rb") as file:
                file.seek(at)
                data = file.read(_LOG_BYTES)
        except OSError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._followed = (path, at + len(whole))
        for line in whole.decode(errors="replace").splitlines():
            shown.write(Text(visible(line)))

    # ---- what is run ----

    def action_ask(self, key: str) -> None:
        """Ask whether the command of that key shall run."""
        if self._runs is not None:
            self.notify(f"{self._runs[0]} still runs", severity="warning")
            return
        if self._chosen not in self._session.plan.tiers:
            return
        verb = next(verb for verb in VERBS if verb.key == key)
        tier = self._session.plan.tiers[self._chosen]
        command = command_for(verb, tier, self._session.plan.pipeline, self._session.trust)

        def answered(yes: bool | None) -> None:  # noqa: FBT001  as textual passes it
            if yes:
                self._start(command)

        self.push_screen(Ask(command), answered)

    def _start(self, command: DoitCommand) -> None:
        self.query_one("#panes", TabbedContent).active = _OUTPUT
        self._say(Text(f"$ {command}", style="bold"))
        say = partial(self._show_from_thread, self._say)
        argv = (sys.executable, "-m", "doit", *command.words)
        child = self._begin(argv, self._session.layout.root, lambda line: say(Text(visible(line))))
        self._runs = (command, child)
        self._wait(child)

    @work(thread=True, group="run")
    def _wait(self, child: Child) -> None:
        code = child.wait()
        self._show_from_thread(self._ended, code)

    def _ended(self, code: int) -> None:
        self._runs = None
        ended = f"exit code {code}" if code >= 0 else f"ended by {signal.Signals(-code).name}"
        self._say(Text(ended, style="green" if code == 0 else "red"))
        if self._leaving:
            self.exit()
        else:
            self.action_refresh()

    def _say(self, text: Text) -> None:
        self.query_one(f"#{_OUTPUT}-text", RichLog).write(text)

    def action_stop(self) -> None:
        """Ctrl-C: end what runs as a Ctrl-C does in a shell; where nothing runs, leave."""
        if self._runs is not None:
            self._runs[1].interrupt()
        else:
            self.exit()

    def action_leave(self) -> None:
        """Quit; where something runs, ask first."""
        if self._runs is None:
            self.exit()
            return

        def answered(answer: str | None) -> None:
            if answer not in {"wait", "stop"}:
                return
            self._leaving = True
            if self._runs is None:  # it has ended while it was asked
                self.exit()
            elif answer == "stop":
                self._runs[1].interrupt()

        self.push_screen(Leave(self._runs[0]), answered)


def _label(status: TierStatus) -> Text:
    """Name a tier and where its image is; yellow where a doit would do something for it."""
    style = "yellow" if status.why and STYLE[status.presence] == "green" else STYLE[status.presence]
    return Text(f"{visible(status.tier.name)}  ").append(status.presence.value, style=style)
