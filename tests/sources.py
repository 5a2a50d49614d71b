"""The Python sources of a repository, read with `ast`: what imports what, and how long files and functions are.

Knows no rules; tests/unit/test_house.py has them. No source is ever imported. Every import counts, those inside
functions too, except those under `if TYPE_CHECKING`, which no interpreter runs.

An import of a name that a package's `__init__` only hands on is an import of the module that the name comes from. So
is one of a name that an `__init__` loads lazily, by a table: a dict of modules and the names in each. Importing a
module also runs the `__init__` of every package above it; that is not counted.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

IMPORTING_FUNCTIONS = ("__import__", "import_module", "importlib.import_module")


@dataclass(frozen=True)
class Import:
    """`from module import name as bound`, or `import module` if `name` is empty."""

    module: str
    name: str
    bound: str
    line: int
    in_function: bool


@dataclass(frozen=True)
class Edge:
    """`importer` imports `imported`; both are paths from the repository's root on."""

    importer: str
    line: int
    imported: str
    in_function: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


@dataclass(frozen=True)
class Source:
    """name: as an import says it, "vllm_prm.cli.main"; for a script "turns". path: from the repository's root on."""

    name: str
    path: str
    text: str
    tree: ast.Module
    imports: tuple[Import, ...]


class Sources:
    """The sources of `packages`, which are imported by their full names, and of `scripts`: folders of files that import
    each other by bare names. Raises LookupError for an import of a module that one of `packages` does not have.
    """

    def __init__(self, root: Path, packages: Sequence[str], scripts: Sequence[str] = ()) -> None:
        self.root = root
        self.packages = {source.name: source for folder in packages for source in _read(root, folder, f"{folder}.")}
        self.scripts = {folder: {source.name: source for source in _read(root, folder, "")} for folder in scripts}
        self.handed_on = {
            source.name: {imported.bound: imported for imported in self._handed_on(source)}
            for source in self.packages.values()
            if source.path.endswith("/__init__.py")
        }

    def files(self) -> list[Source]:
        return [*self.packages.values(), *(source for folder in self.scripts.values() for source in folder.values())]

    def edges(self) -> list[Edge]:
        """The imports between these files."""
        edges = []
        for source in self.files():
            for imported in {*source.imports, *self.handed_on.get(source.name, {}).values()}:
                target = self._target(source, imported)
                if target is not None:
                    edges.append(Edge(source.path, imported.line, target.path, imported.in_function))
        return sorted(edges, key=lambda edge: (edge.importer, edge.line, edge.imported))

    def external_imports(self) -> list[tuple[Source, Import]]:
        """The imports of what is not among these files."""
        return [
            (source, imported)
            for source in self.files()
            for imported in source.imports
            if self._target(source, imported) is None
        ]

    def _handed_on(self, source: Source) -> Iterator[Import]:
        """What an `__init__` imports when it is run, and what its lazy tables name."""
        yield from (imported for imported in source.imports if imported.name and not imported.in_function)
        for statement in source.tree.body:
            table = getattr(statement, "value", None)
            if isinstance(table, ast.Dict) and table.keys and all(self._is_module(key) for key in table.keys):
                for module, names in ast.literal_eval(table).items():
                    yield from (Import(module, name, name, statement.lineno, in_function=True) for name in names)

    def _is_module(self, key: ast.expr | None) -> bool:
        return isinstance(key, ast.Constant) and key.value in self.packages

    def _target(self, importer: Source, imported: Import) -> Source | None:
        """The file that `imported` loads; None if it is not among these files."""
        siblings = self.scripts.get(importer.path.split("/")[0], {})
        submodule = f"{imported.module}.{imported.name}"
        if submodule in self.packages:
            return self.packages[submodule]
        if imported.module in self.packages:
            handed_on = self.handed_on.get(imported.module, {}).get(imported.name)
            known = handed_on is not None and handed_on.module != imported.module
            home = self._target(self.packages[imported.module], handed_on) if known else None
            return home or self.packages[imported.module]
        if imported.module.split(".")[0] in self.packages:
            raise LookupError(f"{importer.path}:{imported.line} imports {imported.module}: there is no such module")
        return siblings.get(imported.module)


def circles(edges: Sequence[Edge]) -> list[list[Edge]]:
    """For each file that imports itself in the end, the shortest way round; each circle of files once."""
    leaving: dict[str, list[Edge]] = {}
    for edge in edges:
        leaving.setdefault(edge.importer, []).append(edge)
    circle_of: dict[frozenset[str], list[Edge]] = {}
    for file in sorted(leaving):
        way = _way_back(file, leaving)
        if way:
            circle_of.setdefault(frozenset(edge.importer for edge in way), way)
    return list(circle_of.values())


def _way_back(file: str, leaving: dict[str, list[Edge]]) -> list[Edge]:
    """The shortest list of edges from `file` to itself; empty if there is none."""
    ways, reached = [[edge] for edge in leaving[file]], set()
    for way in ways:  # grows as it is walked: breadth first
        imported = way[-1].imported
        if imported == file:
            return way
        if imported not in reached:
            reached.add(imported)
            ways += [[*way, edge] for edge in leaving.get(imported, [])]
    return []


def functions(source: Source) -> Iterator[tuple[str, int, int]]:
    """(name, line, number of lines) of every function, methods and nested ones too.

    The lines are those from `def` to the end, nested functions included, decorators and docstring left out.
    """
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring_lines = _lines(node.body[0]) if ast.get_docstring(node) is not None else 0
            yield node.name, node.lineno, _lines(node) - docstring_lines


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _read(root: Path, folder: str, prefix: str) -> Iterator[Source]:
    for path in sorted((root / folder).rglob("*.py")):
        inside = path.relative_to(root / folder).with_suffix("").parts
        is_package = inside[-1] == "__init__"
        name = (prefix + ".".join(inside[:-1] if is_package else inside)).rstrip(".")
        package = name if is_package else name.rpartition(".")[0]
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        yield Source(name, path.relative_to(root).as_posix(), text, tree, tuple(_imports(tree, package)))


def _imports(parent: ast.AST, package: str, in_function: bool = False) -> Iterator[Import]:
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, "", alias.asname or alias.name, node.lineno, in_function)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(module, alias.name, alias.asname or alias.name, node.lineno, in_function)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in IMPORTING_FUNCTIONS:
            for module in (argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)):
                yield Import(str(module), "", "", node.lineno, in_function)
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from _imports(ast.Module(node.orelse, []), package, in_function)
            continue
        inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _imports(node, package, inside)
