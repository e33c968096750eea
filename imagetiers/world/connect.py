"""The real world, put together. Nothing connects until it is used: `doit list` works offline and at once."""

from __future__ import annotations

import os
import time

from imagetiers.layout import Layout
from imagetiers.model import Pipeline, Trust
from imagetiers.ports import World
from imagetiers.world.cancel import SignalCancellation
from imagetiers.world.console import RichConsole
from imagetiers.world.engine import DockerEngine
from imagetiers.world.locks import FileLocks
from imagetiers.world.stores import open_store

__all__ = ["connect"]


def connect(layout: Layout, pipeline: Pipeline, trust: Trust) -> World:
    """Return the world of a checkout; takes over Ctrl-C and SIGTERM."""
    cancel = SignalCancellation()
    cancel.install()
    console = RichConsole()
    return World(
        engine=DockerEngine(cancel, layout.volume),
        store=open_store(pipeline.cache, layout.root),
        console=console,
        locks=FileLocks(layout.locks, console),
        cancel=cancel,
        trust=trust,
        user=(os.getuid(), os.getgid()),
        now=time.time,
    )
