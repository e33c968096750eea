"""Variables, extends, matrices and groups come to a pipeline that says the same without them, down to the keys."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from imagetiers.config.groups import TASKS
from imagetiers.config.layout import Layout
from imagetiers.config.loader import load_config
from imagetiers.config.resolved import resolved_text
from imagetiers.errors import PipelineError
from imagetiers.inputs.repository import load_repository
from imagetiers.planning.make import make_plan
from imagetiers.planning.plan import Plan
from imagetiers.report.cloudbuild import Mode, build_text
from imagetiers.rules.weigh import weigh
from imagetiers.tasks.asked import VERBS

DAY = date(2026, 11, 21)
DOCKERFILE = """\
ARG BASE
FROM ${BASE}
ARG PYTHON
ARG FLAVOR
ARG GREETING
RUN echo "$PYTHON $FLAVOR $GREETING"
"""
CHILD = """\
ARG PARENT
FROM ${PARENT}
ARG FLAVOR
COPY . /here
"""
SHORT = """\
version: 1
name: short
variables:
  greeting: {default: hello, env: TEST_GREETING}
  base: debian:trixie-slim
tiers:
  server:
    matrix: {python: ["3.11", "3.12"], flavor: [slim, Debug], exclude: [{python: "3.11", flavor: Debug}]}
    bases: {BASE: $(var.base)}
    args: {PYTHON: $(matrix.python), FLAVOR: $(matrix.flavor), GREETING: "$(var.greeting), $$(var.greeting)"}
    tag: v$(matrix.python)
  app: {parent: server, args: {FLAVOR: "of $(matrix.flavor)"}}
  test: {extends: app, folder: app, dockerfile: Dockerfile.test, args: {FLAVOR: test}}
  alone: {folder: server, bases: {BASE: "debian:trixie-slim"}, args: {PYTHON: none, FLAVOR: x, GREETING: x}}
groups:
  servers: [server]
  most: [servers, alone, app-3.11-slim]
"""
LONG = """\
version: 1
name: short
tiers:
  server-3.11-slim:
    folder: server
    bases: {BASE: "debian:trixie-slim"}
    args: {PYTHON: "3.11", FLAVOR: slim, GREETING: "hello, $(var.greeting)"}
    tag: v3.11
  server-3.12-slim:
    folder: server
    bases: {BASE: "debian:trixie-slim"}
    args: {PYTHON: "3.12", FLAVOR: slim, GREETING: "hello, $(var.greeting)"}
    tag: v3.12
  server-3.12-debug:
    folder: server
    bases: {BASE: "debian:trixie-slim"}
    args: {PYTHON: "3.12", FLAVOR: Debug, GREETING: "hello, $(var.greeting)"}
    tag: v3.12
  app-3.11-slim: {folder: app, parent: server-3.11-slim, args: {FLAVOR: of slim}}
  app-3.12-slim: {folder: app, parent: server-3.12-slim, args: {FLAVOR: of slim}}
  app-3.12-debug: {folder: app, parent: server-3.12-debug, args: {FLAVOR: of Debug}}
  test-3.11-slim: {folder: app, dockerfile: Dockerfile.test, parent: server-3.11-slim, args: {FLAVOR: test}}
  test-3.12-slim: {folder: app, dockerfile: Dockerfile.test, parent: server-3.12-slim, args: {FLAVOR: test}}
  test-3.12-debug: {folder: app, dockerfile: Dockerfile.test, parent: server-3.12-debug, args: {FLAVOR: test}}
  alone: {folder: server, bases: {BASE: "debian:trixie-slim"}, args: {PYTHON: none, FLAVOR: x, GREETING: x}}
groups:
  servers: [server-3.11-slim, server-3.12-slim, server-3.12-debug]
  most: [server-3.11-slim, server-3.12-slim, server-3.12-debug, alone, app-3.11-slim]
