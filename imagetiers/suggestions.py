"""The nearest known word to one that is unknown."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest"]

_SHOWN = 50  # words that a hint lists


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that `word` may have meant, None when none is near. The same in another case is the nearest.

    Of several that are as near, it is one that begins as `word` does: agrs is args and not tags.
    """
    import difflib  # noqa: PLC0415  only when something is wrong

    options = list(known)
    same = [option for option in options if option.casefold() == word.casefold()]
    close = same or difflib.get_close_matches(word, options, n=_SHOWN)
    near = difflib.SequenceMatcher(b=word)

    def nearness(option: str) -> tuple[float, bool]:
        near.set_seq1(option)
        return near.ratio(), option[:1] == word[:1]

    return max(close, key=nearness, default=None)


def did_you_mean(word: str, known: Iterable[str], what: str) -> str:
    """Return a hint that names the nearest known word, or the known ones."""
    options = sorted(known)
    close = nearest(word, options)
    if close is not None:
        return f"did you mean '{close}'?"
    more = f" and {len(options) - _SHOWN:,} more" if len(options) > _SHOWN else ""
    return f"{what}: {', '.join(options[:_SHOWN])}{more}" if options else f"{what}: none"
