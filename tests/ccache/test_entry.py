from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetiers.ccache.format.entry import (
    Kind,
    are_names,
    check_entry,
    content_id,
    is_name,
    name_of,
    parse_header,
    path_of,
    payload_of,
    rewrap,
    suffix_kind,
)
from imagetiers.errors import CorruptError
from tests.ccache.compressed import unwrap
from tests.ccache.synthetic import make_entry, make_name

NEW = make_name(1)
RESULT = make_name(1, 0, new=False)
MANIFEST = make_name(1, 1, new=False)


@pytest.mark.parametrize("name", [NEW, RESULT, MANIFEST])
@pytest.mark.parametrize("level", [2, 3, 4])
def test_a_name_is_the_joined_path_at_every_level(name: str, level: int) -> None:
    assert name_of(*name[:level], name[level:]) == name
    assert path_of(name) == f"{name[0]}/{name[1]}/{name[2:]}"


@pytest.mark.parametrize(
    "parts",
    [
        (NEW,),
        (NEW[0], NEW[1:]),
        (*NEW[:5], NEW[5:]),
        (NEW[:2], NEW[2:]),
        (NEW[0], NEW[1], NEW[2:] + "\n"),
        (NEW[0], NEW[1], NEW[2:].upper() + "G"),
        (NEW[0], NEW[1], "../" + NEW[5:]),
        ("tmp", NEW[1], NEW[2:]),
        (RESULT[0], RESULT[1], RESULT[2:-1] + "W"),
        (RESULT[0], RESULT[1], RESULT[2:] + ".tmp.abc"),
        ("a", "b", "stats"),
        ("a", "b", "CACHEDIR.TAG"),
    ],
)
def test_other_files_have_no_name(parts: tuple[str, ...]) -> None:
    assert name_of(*parts) is None


@given(st.text(max_size=60))
def test_no_text_with_odd_characters_is_a_name(text: str) -> None:
    assert not is_name(text) or set(text) <= set("0123456789abcdefghijklmnopqrstuvRM")


@given(st.lists(st.sampled_from([NEW, RESULT, MANIFEST]) | st.text("0aG\n_é", min_size=34, max_size=41), max_size=4))
def test_many_are_names_when_each_is_one(texts: list[str]) -> None:
    assert are_names(texts) == all(map(is_name, texts))


@given(st.integers(0, 39), st.characters(exclude_characters="0123456789abcdef"), st.integers(0, 3))
def test_one_odd_character_among_many_names_is_seen(at: int, odd: str, which: int) -> None:
    texts = [make_name(number) for number in range(4)]
    assert are_names(texts)
    texts[which] = texts[which][:at] + odd + texts[which][at + 1 :]
    assert not are_names(texts)


def test_the_suffix_tells_the_kind_only_in_the_old_scheme() -> None:
    assert suffix_kind(RESULT) is Kind.RESULT
    assert suffix_kind(MANIFEST) is Kind.MANIFEST
    assert suffix_kind(NEW) is None


def test_header_fields() -> None:
    data = make_entry(b"payload" * 9, kind=1, created=1_234, level=-3, version="4.7.5", namespace="n")
    header = check_entry(data, MANIFEST)
    assert (header.kind, header.created, header.level) == (Kind.MANIFEST, 1_234, -3)
    assert (header.ccache_version, header.namespace, header.self_contained) == ("4.7.5", "n", True)
    assert header.payload_size == 63
    assert content_id(data) == data[-16:]


@settings(max_examples=200)
@given(
    st.binary(min_size=1, max_size=2000),
    st.integers(0, 1),
    st.integers(-5, 6).filter(bool),
    st.booleans(),
    st.sampled_from(["", "n" * 255]),
)
def test_rewrap_gives_back_every_byte(payload: bytes, kind: int, level: int, compressed: bool, namespace: str) -> None:  # noqa: FBT001
    data = make_entry(payload, kind=kind, level=level, compressed=compressed, namespace=namespace)
    body = unwrap(data, check_entry(data))
    assert body is not None
    assert payload in body
    assert rewrap(body) == data


def test_what_is_compressed_so_hard_is_not_put_back() -> None:
    high = make_entry(b"x" * 1000, level=19)
    header = check_entry(high)
    payload = payload_of(high, header)
    assert payload == b"x" * 1000
    with pytest.raises(CorruptError, match="never unpacked"):
        rewrap(high[: header.length] + payload)


@given(st.binary(max_size=400))
def test_garbage_is_corrupt_and_nothing_else(data: bytes) -> None:
    for parse in (parse_header, check_entry, rewrap):
        with pytest.raises(CorruptError):
            parse(data)


@settings(max_examples=300)
@given(st.data())
def test_a_changed_entry_is_noticed(draw: st.DataObject) -> None:
    data = make_entry(draw.draw(st.binary(min_size=1, max_size=300)))
    at = draw.draw(st.integers(0, len(data) - 1))
    changed = bytearray(data)
    changed[at] ^= draw.draw(st.integers(1, 255))
    with pytest.raises(CorruptError):
        check_entry(bytes(changed), NEW)
    with pytest.raises(CorruptError):
        check_entry(data[:at], NEW)


@settings(max_examples=300)
@given(st.data())
def test_a_changed_body_is_corrupt_or_makes_another_entry(draw: st.DataObject) -> None:
    data = make_entry(draw.draw(st.binary(min_size=1, max_size=300)))
    body = bytearray(unwrap(data, check_entry(data)) or b"")
    body[draw.draw(st.integers(0, len(body) - 1))] ^= draw.draw(st.integers(1, 255))
    try:
        made = rewrap(bytes(body))
    except CorruptError:
        return
    assert made != data
    check_entry(made)


def test_the_kind_in_the_header_must_be_the_one_in_the_name() -> None:
    with pytest.raises(CorruptError, match="type is not the one"):
        check_entry(make_entry(b"x", kind=0), MANIFEST)
