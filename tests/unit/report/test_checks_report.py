"""What other programs read of a verify."""

from __future__ import annotations

from datetime import date
from xml.etree import ElementTree as ET

from imagetiers.config.layout import Layout
from imagetiers.inputs.repository import load_repository
from imagetiers.judging.outcome import CheckOutcome
from imagetiers.planning.make import make_plan
from imagetiers.report.checks import checks_document, junit
from tests.conftest import HERE

OUTCOMES = [
    CheckOutcome("base", "libraries"),
    CheckOutcome("app", "file /a<b>", 'it is "\x1b[31mred\x00" & more:\n    /x\n    /y', "look there"),
]


def test_junit_has_a_case_a_check_and_survives_what_images_print() -> None:
    tier = make_plan(load_repository(Layout(HERE / "repos" / "tiny"), None), date(2026, 11, 21)).tiers["arr-base"]

    root = ET.fromstring(junit(tier, OUTCOMES))  # noqa: S314  ours

    (suite,) = root
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("verify:arr-base", "2", "1")
    passed, failed = suite
    assert (passed.get("classname"), passed.get("name"), len(passed)) == ("base", "libraries", 0)
    assert (failed.get("name"), failed[0].get("message")) == ("file /a<b>", 'it is "\ufffd[31mred\ufffd" & more:')
    assert str(failed[0].text).endswith("/y\nlook there")


def test_json_says_what_failed_and_why() -> None:
    tier = make_plan(load_repository(Layout(HERE / "repos" / "tiny"), None), date(2026, 11, 21)).tiers["arr-base"]

    document = checks_document(tier, "sha256:1", OUTCOMES, ())

    assert (document["passed"], document["device_code"], document["check"]) == (False, [], tier.verify.check)
    assert document["checks"][0] == {"tier": "base", "check": "libraries", "passed": True}
    assert document["checks"][1]["hint"] == "look there"
