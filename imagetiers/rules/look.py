"""All rules over one tier. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from imagetiers.inputs.repository import TierInputs
from imagetiers.rules.catalogue import RULES
from imagetiers.rules.finding import Finding
from imagetiers.rules.rule import Severity
from imagetiers.rules.subject import Inherited, Subject

__all__ = ["look"]


def look(
    inputs: TierInputs, parents: Inherited, pins: Mapping[str, str], *, shared: bool
) -> tuple[tuple[Finding, ...], Inherited]:
    """Return what the rules find in a tier, in the order of its lines, and what its image hands on to its children.

    `parents` is what its parent hands on; `shared` says whether images leave this machine.
    """
    subject = Subject(inputs, parents, pins, shared)
    found = {
        Finding(rule.id, inputs.tier.name, inputs.dockerfile.name, line, what, rule.severity is Severity.ERROR): None
        for rule in RULES.values()
        for line, what in rule.look(subject)
    }
    return tuple(sorted(found, key=lambda finding: (finding.line, finding.rule))), subject.handed_on()
