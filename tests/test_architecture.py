"""Laws of the tree: who imports whom, whose the names are, what is said and what is not."""

import ast
import functools
import graphlib
import importlib
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ["worldmodel", "envs", "agents", "experiments"]
# `worldmodel/envs` is a link to `envs`, the source of `worldmodel.envs`; so are the other two.
LINKED = PACKAGES[1:]
MAY_IMPORT = {
    "worldmodel": {"worldmodel"},
    "envs": {"envs", "worldmodel"},
    "agents": {"agents", "envs", "worldmodel"},
    "experiments": set(PACKAGES),
}
LIBRARY_MAY_IMPORT = {"torch", "numpy", "gymnasium", "scipy", "safetensors", "lazy_loader", "rich"}

# Within the library a part imports only from lines above its own.
LAYERS = [
    {"files", "nested", "noise", "registry", "schedules", "arrays", "options", "optimizers"}
    | {"compiling"}
    | {"devices", "timing"},
    {"graphs"},
    {"checkpoint", "trust", "packed", "ranks"},
    {"run_folder"},
    {"errors", "job", "names", "space_json", "image_batches"},
    {"recorder", "progress"},
    {"reports"},
    {"distributions", "nets"},
    {"codecs", "sequences", "recurrences"},
    {"cores", "percepts", "episodes"},
    {"model", "replay", "disk_store", "sequential_batches"},
    {"agent", "likelihoods", "autoencoder"},
    {"environment", "objectives"},
    {"gen_core", "trainer"},
    {"evaluation", "learner"},
    {"sequence_model"},
    {"testing"},
]
LAYER = {part: number for number, layer in enumerate(LAYERS) for part in layer}


def files(package):
    return sorted((ROOT / package).rglob("*.py"))