""".replace("$(var.greeting)", "$$(var.greeting)")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    for name, dockerfile in (("server", DOCKERFILE), ("app", CHILD)):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        (folder / "Dockerfile").write_text(dockerfile)
        (folder / ".image-manifest").write_text("")
    (tmp_path / "images/app/Dockerfile.test").write_text(CHILD.replace("COPY", "# no test without\nCOPY"))
    (tmp_path / "images/app/.image-manifest").write_text("**\n")
    (tmp_path / "images/app/file").write_text("a file")
    return Layout(tmp_path)


def plan_of(layout: Layout, text: str, **given: str) -> Plan:
    layout.pipeline.write_text(text)
    return make_plan(load_repository(layout, given.pop("variant", None), given=given), DAY)


def keys_of(plan: Plan) -> dict[str, str]:
    return {tier.name: tier.key for tier in plan.tiers.values()}


def said_of(layout: Layout, text: str, **given: str) -> str:
    with pytest.raises(PipelineError) as caught:
        plan_of(layout, text, **given)
    return str(caught.value)


def test_it_comes_to_what_is_written_out(layout: Layout) -> None:
    short, long = plan_of(layout, SHORT), plan_of(layout, LONG)

    assert keys_of(short) == keys_of(long)
    assert short.document() == long.document()
    assert short.pipeline.groups == long.pipeline.groups
    assert [tier.config.tag for tier in short.tiers.values()] == [tier.config.tag for tier in long.tiers.values()]


def test_a_variable_is_in_the_keys_where_it_is_used_and_nowhere_else(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, other = keys_of(plan_of(layout, SHORT)), keys_of(plan_of(layout, SHORT, greeting="bye"))
    monkeypatch.setenv("TEST_GREETING", "bye")

    assert {name for name in usual if usual[name] == other[name]} == {"alone"}
    assert keys_of(plan_of(layout, SHORT)) == other
    assert keys_of(plan_of(layout, SHORT, greeting="hello")) == usual, "the command line comes first"
    monkeypatch.setenv("TEST_GREETING", "")
    assert keys_of(plan_of(layout, SHORT)) == usual, "one that is empty says nothing"
    unused = SHORT.replace("variables:", "variables:\n  unused: x")
    assert keys_of(plan_of(layout, unused, unused="y")) == usual


def test_a_plain_reference_has_the_type_of_its_value_and_a_quoted_one_is_text(layout: Layout) -> None:
    text = """\
version: 1
name: types
variables: {share: true, keep: 3, rate: {type: int, env: TEST_NO_RATE}}
tiers:
  server:
    bases: {BASE: "debian:trixie-slim"}
    args: {PYTHON: "$(var.keep)", FLAVOR: x$(var.share)$(var.keep), GREETING: "$(var.share)"}
    verify: {python: {pip_check: $(var.share)}, commands: [{run: [sh], exit_code: $(var.keep)}, "sh$(var.rate)"]}
"""
    tier = plan_of(layout, text, rate="-7", share="False").tiers["server"].config

    assert tier.args == {"PYTHON": "3", "FLAVOR": "xfalse3", "GREETING": "false"}
    assert tier.verify.checks.python is not None
    assert not tier.verify.checks.python.pip_check
    assert tier.verify.checks.commands[0].exit_code == 3
    assert "sh-7" in tier.verify.declared
    forgotten = said_of(layout, text.replace('"$(var.keep)"', "$(var.keep)"), rate="1")
    assert forgotten == (
        "pipeline.yaml:7:20: tiers.server.args.PYTHON: must be a string, but is the number 3 (written $(var.keep))\n"
        '  hint: write it in quotes: "$(var.keep)"'
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"keep": "many"}, "keep=many: must be a whole number\n  hint: such as 4"),
        ({"keep": "٣"}, "keep=٣: must be a whole number\n  hint: such as 4"),
        ({"share": "yes"}, "share=yes: must be true or false\n  hint: true or false"),
        ({"flavor": "slm"}, "flavor=slm: is not one of its values\n  hint: did you mean 'slim'?"),
        ({"word": "a\nb"}, "word=a\\nb: holds a character that cannot be seen\n  hint: write plain text, on one line"),
        ({"word": "$(var.keep)"}, "word=$(var.keep): holds '$(': a value cannot refer to others"),
        ({"word": "x" * 1001}, f"word={'x' * 60}…: is longer than 1,000 characters\n  hint: put it into a file"),
        ({"kep": "3"}, "kep=3: there is no variable 'kep'\n  hint: did you mean 'keep'?"),
        (
            {"word": "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1eF3hJ5"},
            "word: looks like a credential, and what a variable",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_a_value_cannot_be(given: dict[str, str], said: str, layout: Layout) -> None:
    text = """\
