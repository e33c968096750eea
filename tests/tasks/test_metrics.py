"""doit metrics: what Prometheus reads, read by its own parser."""

from __future__ import annotations

import json

from prometheus_client.parser import text_string_to_metric_families

from imagetiers.stores.directory import DirectoryStore
from tests.engine.conftest import Checkout


def series(text: str) -> dict[tuple[str, ...], float]:
    """Return the values by the name of their metric and their labels but for the pipeline's own."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            assert (sample.labels["pipeline"], sample.labels["variant"]) == ("tiny", "")
            labels = [value for name, value in sample.labels.items() if name not in {"pipeline", "variant"}]
            found[sample.name.removeprefix("imagetiers_"), *sorted(labels)] = sample.value
    return found


def write_records(store: DirectoryStore) -> None:
    compile_ = {
        "kind": "compile", "tier": "pytorch-clean", "key": "c" * 64, "began": 2400.0, "seconds": 300.0, "hits": 5, "misses": 1,
        "pipeline": "tiny", "variant": "", "change": "compile cold", "phases": {"pull": 10.0, "compile container": 280.0},
        "classes": [{"name": "CUDA", "hits": 5, "misses": 1, "unknown": 0, "saved": 90.0, "compiled": 10.0}],
    }  # fmt: skip
    image = {
        "kind": "image", "tier": "arr-base", "key": "a" * 64, "began": 2800.0, "seconds": 7.5, "size": 80_000_000,
        "pipeline": "tiny", "variant": "", "change": "image",
    }  # fmt: skip
    for record in (
        compile_,
        {**compile_, "began": 1.0, "seconds": 1.0},
        image,
        {**image, "began": 9e9, "variant": "shouting"},
    ):
        name = f"{record['began']:.0f}-{str(record['key'])[:12]}"
        store.write(f"records/{record['tier']}/{record['kind']}/{name}.json", json.dumps(record).encode())
    store.write(f"records/arr-base/image/9000-{'b' * 12}.json", b"garbled")
    store.write("ccache/a-line/head", b"12345")
    store.write("ccache/a-line/packs/1", b"1" * 100)


def test_the_cache_and_the_newest_builds(offline: Checkout) -> None:
    write_records(DirectoryStore(offline.root / ".imagetiers" / "cache"))

    run = offline.doit("metrics")

    assert run.code == 0, run.text
    found = series(run.out)
    assert found["cache_objects", "records"] == 5
    assert found["cache_bytes", "ccache"] == 105
    assert found["ccache_bytes", "a-line"] == 105
    assert found["build_seconds", "compile", "pytorch-clean"] == 300
    assert found["build_began_timestamp_seconds", "compile", "pytorch-clean"] == 2400
    assert found["build_phase_seconds", "compile", "compile container", "pytorch-clean"] == 280
    assert found["compile_calls", "hit", "pytorch-clean"] == 5
    assert found["compile_object_seconds", "CUDA", "pytorch-clean", "saved"] == 90
    assert found["build_seconds", "arr-base", "image"] == 7.5, "of this variant"
    assert found["image_bytes", "arr-base"] == 80e6
    assert ("build_seconds", "arr-training", "image") not in found


def test_in_a_file_and_of_another_variant(offline: Checkout) -> None:
    write_records(DirectoryStore(offline.root / ".imagetiers" / "cache"))

    run = offline.doit("variant=shouting", "metrics", "--out", "tiers.prom")

    assert (run.code, run.out) == (0, ""), run.text
    text = (offline.root / "tiers.prom").read_text()
    assert 'imagetiers_build_seconds{kind="image",pipeline="tiny",tier="arr-base",variant="shouting"} 7.5' in text


def test_an_empty_cache(offline: Checkout) -> None:
    run = offline.doit("metrics")

    assert run.code == 0, run.text
    assert [name for name, *_ in series(run.out)] == ["info"]
