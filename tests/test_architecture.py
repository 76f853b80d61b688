"""The rooms of the house: who may import whom, and how large a room may be."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "vsae_lightning"
FILES = sorted(PACKAGE.rglob("*.py"))
FORBIDDEN = [
    ("autoencoders", "lightning"),
    ("autoencoders", "vsae_lightning.data"),
    ("autoencoders", "vsae_lightning.modules"),
    ("data", "vsae_lightning.autoencoders"),
    ("data", "vsae_lightning.modules"),
    ("metrics", "vsae_lightning"),
    ("modules", "vsae_lightning.data"),
    ("modules", "vsae_lightning.callbacks"),
    ("callbacks", "vsae_lightning.modules"),
    ("callbacks", "vsae_lightning.data"),
    ("evaluation", "vsae_lightning.modules"),
    ("evaluation", "vsae_lightning.commands"),
    ("evaluation", "lightning"),
    ("evaluation", "vsae_lightning.analysis"),
    ("analysis", "vsae_lightning.modules"),
    ("analysis", "vsae_lightning.commands"),
    ("analysis", "vsae_lightning.dashboard"),
    ("analysis", "lightning"),
    ("analysis", "vsae_lightning.explanation"),
    ("dashboard", "vsae_lightning.modules"),
    ("dashboard", "vsae_lightning.commands"),
    ("dashboard", "vsae_lightning.explanation"),
    ("dashboard", "lightning"),
    ("explanation", "vsae_lightning.modules"),
    ("explanation", "vsae_lightning.commands"),
    ("explanation", "lightning"),
    ("interop", "vsae_lightning.modules"),
    ("interop", "vsae_lightning.commands"),
]


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, wherever in the file, but for those under TYPE_CHECKING."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_typing = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if node in for_typing:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def is_inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize(("room", "package"), FORBIDDEN)
def test_data_flows_one_way(room: str, package: str) -> None:
    own = f"vsae_lightning.{room}"
    found = [
        (path.name, module)
        for path in (PACKAGE / room).rglob("*.py")
        for module in imports(path)
        if is_inside(module, package) and not is_inside(module, own)
    ]
    assert not found


def test_nothing_imports_the_command_line() -> None:
    entry = {PACKAGE / "__main__.py", PACKAGE / "cli.py"}
    for path in FILES:
        if path not in entry:
            assert not any(is_inside(module, "vsae_lightning.cli") for module in imports(path)), path


def test_help_imports_nothing_heavy() -> None:
    tree = ast.parse((PACKAGE / "cli.py").read_text(encoding="utf-8"))
    top = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert top == {"contextlib", "importlib", "types", "typing", "vsae_lightning.errors", "vsae_lightning.output"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_is_short_and_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(text)), "a module docstring says what the file is for"
    assert path.stem not in {"utils", "helpers", "misc"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_names_are_documented_and_typed(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            documented = ast.get_docstring(node) or any("NamedTuple" in ast.unparse(base) for base in node.bases)
            assert documented, f"{node.name} has no docstring"
        if isinstance(node, ast.FunctionDef):
            assert node.returns is not None, f"{node.name} has no return type"
