"""Wheels whose bytes follow from their key, published into the cache and restored from it."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from imagetiers.config.layout import Layout
from imagetiers.config.model import Trust
from imagetiers.planning.keys import KeyDocument
from imagetiers.services import Services
from imagetiers.session import Session
from imagetiers.state import wheels
from imagetiers.state.records import Record, keep
from imagetiers.stores.port import Store

_NAME = "soak-1.0-py3-none-any.whl"


class _Silent:
    """A console that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def print(self, renderable: object) -> None:
        file = io.StringIO()
        Console(file=file, width=200).print(renderable)
        self.lines += file.getvalue().splitlines()

    def line(self, text: str) -> None:
        self.lines.append(text)


def session_of(store: Store, layout: Layout, trust: Trust, now: Callable[[], float]) -> tuple[Session, _Silent]:
    """Make a session of a store and a console; what else it has is None, and must not be asked for."""
    console = _Silent()
    values: dict[str, Any] = {
        field.name: None for field in dataclasses.fields(Services) if field.name not in {"events", "worker"}
    }
    values |= {"store": store, "console": console, "now": now, "user": (0, 0)}
    nothing: Any = None
    return Session(nothing, layout, Services(**values), trust), console


def manifest_of(number: int) -> KeyDocument:
    return KeyDocument("compile", "torch", "linux/amd64", (), "builder", {"number": str(number)}, {}, (), ())


def key_of(number: int) -> str:
    return manifest_of(number).key


def wheel(number: int) -> bytes:
    """Return the wheel of a number: an archive of one module and its metadata, the same each time."""
    made = io.BytesIO()
    info = "soak-1.0.dist-info"
    texts = {
        "soak.py": f"number = {number}\n" * (1 + number * 50),
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: soak\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: soak\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), text)
    return made.getvalue()


def publish(session: Session, number: int) -> None:
    """Do as a compile that has ended: commit the wheels here, then put them into the cache. Raises StoreError."""
    key = key_of(number)
    partial = session.layout.partial_wheels(key)
    partial.mkdir(parents=True, exist_ok=True)
    (partial / _NAME).write_bytes(wheel(number))
    wheels.commit(session.layout, key, "compile:soak")
    wheels.publish(session, key)
    record = Record(
        "compile", "torch", key, session.services.now(), 1.0 + number, pipeline="soak", change="compile cold", cpus=2
    )
    keep(session, manifest_of(number), record)


def restore(session: Session, number: int) -> tuple[bool, tuple[str, ...]]:
    """Fetch the wheels; say whether they came, and what is wrong with them."""
    key = key_of(number)
    layout = session.layout
    wheels.forget(layout, key)
    came = wheels.restore(session, key)
    path = layout.wheels(key) / _NAME
    if came != wheels.have(layout, key):
        return came, (f"wheels {number}: restored is {came}, but here is {not came}",)
    wrong = came and path.read_bytes() != wheel(number)
    return came, (f"wheels {number}: not the bytes that were published",) if wrong else ()


def layout_of(directory: Path) -> Layout:
    """Return the checkout beside a machine's ccache directory."""
    return Layout(directory.with_name("checkout"))
