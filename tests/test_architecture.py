"""The rules of the house that no linter knows."""

import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent
ROOMS = (
    *("app", "workers", "danlu", "models_store", "data_store", "database"),
    *("images", "settings", "problems"),
)


def modules() -> list[Path]:
    """Every module but packages' `__init__` and migrations, which tests of others run."""
    return [
        module.relative_to(HOUSE)
        for room in ROOMS
        for module in sorted((HOUSE / room).rglob("*.py"))
        if module.name != "__init__.py" and "migrations" not in module.parts
    ]


def has_tests(module: Path) -> bool:
    # `__main__.py` stands beside a `main.py` in app/: then its tests keep the underscores.
    names = ("main", "__main__") if module.stem == "__main__" else (module.stem,)
    return any((HOUSE / "tests" / module.parent / f"test_{name}.py").is_file() for name in names)


def test_every_module_has_its_tests() -> None:
    missing = [str(module) for module in modules() if not has_tests(module)]

    assert missing == []


@pytest.mark.parametrize(
    ("imported", "unwanted"),
    [
        ("danlu", ("torch", "fastapi", "sqlalchemy", "PIL")),
        ("danlu.cli", ("torch", "fastapi", "sqlalchemy", "PIL")),
        # The server listens before it imports torch; the supervisor never does.
        ("app.main", ("torch", "torchvision", "sklearn")),
        ("workers.supervisor", ("torch", "torchvision", "sklearn", "fastapi")),
        ("models_store.recipe", ("torch",)),
        ("models_store.catalogue", ("torch",)),
        ("models_store.shapes", ("torch",)),
        ("data_store.arrays", ("torch", "torchvision", "sklearn")),
        # A child has to import nothing more before its first step.
        ("workers.child", ("torchvision", "sklearn", "fastapi", "matplotlib")),
    ],
)
def test_imports_load_no_more_than_they_need(imported: str, unwanted: tuple[str, ...]) -> None:
    program = (
        f"import sys, {imported}; "
        f"print(*[name for name in {unwanted!r} if name in sys.modules], end='')"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=90, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
