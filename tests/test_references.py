"""Names that are read off the project's modules exist: a cheap part of what type checkers do."""

import ast
import importlib
import pathlib
import types

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = sorted({path.parent for path in (ROOT / "jaxmedgen").rglob("*.py")})


def _own_modules(tree: ast.Module) -> dict[str, types.ModuleType]:
    """Names of a file that stand for modules of the package."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxmedgen"):
            module = importlib.import_module(node.module)
            for name in node.names:
                try:
                    value = importlib.import_module(f"{node.module}.{name.name}")
                except ImportError:
                    value = getattr(module, name.name)  # refuses a name that is not there
                if isinstance(value, types.ModuleType):
                    found[name.asname or name.name] = value
    return found


def missing_names(source: str) -> list[str]:
    """``module.name`` for every name of a source text that its modules do not have."""
    tree = ast.parse(source)
    modules = _own_modules(tree)
    bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)
             and not isinstance(node.ctx, ast.Load)}  # fmt: skip
    bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return [
        f"{modules[node.value.id].__name__}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in set(modules) - bound
        and not hasattr(modules[node.value.id], node.attr)
    ]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_of_other_modules_exist(folder):
    for path in sorted(folder.glob("*.py")):
        assert missing_names(path.read_text()) == [], path


def test_a_name_that_is_not_there_is_found():
    text = "from jaxmedgen.data import splits as s\ns.patient_of('a')\ns.nobody('a')\n"
    assert missing_names(text) == ["jaxmedgen.data.splits.nobody"]
    assert missing_names("def f(splits): splits.x\nfrom jaxmedgen.data import splits") == []
    with pytest.raises(AttributeError):
        missing_names("from jaxmedgen.data.splits import nobody")
