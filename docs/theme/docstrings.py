"""How docstrings of this package become pages of the reference, and that there are any.

Docstrings are plain text: shapes such as [T, B], lines of code, and paragraphs that begin with the
names of arguments. A field's comment is its description.
"""

import ast
import re
from typing import Any

import griffe
from mkdocs.plugins import get_plugin_logger

log = get_plugin_logger(__name__)
SHAPE = re.compile(r"(?<![`\w\]\[])\[(?:[A-Z*n.][\w.]*|\d+)(?:[ ,+*/-]+[\w.*]+)*\](?![(\w\[])")
ARGUMENT = re.compile(r"((?:\*{0,2}[a-z_]\w*, )*\*{0,2}[a-z_]\w*): (.*)")
FRONTS = ("", ".envs", ".agents", ".experiments", ".testing")


class Docstrings(griffe.Extension):
    """Docstrings as Markdown; a public name without one is a warning."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        if obj.docstring is not None:
            names = arguments_of(obj)
            obj.docstring.value = as_markdown(obj.docstring.value, names)

    def on_attribute_instance(self, *, attr: Any, **_: Any) -> None:
        if attr.docstring is None and attr.parent.is_class and attr.lineno:
            line = attr.parent.lines_collection[attr.filepath][attr.lineno - 1]
            _, mark, comment = line.partition("  # ")
            if mark and not comment.startswith(("noqa", "type:")):
                attr.docstring = griffe.Docstring(as_markdown(comment, set()), parent=attr)

    def on_package(self, *, pkg: Any, **_: Any) -> None:
        if pkg.path == "worldmodel":
            for path in undocumented(pkg):
                log.warning(f"{path} is public and has no docstring")


def arguments_of(obj: Any) -> set[str]:
    """Names that paragraphs of an object's docstring may begin with."""
    function = obj.members.get("__init__") if obj.is_class else obj
    parameters = getattr(function, "parameters", ()) if function is not None else ()
    return {parameter.name for parameter in parameters} | set(obj.members)


def as_markdown(text: str, names: set[str]) -> str:
    """Paragraphs of code as code, arguments as a list, shapes as code."""
    return "\n\n".join(_paragraph(part, names) for part in re.split(r"\n\s*\n", text.strip("\n")))


def _paragraph(part: str, names: set[str]) -> str:
    lines = part.splitlines()
    if lines[0].startswith(">>>"):
        return f"```pycon\n{part}\n```"
    if all(line.startswith("    ") for line in lines) or lines[0].startswith("|"):
        return part
    if _is_code(part):
        return f"```python\n{part}\n```"
    items: list[str] = []
    for line in lines:
        found = ARGUMENT.match(line)
        if found and {name.strip("* ") for name in found[1].split(",")} & names:
            items.append(f"- `{found[1]}`: {found[2]}")
        elif items:
            items[-1] += " " + line.strip()
        else:
            items.append(line)
    if items and items[0].startswith("- `"):
        return SHAPE.sub(r"`\g<0>`", "\n".join(items))
    begun = [place for place, item in enumerate(items) if item.startswith("- `")]
    cut = begun[0] if begun else len(items)
    text = "\n".join(items[:cut]) + ("\n\n" + "\n".join(items[cut:]) if begun else "")
    return SHAPE.sub(r"`\g<0>`", text)


def _is_code(part: str) -> bool:
    try:
        tree = ast.parse(part)
    except SyntaxError:
        return False
    kinds = (ast.Assign, ast.Expr, ast.For, ast.With, ast.Import, ast.ImportFrom, ast.AugAssign)
    return all(
        isinstance(line, kinds)
        and not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Name | ast.Constant))
        for line in tree.body
    )


def undocumented(package: Any) -> list[str]:
    """Paths of what is public and has no docstring, of its own or of what it overrides."""
    found = []
    for front in FRONTS:
        module = package[front[1:]] if front else package
        for name in public_names(module):
            obj = module[name]
            if obj.is_alias:
                obj = obj.final_target
            members = obj.functions.values() if obj.is_class else []
            for one in [obj, *members]:
                private = one is not obj and one.name.startswith("_")
                if not private and not _is_described(one):
                    found.append(one.path)
    return found


def public_names(module: Any) -> list[str]:
    """Names of a front: those of its stub, or of `__all__`."""
    if module.exports:
        return [str(name) for name in module.exports]
    members = module.members.items()
    return [n for n, m in members if m.is_alias and m.target_path.startswith("worldmodel.")]


def _is_described(obj: Any) -> bool:
    if obj.docstring is not None or not obj.parent or not obj.parent.is_class:
        return obj.docstring is not None
    behind = obj.parent.mro()
    return any(obj.name in base.members and base.members[obj.name].docstring for base in behind)
