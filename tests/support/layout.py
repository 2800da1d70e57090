"""Which module imports which, read from the source, and what of that breaks the rules."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One import of `target` by `source`, both dotted names. typing: only the type checker sees it."""

    source: str
    target: str
    line: int
    typing: bool


@dataclass(frozen=True)
class Rules:
    """layers: the parts of the package, from the top down; a part may import its own and those further down.

    owners: modules from outside, and the prefix, or prefixes, of the only modules that may import them.
    """

    package: str
    layers: Sequence[frozenset[str]]
    owners: Mapping[str, str | tuple[str, ...]]
    most_lines: int


class Source:
    """The modules of the package in the folder `root`."""

    def __init__(self, root: Path) -> None:
        self.package = root.name
        self.files = {_module_name(root, path): path for path in sorted(root.rglob("*.py"))}
        self.imports = [each for module in self.files for each in self._imports_of(module)]

    def _imports_of(self, module: str) -> Iterator[Import]:
        path = self.files[module]
        tree = ast.parse(path.read_text())
        typing = {id(node) for guard in ast.walk(tree) if _is_typing_guard(guard) for node in ast.walk(guard)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for target in self._targets(module, path, node):
                    yield Import(module, target, node.lineno, id(node) in typing)

    def _targets(self, module: str, path: Path, node: ast.Import | ast.ImportFrom) -> set[str]:
        if isinstance(node, ast.Import):
            return {alias.name for alias in node.names}
        base = node.module or ""
        if node.level:
            parents = module.split(".")[: None if path.name == "__init__.py" else -1]
            parents = parents[: len(parents) - node.level + 1]
            base = ".".join([*parents, base] if base else parents)
        names = {f"{base}.{alias.name}" for alias in node.names}
        return {name if name in self.files else base for name in names}


def _module_name(root: Path, path: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _is_typing_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def violations(source: Source, rules: Rules) -> list[str]:
    """One sentence for everything that breaks the rules."""
    return [*_order(source, rules), *_cycles(source), *_owners(source, rules), *_sizes(source, rules)]


def _order(source: Source, rules: Rules) -> Iterator[str]:
    """Imports for the type checker count too: a part should not know the types of what is above it."""
    depths = {part: depth for depth, layer in enumerate(rules.layers) for part in layer}
    for module in source.files:
        if _part(module) not in depths and module != rules.package:
            yield f"{module} belongs to no layer"
    for each in source.imports:
        inside = each.target.split(".")[0] == rules.package
        if not inside or rules.package == each.target or (rules.package == each.source and each.typing):
            continue  # the package itself is the shop window: it knows all, and runs nothing
        above, below = _part(each.source), _part(each.target)
        if above != below and depths.get(above, 99) >= depths.get(below, -1):
            yield f"{each.source}:{each.line} imports {each.target}, which is not below it"


def _part(module: str) -> str:
    """`mount` of `package.mount.fuse`."""
    return (module.split(".")[1:] or [module])[0]


def _cycles(source: Source) -> Iterator[str]:
    """Of all imports: one inside a function, or for the type checker only, hides a cycle but does not undo it."""
    graph: dict[str, set[str]] = {}
    for each in source.imports:
        if each.target in source.files and each.target != each.source:
            graph.setdefault(each.source, set()).add(each.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "cycle: " + " -> ".join(reversed(error.args[1]))


def _owners(source: Source, rules: Rules) -> Iterator[str]:
    for each in source.imports:
        owner = rules.owners.get(each.target.split(".")[0])
        owners = (owner,) if isinstance(owner, str) else owner
        if owners and not f"{each.source}.".startswith(tuple(f"{rules.package}.{one}." for one in owners)):
            yield f"{each.source}:{each.line} imports {each.target}, which only {' and '.join(owners)} may"


def _sizes(source: Source, rules: Rules) -> Iterator[str]:
    for module, path in source.files.items():
        lines = len(path.read_text().splitlines())
        if lines > rules.most_lines:
            yield f"{module} has {lines} lines, more than {rules.most_lines}"


def shared_class_names(source: Source) -> dict[str, list[str]]:
    """The modules of every class name that more than one class has; a leading underscore makes no other name."""
    homes: dict[str, list[str]] = {}
    for module, path in source.files.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name.lstrip("_"), []).append(module)
    return {name: modules for name, modules in homes.items() if len(modules) > 1}
