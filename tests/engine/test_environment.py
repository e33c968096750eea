"""Variables of whoever builds, which no key knows of: an image must not hang on them."""

from __future__ import annotations

from pathlib import Path

from tests.engine.conftest import Checkout, docker


def test_an_image_does_not_hang_on_what_is_in_no_key(checkout: Checkout, tmp_path: Path) -> None:
    """buildx takes an epoch for a build argument of that name, and lets a policy put other sources in the place of images."""
    dockerfile = checkout.root / "images/arr-base/Dockerfile"
    dockerfile.write_text(
        dockerfile.read_text() + 'ARG SOURCE_DATE_EPOCH\nRUN echo "<$SOURCE_DATE_EPOCH>" > /tmp/epoch\n'
    )
    policy = tmp_path / "policy.json"
    policy.write_text('{"rules": [{"action": "DENY", "selector": {"identifier": "*"}}]}')

    run = checkout.doit("image:arr-base", SOURCE_DATE_EPOCH="12345", EXPERIMENTAL_BUILDKIT_SOURCE_POLICY=str(policy))

    assert run.code == 0, run.text
    ref = str(checkout.plan()["arr-base"]["ref"])
    assert docker("run", "--rm", ref, "cat", "/tmp/epoch") == "<>\n"
    assert checkout.doit("image:arr-base").executed == []
