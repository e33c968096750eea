"""doit trust:init, trust:rotate and trust:status, and a cache that counts for nobody."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from imagetiers.config.model import TrustedKey, TrustSettings
from imagetiers.signing.signers import LazySigner
from imagetiers.signing.store import SignedStore
from imagetiers.stores.directory import DirectoryStore
from tests.engine.conftest import Checkout


def test_keys_are_made_once_and_status_says_who_has_signed_what(offline: Checkout, tmp_path: Path) -> None:
    path = tmp_path / "first.pem"
    made = offline.doit("trust:init", "--out", str(path), "--key", "main-2026")
    assert made.code == 0, made.err
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "PRIVATE" not in made.out + made.err
    again = offline.doit("trust:init", "--out", str(path))
    assert again.code != 0
    assert "never written over" in again.out + again.err

    found = re.search(r'ed25519: "([^"]+)"', made.out)
    assert found is not None
    entry = f'trust: {{require: true, keys: [{{name: main-2026, ed25519: "{found[1]}"}}]}}'
    offline.edit("pipeline.yaml", "name: tiny", f"name: tiny\n{entry}")
    folder = DirectoryStore(offline.root / ".imagetiers/cache")
    settings = TrustSettings((TrustedKey("main-2026", found[1]),), require=True)
    SignedStore(folder, settings, LazySigner(str(path), settings), print).write("keys/a.json", b"{}")
    folder.write("verdicts/a/b.json", b'{"passed": true}')

    shown = offline.doit("trust:status").out
    assert "keys: 1 signed by main-2026\n" in shown
    assert "verdicts: 1 not signed\n" in shown
    taken = offline.doit("trust:rotate", "--out", str(tmp_path / "next.pem"), "--key", "main-2026")
    assert taken.code != 0
    turned = offline.doit("trust:rotate", "--out", str(tmp_path / "next.pem"))
    assert "when none signs with 'main-2026' any more" in turned.out
