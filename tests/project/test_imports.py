"""Imports go in one direction, between packages and between their sub-packages, and never in a circle."""

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("data_cards", "pipeline", "train", "eval")
# What each package is made of; one imports only from lines above its own.
LAYERS = {
    "data_cards": (("core",), ("archives",), ("image",), ("dataset",), ("audit",), ("selection", "card")),
    "pipeline": (
        ("features",),
        ("store",),
        ("execution",),
        ("builder",),
        ("maintenance", "datasets", "simulate"),
        ("cli",),
    ),
    "train": (("settings",), ("resolve",), ("data",), ("model",), ("run", "recipe"), ("loop",), ("cli",)),
    "eval": (("settings",), ("explain",), ("scores",), ("report", "verdict"), ("page",), ("cli",)),
}


@dataclass(frozen=True)
class Import:
    """One import statement of a module of ours: `place` is its file and line."""

    importer: str
    imported: str
    place: str

    def __str__(self) -> str:
        return f"{self.place}: {self.importer} imports {self.imported}"


def find_imports(root: Path) -> list[Import]:
    """Return every import of one of our modules by another, also those in functions and for type checking only."""
    files = {}
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    imports = []
    for name, file in files.items():
        package = name.split(".") if file.stem == "__init__" else name.split(".")[:-1]
        for node in ast.walk(ast.parse(file.read_text(), file)):
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else []
                base = ".".join([*above, *filter(None, [node.module])])
                named = [f"{base}.{alias.name}" for alias in node.names]
            else:
                continue
            for one in named:
                # `from a.b import c`: the module a.b.c, or c of the module a.b.
                found = next((each for each in (one, one.rpartition(".")[0]) if each in files), None)
                if found not in (None, name):
                    imports.append(Import(name, found, f"{file.relative_to(root).as_posix()}:{node.lineno}"))
    return imports


def find_upward_imports(imports: list[Import], layers: dict) -> list[Import]:
    """Return the imports of a package, or of a layer inside one, that does not stand before the importer's."""
    upward = []
    for one in imports:
        (package, *inside), (other, *other_inside) = one.importer.split("."), one.imported.split(".")
        if package != other:
            wrong = PACKAGES.index(other) > PACKAGES.index(package)
        elif package not in layers or not inside or inside[0] == "__main__" or inside[:1] == other_inside[:1]:
            continue
        else:
            ranks = {name: rank for rank, names in enumerate(layers[package]) for name in names}
            rank, below = ranks.get(inside[0]), ranks.get(other_inside[0] if other_inside else None)
            wrong = rank is None or below is None or below >= rank
        if wrong:
            upward.append(one)
    return upward


def find_circle(imports: list[Import]) -> list[Import]:
    """Return the imports of one circle, in order; none where there is no circle."""
    graph: dict[str, list[Import]] = {}
    for one in imports:
        graph.setdefault(one.importer, []).append(one)
    done = set()

    def visit(module: str, path: list[Import]) -> list[Import]:
        on_path = [one.importer for one in path]
        if module in on_path:
            return path[on_path.index(module) :]
        if module not in done:
            for one in graph.get(module, []):
                if circle := visit(one.imported, [*path, one]):
                    return circle
            done.add(module)
        return []

    return next((circle for module in graph if (circle := visit(module, []))), [])


def list_lines(imports: list[Import]) -> str:
    return "\n".join(["", *map(str, imports)])


def is_laid_out(root: Path, package: str) -> bool:
    """Whether the sub-packages of the table are there."""
    names = {name for names in LAYERS[package] for name in names} - {"settings", "cli"}
    return all((root / package / name).is_dir() for name in names)


def test_imports_go_in_one_direction():
    layers = {package: LAYERS[package] for package in PACKAGES if is_laid_out(ROOT, package)}
    upward = find_upward_imports(find_imports(ROOT), layers)
    assert not upward, list_lines(upward)


def test_imports_make_no_circle():
    circle = find_circle(find_imports(ROOT))
    assert not circle, list_lines(circle)


@pytest.fixture
def tree(tmp_path):
    """Writes modules and their `__init__.py`; gives their imports."""

    def write(files):
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            for folder in file.relative_to(tmp_path).parents[:-1]:
                (tmp_path / folder / "__init__.py").touch()
        return find_imports(tmp_path)

    return write


@pytest.mark.parametrize(
    ("importer", "statement", "imported"),
    [
        pytest.param("pipeline/store/reader.py", "import train.cli", "train.cli", id="package"),
        pytest.param("pipeline/store/reader.py", "from train import cli", "train.cli", id="module-of-package"),
        pytest.param("pipeline/store/reader.py", "from train.cli import main", "train.cli", id="name-of-module"),
        pytest.param("pipeline/store/reader.py", "from pipeline.cli.main import main", "pipeline.cli.main", id="layer"),
        pytest.param("pipeline/store/reader.py", "from ..cli.main import main", "pipeline.cli.main", id="relative"),
        pytest.param(
            "pipeline/datasets/card.py",
            "from pipeline.maintenance.verify import x",
            "pipeline.maintenance.verify",
            id="beside",
        ),
        pytest.param("pipeline/features/a.py", "from pipeline.odd import x", "pipeline.odd", id="not-in-the-table"),
    ],
)
@pytest.mark.parametrize("how", ["{}", "def f():\n    {}", "if TYPE_CHECKING:\n    {}"], ids=["top", "inside", "types"])
def test_planted_upward_import_is_named(tree, importer, statement, imported, how):
    others = ("train/cli.py", "pipeline/cli/main.py", "pipeline/maintenance/verify.py", "pipeline/odd.py")
    text = "\n" + how.format(statement)
    imports = tree({**dict.fromkeys(others, ""), "pipeline/features/b.py": "import os", importer: text})
    [upward] = find_upward_imports(imports, LAYERS)
    line = text.split(statement)[0].count("\n") + 1
    assert (upward.imported, upward.place) == (imported, f"{importer}:{line}")


def test_downward_imports_are_allowed(tree):
    imports = tree(
        {
            "data_cards/core/text.py": "",
            "pipeline/store/a.py": "from data_cards.core import text\nfrom pipeline.store.b import x",
            "pipeline/store/b.py": "",
            "pipeline/__main__.py": "from pipeline.cli.main import main",
            "pipeline/cli/main.py": "from pipeline.store import a, b",
        }
    )
    assert len(imports) == 5
    assert find_upward_imports(imports, LAYERS) == []
    assert find_circle(imports) == []


def test_planted_circle_is_named(tree):
    imports = tree(
        {
            "train/a.py": "from train.b import x",
            "train/b.py": "def f():\n    from train import c",
            "train/c.py": "import train.b",
        }
    )
    assert [str(one) for one in find_circle(imports)] == [
        "train/b.py:2: train.b imports train.c",
        "train/c.py:1: train.c imports train.b",
    ]
