"""What rules have found, as people read it: a rule's cost and cure once, and not at each of its places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from imagetiers.config.model import Waiver
from imagetiers.errors import Problem
from imagetiers.rules.catalogue import RULES
from imagetiers.rules.finding import Finding
from imagetiers.rules.weigh import Weighed

__all__ = ["finding_lines", "finding_problems", "waiver_lines"]

_PLACES = 20  # of one rule, of each kind


def finding_problems(weighed: Weighed) -> Iterator[Problem]:
    """Yield what fails, each with its cost and cure."""
    for waiver in weighed.expired:
        yield _expired(waiver)
    for finding in weighed.errors:
        rule = RULES.get(finding.rule)
        why = f"\n  costs: {rule.why}" if rule is not None else ""
        yield Problem(finding.where, f"{finding.what} ({_name(finding)}){why}", rule.fix if rule is not None else "")


def finding_lines(findings: Iterable[Finding], kind: str, prefixes: Mapping[Finding, str]) -> Iterator[str]:
    """Yield the lines of findings of a `kind` (error, warning); `prefixes` says before which stands the name of a variant."""
    seen: Counter[str] = Counter()
    for finding in findings:
        seen[finding.rule] += 1
        if seen[finding.rule] > _PLACES:
            continue
        yield f"{prefixes.get(finding, '')}{finding.where}: {kind}: {finding.what} ({_name(finding)})"
        rule = RULES.get(finding.rule)
        if rule is not None and seen[finding.rule] == 1:
            yield f"  costs: {rule.why}"
            yield f"  hint: {rule.fix}"
    for name, count in seen.items():
        if count > _PLACES:
            yield f"{kind}: {name} has {count - _PLACES:,} more places"


def waiver_lines(weighed: Weighed) -> Iterator[str]:
    """Yield what is to be said of waivers: run out, about to, or of nothing."""
    for waiver in weighed.expired:
        yield str(_expired(waiver)).replace(": the waiver", ": error: the waiver", 1)
    for waiver in weighed.soon:
        yield f"{waiver.where}: warning: the waiver of {_of(waiver)} runs out on {waiver.until}"
    for waiver in weighed.unused:
        yield f"{waiver.where}: warning: the waiver of {_of(waiver)} matches nothing, in no variant; remove it"


def _expired(waiver: Waiver) -> Problem:
    what = f"the waiver of {_of(waiver)} ran out on {waiver.until}: {waiver.reason}"
    return Problem(waiver.where, what, "put right what it is for, or say anew until when it may stay")


def _of(waiver: Waiver) -> str:
    return f"{waiver.rule or waiver.hadolint}{f' for {waiver.tier}' if waiver.tier is not None else ''}"


def _name(finding: Finding) -> str:
    return finding.rule if finding.rule in RULES else f"hadolint {finding.rule}"
