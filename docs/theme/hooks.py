"""What `mkdocs.yml` adds to MkDocs: pages made of notebooks and of the package's fronts, and
equations as MathML."""

import ast
import base64
import contextlib
import importlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]

REFERENCE = {
    "rows": ("Rows, episodes and replay", "worldmodel", [
        "sequences", "episodes", "disk_store", "replay", "sequential_batches", "nested",
    ]),
    "models": ("World models", "worldmodel", ["model", "percepts", "codecs", "nets"]),
    "cores": ("Cores", "worldmodel", ["cores", "recurrences"]),
    "likelihoods": ("Likelihoods and training", "worldmodel", [
        "likelihoods", "objectives", "learner", "trainer", "ranks", "schedules",
        "distributions",
    ]),
    "loop": ("Worlds, agents and the loop", "worldmodel", [
        "environment", "agent", "gen_core", "evaluation",
    ]),
    "sequence-models": ("Sequence models", "worldmodel", ["sequence_model", "autoencoder"]),
    "jobs": ("Jobs and registries", "worldmodel", ["job", "registry"]),
    "envs": ("Environments and dreams", "worldmodel.envs", None),
    "agents": ("Agents that learn", "worldmodel.agents", None),
    "experiments": ("Runs in scripts", "worldmodel.experiments", None),
    "testing": ("Laws, as tests", "worldmodel.testing", None),
}  # fmt: skip
"""Pages of the reference: title, the front, and modules of it (None: all)."""

WHOLE = {"nested", "distributions", "ranks"}  # modules that are public themselves


def on_files(files: Files, config: Any) -> Files:
    """Adds pages that are made here."""

    def add(path: str, content: str | bytes) -> None:
        files.append(File.generated(config, path, content=content))

    for name, page in reference_pages():
        add(f"reference/{name}.md", page)
    add("reference/commands.md", commands_page())
    for name in ("CHANGELOG", "CONTRIBUTING"):
        add(f"{name.lower()}.md", linked_from_docs((ROOT / f"{name}.md").read_text()))
    for notebook in sorted((ROOT / "docs" / "tutorials").glob("*.ipynb")):
        page, pictures = notebook_page(notebook)
        add(f"tutorials/{notebook.stem}.md", page)
        for name, picture in pictures.items():
            add(f"tutorials/{name}", picture)
    return files


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Equations as MathML."""
    return re.sub(r'<(span|div) class="arithmatex">(.*?)</\1>', _mathml, html, flags=re.DOTALL)


def on_post_page(html: str, page: Any, config: Any) -> str:
    """A name for the box of the search, which the theme leaves without one."""
    return html.replace('role="dialog"', 'role="dialog" aria-label="Search"', 1)


def _mathml(found: re.Match[str]) -> str:
    kind, text = found.groups()
    latex = text.strip()[2:-2].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
    mathml = convert(latex, display="block" if kind == "div" else "inline")
    return f'<div class="equation" tabindex="0">{mathml}</div>' if kind == "div" else mathml


# ------------------------------------------------------------------------------------- reference


def fronts() -> dict[str, dict[str, list[str]]]:
    """The public names of each front, by the module behind it that they come from."""
    found: dict[str, dict[str, list[str]]] = {}
    known = dict.fromkeys(front for _, front, _ in REFERENCE.values())
    for front in known:
        folder = ROOT / front.replace(".", "/")
        stub = folder / "__init__.pyi"
        if stub.exists():
            names = _names(ast.parse(stub.read_text()))
            found[front] = {  # names of another front are described there
                module: of for module, of in names.items() if f"{front}.{module}" not in known
            }
        else:
            found[front] = {"": list(importlib.import_module(front).__all__)}
    return found


def _names(stub: ast.Module) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for line in stub.body:
        if isinstance(line, ast.ImportFrom):
            module = (line.module or "").partition(".")[0]
            for alias in line.names:
                behind = module or alias.name  # `from . import nested`
                names.setdefault(behind, []).append(alias.name)
    return names


def reference_pages() -> Iterator[tuple[str, str]]:
    """Name and text of each page; a module that is on no page is an error."""
    public = fronts()
    left = {(front, module) for front, modules in public.items() for module in modules}
    for page, (title, front, modules) in REFERENCE.items():
        of_front = public[front]
        parts = [f"# {title}\n\nAll of it is imported from `{front}`."]
        for module in modules or of_front:
            left.discard((front, module))
            parts += _section(front, module, of_front[module])
        yield page, "\n\n".join(parts) + "\n"
    if left:
        raise PluginError(f"put these modules on a page of REFERENCE in {__file__}: {left}")


def _section(front: str, module: str, names: list[str]) -> list[str]:
    heading = []
    if module:
        about = _about(ROOT / front.replace(".", "/") / module)
        heading = [f"## {module.replace('_', ' ').capitalize()}", about]
    if module in WHOLE:
        options = "    options: {show_root_heading: false, show_root_toc_entry: false}"
        return [*heading, f"::: {front}.{module}\n{options}"]
    paths = [f"{name}.{name}" if name == module else name for name in names]
    return heading + [f"::: {front}.{path}" for path in paths]


def _about(module: Path) -> str:
    """The first paragraph of a module's docstring."""
    file = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
    words = ast.get_docstring(ast.parse(file.read_text())) or ""
    return words.partition("\n\n")[0].partition(":\n")[0]


def commands_page() -> str:
    """Every command, with all its options."""
    from worldmodel.experiments.cli.commands import commands
    from worldmodel.experiments.cli.main import main

    parts = ["# The command line\n\nEach command with all its options, as `--help-all` prints it."]

    def describe(*words: str) -> None:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            main([*words, "--help-all"])
        text = re.sub(r"\x1b\[[0-9;]*m", "", said.getvalue()).replace(str(Path.home()), "~")
        parts.append(f"## worldmodel {' '.join(words)}\n\n```text\n{text.strip()}\n```")

    for verb in commands():
        below = commands(verb) if verb in ("train", "bench") else ()
        for words in [(verb, name) for name in below] or [(verb,)]:
            describe(*words)
    return "\n\n".join(parts) + "\n"


# ------------------------------------------------------------------------------ files of others


def linked_from_docs(text: str) -> str:
    """A file of the top folder as a page: its links to pages lose their folder."""
    return re.sub(r"\]\(docs/", "](", text)


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown with its outputs, and its pictures by name."""
    notebook = json.loads(path.read_text())
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![{cell['metadata']['alt']}]({name})")
            elif text := "".join(output.get("text") or data.get("text/plain", "")):
                parts.append(f"```text\n{text.rstrip()}\n```")
    note = f"*This page is a notebook, `docs/tutorials/{path.name}`, with the outputs of a run.*"
    return "\n\n".join([parts[0], note, *parts[1:]]) + "\n", pictures


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to notebooks lead to their pages."""
    return re.sub(r"(\]\([^)\s]+)\.ipynb", r"\1.md", markdown)
