"""Which images of a pipeline may go, and the bytes of layers that come back with them."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from imagetiers.adapters.docker_room import layer_sizes
from imagetiers.config.model import Trust
from imagetiers.planning.observed import ImageInfo, StoredImage
from imagetiers.planning.room import BRANCHES, BUILDERS, IMAGES, builds_of_others, image_items, needed_images, room

KEY, OTHER = "a" * 64, "b" * 64


def image(id_: str, *refs: str, key: str = KEY, **more: object) -> StoredImage:
    info = ImageInfo(id_, refs or (f"p/app:{key[:12]}",), "p", "", "app", key, 1, 100, trust="trusted")
    return StoredImage(info, "", 1.0, (("one", 10), (id_, 5)), **more)  # type: ignore[arg-type]


def builder(*refs: str, key: str = KEY) -> StoredImage:
    made = image("builder", *refs, key="")
    return replace(made, compile_key=key)


def kinds(*images: StoredImage, trust: Trust | None = None) -> dict[str, str]:
    return {item.name: item.kind for item in image_items(images, "p", trust or Trust())}


def test_only_images_that_the_pipeline_has_named_are_its_own() -> None:
    assert kinds(image("x")) == {"x": IMAGES}
    assert kinds(image("x", f"registry/some/p/app:{KEY[:12]}")) == {"x": IMAGES}
    # Somebody's image FROM ours has all its labels.
    assert kinds(image("x", "mine:latest"), image("y", f"otherp/app:{KEY[:12]}"), image("z", "p/base:1")) == {}
    assert kinds(builder(f"p/app-builder:{KEY[:12]}")) == {"builder": BUILDERS}
    assert kinds(builder(f"q/app-builder:{KEY[:12]}")) == {}
    nameless = image("x")
    assert kinds(replace(nameless, info=replace(nameless.info, refs=()))) == {}


def test_an_image_in_a_repository_of_a_tiers_own_is_the_pipelines() -> None:
    named = image("x", f"registry/some/name:{KEY[:12]}")
    others = replace(named, info=replace(named.info, pipeline="q"))

    assert [item.name for item in image_items([named], "p", Trust(), {"registry/some/name"})] == ["x"]
    assert image_items([named], "p", Trust(), {"registry/some/other"}) == []
    assert image_items([others], "p", Trust(), {"registry/some/name"}) == []


def test_an_untrusted_build_owns_what_its_branch_has_built() -> None:
    own = Trust(trusted=False, branch="pr-7")
    mine = image("x")
    branches = replace(mine, info=replace(mine.info, id="branch", trust=own.label))
    assert kinds(mine, branches, builder(f"p/app-builder:{KEY[:12]}"), trust=own) == {"branch": IMAGES}
    assert kinds(mine, branches) == {"x": IMAGES, "branch": BRANCHES}


def test_what_stays_is_wanted_held_or_called_otherwise() -> None:
    old = image("x", key=OTHER)
    assert needed_images([old], {KEY}) == set()
    assert needed_images([old], {OTHER}) == {"x"}
    assert needed_images([replace(old, held=True)], {KEY}) == {"x"}
    assert needed_images([image("x", f"p/app:{OTHER[:12]}", "p/app:dev", key=OTHER)], {KEY}) == {"x"}
    assert needed_images([builder(f"p/app-builder:{KEY[:12]}")], {KEY}) == {"builder"}
    assert needed_images([builder(f"p/app-builder:{OTHER[:12]}", key=OTHER)], {KEY}) == set()


def test_a_build_of_a_key_that_nobody_knows_is_told_from_others() -> None:
    held = {f"image-{KEY}", f"compile-{OTHER}", f"pull-{OTHER}", f"push-{OTHER}", "gc"}
    assert builds_of_others(held, {KEY, OTHER}) == ()
    assert builds_of_others(held, {KEY}) == (f"compile-{OTHER}", f"pull-{OTHER}")


def test_a_layer_counts_once_and_not_while_an_image_has_it() -> None:
    images = [image("x"), image("y"), image("z")]
    assert room(images, {"x"}) == 5
    assert room(images, {"x", "y"}) == 10
    assert room(images, {"x", "y", "z"}) == 25


def test_which_entries_of_a_history_are_layers() -> None:
    history = [("", 80), ("ENV A=1", 0), ("RUN |1 A=1 /bin/sh -c true # buildkit", 0), ("COPY a b", 7), ("CMD x", 0)]
    assert layer_sizes(history, 3) == (80, 0, 7)
    assert layer_sizes([("/bin/sh -c #(nop) ADD x", 80), ("/bin/sh -c #(nop)  CMD x", 0)], 1) == (80,)
    assert layer_sizes([("ENV A=1", 0), ("WORKDIR /a", 0)], 1) == (0,)


@given(st.lists(st.tuples(st.sampled_from(["RUN a", "ENV a", ""]), st.integers(0, 9))), st.integers(0, 12))
def test_there_are_as_many_sizes_as_layers(history: list[tuple[str, int]], count: int) -> None:
    sizes = layer_sizes(history, count)
    assert len(sizes) == count
    if sum(1 for _, size in history if size) <= count:
        assert sum(sizes) == sum(size for _, size in history)
