"""How the checks of an image went, for other programs: JUnit's XML, and JSON. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from imagetiers.config.gpus import GPUS, fit
from imagetiers.judging.outcome import CheckOutcome
from imagetiers.planning.device_code import DeviceLibrary, made_by_others, promise
from imagetiers.planning.plan import DeviceCheck, TierPlan

__all__ = ["checks_document", "device_document", "junit"]

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(tier: TierPlan, outcomes: Sequence[CheckOutcome]) -> str:
    """Return what CI systems read: a case a check, whose class is the tier that asks."""
    failed = sum(not outcome.passed for outcome in outcomes)
    counts = {"tests": str(len(outcomes)), "failures": str(failed), "errors": "0", "skipped": "0"}
    root = ET.Element("testsuites", counts)
    suite = ET.SubElement(root, "testsuite", {"name": f"verify:{tier.name}", **counts})
    for outcome in outcomes:
        case = ET.SubElement(suite, "testcase", {"classname": _xml(outcome.tier), "name": _xml(outcome.check)})
        if not outcome.passed:
            text = _xml(f"{outcome.problem}\n{outcome.hint}".rstrip())
            ET.SubElement(case, "failure", {"message": text.partition("\n")[0]}).text = text
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _xml(text: str) -> str:
    """Return a text without the characters that no XML may hold."""
    return _NOT_XML.sub("\ufffd", text)


def checks_document(
    tier: TierPlan, image: str, outcomes: Sequence[CheckOutcome], libraries: Sequence[DeviceLibrary]
) -> dict[str, Any]:
    """Return the same for JSON, with what each library holds for GPUs."""
    return {
        "version": 1,
        "tier": tier.name,
        "key": tier.key,
        "image": image,
        "check": tier.verify.check,
        "passed": all(outcome.passed for outcome in outcomes),
        "checks": [
            {
                "tier": outcome.tier,
                "check": outcome.check,
                "passed": outcome.passed,
                **({} if outcome.passed else {"problem": outcome.problem, "hint": outcome.hint}),
            }
            for outcome in outcomes
        ],
        "device_code": device_document(tier.verify.device, libraries),
    }


def device_document(check: DeviceCheck | None, libraries: Sequence[DeviceLibrary]) -> list[Mapping[str, Any]]:
    """Return what each library holds, and how each GPU runs that."""
    if check is None:
        return []
    promised = promise(check)
    return [
        {
            **library.document(),
            "others": made_by_others(library.path, promised.others),
            "gpus": {gpu: str(fit(GPUS[gpu], library.sass, library.ptx)) for gpu in promised.gpus},
        }
        for library in libraries
        if library.holds
    ]