version: 1
name: types
variables: {share: true, keep: 3, flavor: {values: [slim, debug], default: slim}, word: x}
tiers: {server: {bases: {BASE: "debian:trixie-slim"}}}
"""
    assert said_of(layout, text, **given).startswith(said)


def test_an_unchecked_value_of_the_environment_is_told_by_its_name(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_GREETING", "a\x1bb")

    assert said_of(layout, SHORT).startswith("TEST_GREETING=a\x1bb, in the environment: holds a character that cannot")


def test_variants_come_before_variables_and_matrices(layout: Layout) -> None:
    text = (
        SHORT
        + 'variants: {new: {variables: {greeting: {default: hi}}, tiers: {server: {matrix: {python: ["3.13"]}}}}}\n'
    )
    text = text.replace(', exclude: [{python: "3.11", flavor: Debug}]', "").replace(", app-3.11-slim]", "]")
    plan = plan_of(layout, text, variant="new")

    assert [name for name in plan.tiers if name.startswith("server")] == ["server-3.13-slim", "server-3.13-debug"]
    assert plan.tiers["server-3.13-slim"].config.args["GREETING"] == "hi, $(var.greeting)"


def test_another_stage_under_the_same_tag_is_refused_in_a_cell_too(layout: Layout) -> None:
    text = SHORT.replace("tag: v$(matrix.python)", "tag: same") + 'variants: {dev: {tiers: {server: {target: "0"}}}}\n'

    said = said_of(layout, text, variant="dev")

    assert said.count("another stage than without the variant would have the same tag, same") == 1
    assert "(so in 2 more of its cells)" in said


def test_a_child_may_have_an_axis_more_or_only_some_of_its_parents_cells(layout: Layout) -> None:
    text = SHORT.replace(
        "app: {parent: server,", 'app: {parent: server, matrix: {cuda: [true, 12], python: ["3.12"]},'
    ).replace(", app-3.11-slim]", "]")
    plan = plan_of(layout, text)

    found = {name: tier.config.parent for name, tier in plan.tiers.items() if name.startswith("app")}
    assert found == {
        "app-3.12-slim-true": "server-3.12-slim",
        "app-3.12-slim-12": "server-3.12-slim",
        "app-3.12-debug-true": "server-3.12-debug",
        "app-3.12-debug-12": "server-3.12-debug",
    }


def test_a_parent_may_be_one_cell(layout: Layout) -> None:
    text = SHORT.replace("app: {parent: server,", "app: {parent: server-3.12-debug,").replace(
        "of $(matrix.flavor)", "x"
    )
    plan = plan_of(layout, text.replace(", app-3.11-slim]", "]"))

    assert [tier.config.parent for name, tier in plan.tiers.items() if name in {"app", "test"}] == [
        "server-3.12-debug"
    ] * 2


def test_a_context_that_has_cells_is_the_one_with_the_same_values(layout: Layout) -> None:
    text = SHORT.replace(
        "app: {parent: server,", 'app: {bases: {OTHER: "debian:trixie-slim"}, contexts: {web: {tier: server}},'
    )
    layout.tier("app").joinpath("Dockerfile").write_text(
        CHILD.replace("PARENT", "OTHER") + "COPY --from=web /etc/hostname /\n"
    )
    layout.tier("app").joinpath("Dockerfile.test").write_text(
        CHILD.replace("PARENT", "OTHER") + "COPY --from=web /etc/hostname /\n"
    )
    alone = text.replace("of $(matrix.flavor)", "x").replace(", app-3.11-slim]", "]")
    followed = alone.replace("app: {bases", 'app: {matrix: {flavor: [slim], python: ["3.12"], cuda: ["12"]}, bases')

    contexts = {
        tier.name: tier.config.contexts["web"].tier
        for tier in plan_of(layout, followed).tiers.values()
        if tier.config.contexts
    }
    assert contexts == {"app-slim-3.12-12": "server-3.12-slim", "test-slim-3.12-12": "server-3.12-slim"}
    assert "there is no tier 'server'\n  hint: tiers: alone, server-3.11-slim, " in said_of(layout, alone)


def test_a_waiver_of_a_tier_with_cells_is_for_all_of_them(layout: Layout) -> None:
    waiver = '{rule: root-user, tier: server, reason: they are tools, until: "2030-01-01"}'
    plan = plan_of(layout, f"{SHORT}waivers: [{waiver}]\n")
    found = [finding for tier in plan.tiers.values() for finding in tier.findings if finding.rule == "root-user"]

    weighed = weigh(found, plan.pipeline.waivers, DAY)
    assert {finding.tier for finding in weighed.waived} == {"server-3.11-slim", "server-3.12-slim", "server-3.12-debug"}
    assert {finding.tier for finding in weighed.warnings} >= {"alone"}
    assert weighed.unused == ()
    written = resolved_text(load_config(layout, None).expanded, None)
    assert len(plan_of(layout, written).pipeline.waivers) == 3


def test_what_cloud_build_runs_has_the_variables_that_were_given(layout: Layout) -> None:
    text = build_text(plan_of(layout, SHORT, greeting="for $5"), Mode.TRUSTED)

    assert "doit 'greeting=for $5' cloudbuild" in text.splitlines()[0]
    assert "args: [greeting=for $$5, 'verify:server-3.11-slim']" in text


def test_a_long_chain_of_extensions_is_no_recursion(layout: Layout) -> None:
    chain = "\n".join(f"  t{n}: {{extends: {f't{n - 1}' if n else 'server'}}}" for n in range(3000))
    text = (
        f"version: 1\nname: x\ntiers:\n  server: {{folder: server, bases: {{BASE: 'debian:trixie-slim'}}}}\n{chain}\n"
    )

    assert len(plan_of(layout, text).tiers) == 3001


def test_matrices_of_more_than_anybody_means(layout: Layout) -> None:
    axes = "{a: [" + ", ".join(map(str, range(16))) + "], b: [" + ", ".join(map(str, range(16))) + "]}"
    tiers = "\n".join(
        f"  t{n}: {{folder: server, bases: {{BASE: 'debian:trixie-slim'}}, matrix: {axes}}}" for n in range(50)
    )

    assert said_of(layout, f"version: 1\nname: x\ntiers:\n{tiers}\n") == (
        "pipeline.yaml:4:3: tiers: the matrices come to more than 400,000 values\n  hint: shorten an axis"
    )


def test_many_references_in_one_text_are_refused(layout: Layout) -> None:
    text = SHORT.replace("of $(matrix.flavor)", "$(var.greeting)" * 101)

    assert "holds 101 references; the limit is 100" in said_of(layout, text)


def test_where_nothing_is_used_the_tree_is_the_very_same(tiny: Layout) -> None:
    config = load_config(tiny, None)

    assert len(config.marks) == 1
    assert config.expanded.families == {}


def test_groups_cannot_have_the_names_of_verbs() -> None:
    assert VERBS <= TASKS


def test_a_tier_may_extend_one_of_cells_and_have_none(layout: Layout) -> None:
    args = '{PYTHON: "3", FLAVOR: one, GREETING: x}'
    single = f"  single: {{extends: server, folder: server, matrix: null, tag: one, args: {args}}}\n"

    assert "single" in plan_of(layout, SHORT.replace("  alone:", f"{single}  alone:")).tiers
