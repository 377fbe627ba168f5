"""One page that dreams: the graphs of a run, and a script that computes their operators."""

import base64
import json
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np

from worldmodel.experiments.export.graphs import Exported, Graph
from worldmodel.experiments.runs.labels import COMMANDS

SCRIPTS = ("graph.js", "pictures.js", "dream.js")


def page_of(exported: Exported) -> str:
    """The page: scripts, graphs and weights in one text."""
    here = files("worldmodel.experiments.export")
    data = {
        "about": exported.about,
        "graphs": {name: program_of(graph) for name, graph in exported.graphs.items()},
    }
    text = here.joinpath("page.html").read_text(encoding="utf-8")
    scripts = "\n".join(here.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS)
    inside = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    about = exported.about
    words = {
        "TITLE": about["title"],
        "NAME": about["run"],
        "PURPOSE": about["purpose"]["told"],
        "LEGEND": about["picture"].get("legend", ""),
        **{name.upper(): COMMANDS[name] for name in ("agent", "run", "restart")},
    }
    parts = {name: escape(said) for name, said in words.items()}
    for mark, part in (parts | {"SCRIPTS": scripts, "DATA": inside}).items():
        text = text.replace(f"{{{{{mark}}}}}", part)
    return text


def program_of(graph: Graph) -> dict[str, Any]:
    """A graph as the page's script reads it: nodes, and constants in one text."""
    from onnx import helper, numpy_helper

    nodes = [
        [
            node.op_type,
            [*node.input],
            [*node.output],
            {a.name: _plain(helper.get_attribute_value(a)) for a in node.attribute},
        ]
        for node in graph.model.graph.node
    ]
    constants, stored, place = [], [], 0
    for initializer in graph.model.graph.initializer:
        array = numpy_helper.to_array(initializer)
        data = array.astype(_stored(array.dtype)).tobytes()
        constants.append([initializer.name, str(array.dtype), [*array.shape], place])
        data += bytes(-len(data) % 8)
        stored.append(data)
        place += len(data)
    weights = base64.b64encode(b"".join(stored)).decode()
    return graph.described() | {"nodes": nodes, "constants": constants, "weights": weights}


def _stored(dtype: np.dtype) -> np.dtype:
    """The type in which a page holds constants: int64 as doubles, which hold 53 bits."""
    kinds = {"int64": "<f8", "bool": "u1", "float64": "<f8", "float32": "<f4"}
    return np.dtype(kinds.get(str(dtype), dtype.newbyteorder("<")))


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