def module_name(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "worldmodel" else ("worldmodel", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for package in PACKAGES for file in files(package)}
COMMAND = "worldmodel.__main__"  # stands in the library's folder, and is the command line's
LIBRARY = [
    name
    for name in MODULES
    if name not in ("worldmodel", COMMAND) and name.split(".")[1] not in LINKED
]


def imports_of(tree, name, is_package, modules):
    """The full names of all that a module imports, wherever it does so; relative ones resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = name.split(".")[: None if is_package else -1]
            base = base[: len(base) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{source}.{alias.name}"
                yield whole if whole in modules else source


@functools.cache
def tree_of(name):
    return ast.parse(MODULES[name].read_text())


@functools.cache
def imports(name):
    is_package = MODULES[name].name == "__init__.py"
    return frozenset(imports_of(tree_of(name), name, is_package, MODULES))


def root(name):
    """The package that a module belongs to, one of `PACKAGES` if it is ours."""
    parts = name.split(".")
    return parts[1] if parts[0] == "worldmodel" and parts[1:2] and parts[1] in LINKED else parts[0]


def front_of(name):
    return "worldmodel" if root(name) == "worldmodel" else f"worldmodel.{root(name)}"


FRONTS = ["worldmodel", *(f"worldmodel.{package}" for package in LINKED)]


def part(name):
    """The part of the library that a module belongs to; None for the library's own front."""
    return name.split(".")[1] if "." in name else None


def test_imports_are_read_as_python_reads_them():
    source = """
import os.path, torch
from a.b import c
from a import b
from . import c
from .. import other
def late():
    from .c import d
"""
    modules = {"a", "a.b", "a.b.c", "a.other"}
    found = imports_of(ast.parse(source), "a.b.e", False, modules)
    assert list(found) == ["os.path", "torch", "a.b.c", "a.b", "a.b.c", "a.other", "a.b.c"]
    found = imports_of(ast.parse("from . import c"), "a.b", True, modules)
    assert list(found) == ["a.b.c"]


@pytest.mark.parametrize("name", [name for name in MODULES if name != COMMAND])
def test_packages_import_downwards(name):
    ours = {root(found) for found in imports(name)} & {*PACKAGES, "tests"}
    assert ours <= MAY_IMPORT[root(name)]


@pytest.mark.parametrize("name", ["worldmodel", *LIBRARY])
def test_the_library_stands_on_little(name):
    foreign = {root(found) for found in imports(name)} - {"worldmodel"}
    extra = {"onnx", "onnxruntime"} if part(name) == "graphs" else set()
    assert foreign - set(sys.stdlib_module_names) <= LIBRARY_MAY_IMPORT | extra


@pytest.mark.parametrize("name", LIBRARY)
def test_the_library_is_layered(name):
    own = part(name)
    assert own in LAYER, f"put {own} into LAYERS"
    for found in imports(name):
        if root(found) != "worldmodel" or part(found) == own:
            continue
        assert part(found) is not None, f"{name} imports from the library's front"
        assert LAYER[part(found)] < LAYER[own], f"{name} imports {found}"


def test_every_layer_exists():
    assert set(LAYER) == {part(name) for name in LIBRARY}


def test_nothing_is_imported_in_a_circle():
    fronts = set(FRONTS)  # a front lists what is behind it; nothing behind it asks the front
    graph = {
        name: (imports(name) & set(MODULES)) - {name} - ({front_of(name)} & fronts)
        for name in MODULES
    }
    done, path = set(), []

    def visit(name):
        assert name not in path, " imports ".join([*path[path.index(name) :], name])
        if name not in done:
            path.append(name)
            for found in graph[name]:
                visit(found)
            path.pop()
            done.add(name)

    for name in graph:
        visit(name)


def test_the_rooms_of_experiments_stand_in_layers():
    rooms = {}
    for name in MODULES:
        if root(name) != "experiments" or name.count(".") < 3:
            continue
        room = name.split(".")[2]
        others = {
            found.split(".")[2]
            for found in imports(name)
            if root(found) == "experiments" and found.count(".") >= 3
        }
        rooms.setdefault(room, set()).update(others - {room})
    assert len(rooms) > 5
    graphlib.TopologicalSorter(rooms).prepare()  # or raises, and names the circle


def test_imports_are_absolute():
    for name in MODULES:
        for node in ast.walk(tree_of(name)):
            assert not getattr(node, "level", 0), f"{name} has a relative import"


def test_across_packages_one_imports_from_the_front():
    """`from worldmodel.envs import DreamEnv`; only what a front lacks comes from behind it."""
    fronts = {front: public_names(front) for front in FRONTS}
    reached = [
        f"{name}: from {node.module} import {alias.name}"
        for name in MODULES
        for node in ast.walk(tree_of(name))
        if isinstance(node, ast.ImportFrom) and node.module not in fronts
        for alias in node.names
        if root(node.module) != root(name) and alias.name in fronts.get(front_of(node.module), ())
    ]
    assert not reached, "\n".join(reached)


def public_names(front):
    return set(importlib.import_module(front).__all__)


def test_the_distribution_has_one_name():
    owners = importlib.metadata.packages_distributions()
    if "worldmodel" not in owners:
        pytest.skip("the distribution is not installed")
    assert set(owners["worldmodel"]) == {"worldmodel-gym"}
    ours = [name for name, owner in owners.items() if "worldmodel-gym" in owner]
    assert not {"envs", "agents", "experiments", "tests"} & set(ours)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is(name):
    said = ast.get_docstring(tree_of(name))
    assert said
    assert len(said.splitlines()[0]) > 10


@pytest.mark.parametrize("name", MODULES)
def test_every_public_class_says_what_it_is(name):
    for node in tree_of(name).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            fields = any(
                isinstance(base, ast.Name) and base.id == "NamedTuple" for base in node.bases
            )
            assert ast.get_docstring(node) or fields, f"{name}.{node.name} has no docstring"


def test_no_docstring_begins_with_a_question_word():
    words = ("What ", "How ", "Whether ", "Where ", "Who ")
    found = [
        f"{name}: {text.splitlines()[0]}"
        for name in MODULES
        for node in ast.walk(tree_of(name))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if (text := ast.get_docstring(node)) and text.startswith(words)
    ]
    assert not found, "\n".join(found)


def test_no_file_names_a_machine():
    folders = "|".join(["home", "Users", "root", "work", "mnt", "scratch"])
    path = re.compile(rf"(?<![\w.:/~])/(?:{folders})/\w")
    assert path.search("cd /" + "work/main")
    kinds = {".py", ".md", ".toml", ".txt", ".yml", ".cfg", ""}
    trees = [ROOT / tree for tree in (*PACKAGES, "tests", "docs", ".ci")]
    found = [file for tree in trees for file in tree.rglob("*") if file.suffix in kinds]
    found += [file for file in ROOT.iterdir() if file.suffix in kinds]
    named = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in found
        if file.is_file()
        for line in file.read_text().splitlines()
        if path.search(line)
    ]
    assert not named, "\n".join(named)


def test_help_does_not_wait_for_torch():
    """What `worldmodel --help` imports, in an interpreter of its own."""
    program = """
import sys
from worldmodel.experiments.cli.main import main
try:
    main(["--help"])
except SystemExit as end:
    assert end.code == 0
slow = {"torch", "gymnasium", "stable_baselines3", "scipy", "textual", "imageio"}
print("slow:", sorted(slow & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "slow: []"


@pytest.mark.parametrize("front", ["worldmodel", "envs", "agents", "experiments"])
def test_no_front_offers_something_by_the_name_of_one_of_its_modules(front):
    """Once that module is imported, its package's attribute of that name is the module."""
    stub = ROOT / front / "__init__.pyi"
    lines = stub.read_text().splitlines() if stub.exists() else []
    text = "\n".join(line for line in lines if not line.startswith("from . import"))
    modules = {path.stem for path in (ROOT / front).glob("*.py")}
    assert not set(re.findall(r"as (\w+)", text)) & modules
