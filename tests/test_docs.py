"""The documentation says what the code does: nothing that it names is missing, and nothing less."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, get_args
from urllib.parse import unquote

import pytest

from app.main import create_app
from app.middleware import BODY_SECONDS
from app.protocol import Limits
from app.serving import IDLE_SECONDS
from danlu.serve import HOPELESS
from data_store.built_in import SETS
from models_store import arguments, layers
from models_store.architectures import ARCHITECTURES
from models_store.fields import SubmittedRecipe
from models_store.pipeline import EVAL, TRAIN
from models_store.recipe import READY_MADE
from problems import KINDS
from settings import Settings

HOUSE = Path(__file__).parent.parent
READMES = ("README.md", "README.zh.md")
PAGES = sorted([*HOUSE.glob("*.md"), *(HOUSE / "docs").rglob("*.md")])
# Served, but no part of the API.
AROUND_THE_API = {"/docs", "/redoc", "/openapi.json"}

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# `POST /train` in the text, or an address in a command.
OPERATION = re.compile(r"\b(GET|POST|PUT|PATCH|DELETE) (/[\w/{}.…-]*)")
ADDRESS = re.compile(r"(?:localhost|127\.0\.0\.1):8000(/[\w/.…$-]*)")


def text(page: str | Path) -> str:
    return (HOUSE / page).read_text(encoding="utf-8")


def rows(page: str) -> list[list[str]]:
    """The cells of every table of a page, without its headings."""
    found = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in text(page).splitlines()
        if line.startswith("| ")
    ]
    return [[cell.strip("` ") for cell in row] for row in found]


def commands(page: str) -> list[str]:
    """The lines of the shell blocks, without comments."""
    lines = [
        re.sub(r"(^|\s+)#.*", "", line)
        for language, block in FENCE.findall(text(page))
        if language == "sh"
        for line in block.splitlines()
    ]
    return [line for line in lines if line]


@cache
def api() -> dict[str, Any]:
    paths: dict[str, Any] = create_app(Settings()).openapi()["paths"]
    return paths


def methods(address: str) -> set[str]:
    """What the API takes at this address; an id may be left open as `{id}` or cut off with `…`."""
    for template, operations in api().items():
        if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)), address):
            return {method.upper() for method in operations}
    return {"GET"} if address in AROUND_THE_API else set()


def relative(page: Path) -> str:
    return str(page.relative_to(HOUSE))


def make_targets() -> set[str]:
    phony = re.search(r"^\.PHONY: (.*)$", text("Makefile"), re.MULTILINE)
    assert phony is not None
    return set(phony[1].split())


every_page = pytest.mark.parametrize("page", PAGES, ids=relative)


# Error codes


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    pages = {page.stem for page in (HOUSE / "docs/errors").glob("*.md")}

    assert pages - {"README"} == set(KINDS)


@pytest.mark.parametrize("code", KINDS)
def test_the_page_of_a_code_begins_with_what_the_registry_says(code: str) -> None:
    kind = KINDS[code]

    heading, said, rest = text(f"docs/errors/{code}.md").split("\n\n", 2)

    assert heading == f"# {code}"
    assert said == f"*{kind.status} · {kind.title}*"
    assert len(rest) > 60


def test_the_table_of_errors_is_the_registry() -> None:
    wanted = [
        [f"[`{code}`]({code}.md)", str(kind.status), kind.title] for code, kind in KINDS.items()
    ]

    assert [row for row in rows("docs/errors/README.md") if row[0] != "code"] == wanted


def test_codes_that_no_server_sends_are_named() -> None:
    ours = [*(HOUSE / "danlu").glob("*.py"), *(HOUSE / "app/admin").rglob("*.py")]
    raised = {
        code
        for file in ours
        for code in re.findall(r'\b(?:DanluError|Refused)\(\s*"(\w+)"', file.read_text())
    }

    assert {"id_ambiguous", "no_home"} <= raised
    assert [code for code in raised - set(KINDS) if f"`{code}`" not in alone()] == []


def test_exit_codes_that_no_restart_helps_are_named() -> None:
    codes = re.findall(r"\b(\d+) [a-z]", alone().partition("Exit codes: ")[2])

    assert {str(code) for code in HOPELESS} <= set(codes)


def alone() -> str:
    return text("docs/errors/README.md").partition("## From the command line alone")[2]


# Settings


def test_every_setting_is_described_and_nothing_else() -> None:
    wanted = {f"DANLU_{name.upper()}" for name in Settings.model_fields} | {"DANLU_URL"}

    assert set(re.findall(r"DANLU_[A-Z_]+", text("docs/settings.md"))) == wanted
    assert {row[0] for row in rows("docs/settings.md")} - {"variable"} == wanted


@pytest.mark.parametrize("name", Settings.model_fields)
def test_defaults_of_settings_are_those_of_the_code(name: str) -> None:
    [row] = [row for row in rows("docs/settings.md") if row[0] == f"DANLU_{name.upper()}"]
    default = Settings.model_fields[name].default

    if isinstance(default, str | int | float):
        assert row[1] == str(default)


@every_page
def test_variables_that_are_named_exist(page: Path) -> None:
    known = {f"DANLU_{name.upper()}" for name in Settings.model_fields}
    known |= {"DANLU_URL", "DANLU_TEST_DATA"}

    assert set(re.findall(r"DANLU_[A-Z_]+[A-Z]", text(page))) <= known


# The guide


def test_limits_of_connections_are_those_of_the_code() -> None:
    limits = dict(rows("docs/guide/access.md"))
    head = Limits()

    assert limits["head of a request"].startswith(
        f"{head.head_seconds:.0f} s and {head.head_bytes // 1024} KiB,"
    )
    assert limits["a pause in a body"].startswith(f"{BODY_SECONDS:.0f} s,")
    assert limits["an unused connection"].startswith(f"{IDLE_SECONDS} s ")


def test_every_field_of_a_recipe_is_described() -> None:
    fields = list(SubmittedRecipe.model_fields)

    described = [row[0] for row in rows("docs/guide/recipe.md") if row[0] in fields]

    assert sorted(described) == sorted(fields)


def test_every_transform_is_described_with_its_arguments() -> None:
    table = {row[0]: row for row in rows("docs/guide/transforms.md") if row[0] in TRAIN}

    assert set(table) == set(TRAIN)
    for name, model in TRAIN.items():
        arguments = re.findall(r"`(\w+)`", f"`{table[name][1]}`")
        assert set(model.model_fields) - {"type"} <= set(arguments), name
        assert table[name][2:] == ([""] if name not in EVAL else ["yes"]), name


def test_defaults_of_data_sets_are_those_of_the_code() -> None:
    table = [row for row in rows("docs/guide/recipe.md") if row[0] in SETS]

    assert table == [default_row(name) for name in SETS]


def default_row(name: str) -> list[str]:
    recipe = SETS[name].defaults
    optimizer, scheduler = recipe["optimizer"], recipe.get("scheduler")
    return [
        name,
        recipe["architecture"],
        str(recipe["image_size"]),
        str(recipe.get("batch_size", 128)),
        str(recipe["epochs"]),
        f"{optimizer['name']} {optimizer['lr']}",
        scheduler["name"] if scheduler else "–",
    ]


def test_every_built_in_data_set_is_described() -> None:
    table = {row[0]: row[1:] for row in rows("docs/guide/datasets.md") if row[0] in SETS}

    for name, known in SETS.items():
        height, width = known.size
        counts, colour = known.counts, "grey" if known.channels == 1 else "colour"
        assert table[name] == [
            str(len(known.classes)),
            f"{counts['train']:,} and {counts['test']:,}",
            f"{height} × {width} {colour}",
        ]


@pytest.mark.parametrize("name", [*ARCHITECTURES, *READY_MADE])
def test_networks_and_ready_made_recipes_are_described(name: str) -> None:
    assert f"`{name}`" in text("docs/guide/recipe.md")


def test_every_layer_and_all_of_its_arguments_are_described() -> None:
    kinds = get_args(get_args(layers.AnyLayer)[0])
    table = {row[0]: re.findall(r"[a-z_]+", row[1]) for row in rows("docs/guide/networks.md")}

    for kind in kinds:
        arguments = set(kind.model_fields) - {"type"}
        assert arguments <= set(table[kind.__name__]), kind


# The front pages


def test_both_readmes_name_the_same_commands() -> None:
    english, chinese = map(commands, READMES)

    assert english == chinese
    assert {"make demo", "make test"} <= set(english)


def test_both_readmes_show_the_same_answers() -> None:
    english, chinese = (
        [block for language, block in FENCE.findall(text(page)) if language == "json"]
        for page in READMES
    )

    assert english == chinese


@every_page
def test_make_targets_exist(page: Path) -> None:
    code = [block for language, block in FENCE.findall(text(page)) if language == "sh"]
    code += re.findall(r"`([^`\n]+)`", text(page))

    named = {
        word
        for line in code
        for call in re.findall(r"\bmake ([^\n#]*)", line)
        for word in re.sub(r'\w+=("[^"]*"|\S+)', "", call).split()
    }

    assert named <= make_targets()


def test_every_make_target_is_described() -> None:
    assert {f"make {target}" for target in make_targets()} <= {
        row[0] for row in rows("CONTRIBUTING.md")
    }


# Decisions are not edited when what they are about moves on.
@pytest.mark.parametrize("page", [p for p in PAGES if "decisions" not in p.parts], ids=relative)
def test_addresses_exist(page: Path) -> None:
    content = text(page)
    named = [(method, path) for method, path in OPERATION.findall(content) if path != "/"]
    named += [("", path) for path in ADDRESS.findall(content) if path != "/"]

    wrong = [
        f"{method} {path}"
        for method, path in named
        if not (methods(path) if not method else method in methods(path))
    ]

    assert wrong == []


@every_page
def test_no_shell_takes_an_address_for_a_pattern(page: Path) -> None:
    bare = [re.sub(r"'[^']*'|\"[^\"]*\"", "", line) for line in commands(relative(page))]

    assert [line for line in bare if re.search(r":8000\S*[?&]", line)] == []


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(FENCE.sub("", text(page))) if "://" not in link]

    broken = [
        link for link in links if not (page.parent / unquote(link).partition("#")[0]).exists()
    ]

    assert broken == []


@pytest.mark.parametrize("page", ["README.md", "README.zh.md", "ARCHITECTURE.md"])
def test_every_room_is_named(page: str) -> None:
    rooms = sorted(package.parent.name for package in HOUSE.glob("*/__init__.py"))

    assert "problems" in rooms
    assert [room for room in rooms if f"{room}/" not in text(page)] == []


def test_the_functions_of_the_job_states_exist() -> None:
    from database import jobs

    states = text("ARCHITECTURE.md").partition("## Job states")[2].partition("\n## ")[0]
    table = [line for line in states.splitlines() if re.match(r"\| [a-z] \|", line)]
    named = {name for line in table for name in re.findall(r"`(\w+)`", line.split("|")[2])}

    assert named >= {"claim", "start", "finish", "cancel", "release", "lose", "resume"}
    assert [name for name in named if not callable(getattr(jobs, name, None))] == []


def test_the_architecture_fits_on_two_screens() -> None:
    assert len(text("ARCHITECTURE.md").splitlines()) <= 110


# The arguments of PyTorch's parts


@pytest.mark.parametrize(
    ("kinds", "apart"),
    [
        (arguments.OPTIMIZERS, ["lr"]),
        (arguments.SCHEDULERS, ["interval"]),
        (arguments.LOSSES, []),
    ],
    ids=["optimizers", "schedulers", "losses"],
)
def test_every_argument_is_described_with_its_default(
    kinds: dict[str, Any], apart: list[str]
) -> None:
    described = {row[0]: row for row in rows("docs/guide/training.md")}

    for name, kind in kinds.items():
        fields = {k: v for k, v in kind.model_fields.items() if k not in [*apart, "adamw"]}
        said = [
            f"`{key}`" if field.is_required() else f"`{key}` {json.dumps(field.default)}"
            for key, field in fields.items()
        ]
        first = [json.dumps(kind.model_fields[key].default) for key in apart]
        assert described[name][1:] == [*first, ", ".join(said).strip("` ")]


# The notes


def test_every_row_of_the_notes_names_a_test_that_exists() -> None:
    table = [row for row in rows("docs/notes.md") if row[0][0].isdecimal()]

    # Every numbered section, in their order.
    assert [len(row) for row in table] == [4] * 49
    assert len({row[0] for row in table}) == 49
    assert all(cell for row in table for cell in row)
    assert [row[3] for row in table if not is_a_test(row[3])] == []


def is_a_test(named: str) -> bool:
    """`path` of a file of tests, or `path::name` of one of them."""
    file, _, name = named.partition("::")
    path = HOUSE / file
    found = (
        re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE) if path.exists() else []
    )
    return bool(found) if not name else name in found
