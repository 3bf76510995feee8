"""The table of ONNX operators: rows are complete, true to ONNX's own definitions, and alone in knowing their names."""

import ast
import graphlib
import inspect
import pathlib
import pickle

import pytest

onnx = pytest.importorskip("onnx", reason="the ONNX room needs onnx; pip install 'needle-lab[onnx]'")

import needle_lab as ndl  # noqa: E402
from needle_lab.core.graph import OPS  # noqa: E402
from needle_lab.onnx.operators import table  # noqa: E402
from needle_lab.onnx.read import ranks  # noqa: E402
from needle_lab.widgets import FAMILIES, family_of  # noqa: E402

PACKAGE = pathlib.Path(ndl.__file__).parent
TABLE = ndl.onnx.operators.TABLE

# Attributes that a function has no use for, or that it takes by another default, with the reason.
LEFT_OUT = {
    "Range": "stash_type (opset 27): in what narrow floats are counted; a node that gives it is refused",
}
DEFAULTS = {
    ("Selu", "alpha"): "float32 in ONNX's table", ("Selu", "gamma"): "float32 in ONNX's table",
}


def schema_of(row, version):
    return onnx.defs.get_schema(row.name, version, row.domain)


@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_row_is_complete_and_true_to_onnx(name):
    """Its function has the operator's inputs and attributes, with ONNX's defaults; its other entries are known words."""
    row = TABLE[name]
    assert name == (f"{row.domain}::{row.name}" if row.domain else row.name) and row.versions and row.page
    assert row.family in {"", *FAMILIES} and family_of(row.name).key == (row.family or "other")
    assert row.rank is None or isinstance(row.rank, int) or row.rank in ranks._RULES
    assert row.layer is None or callable(row.layer)
    newest = max(row.versions)
    assert pickle.loads(pickle.dumps(row.versions[newest])) is not None, "a plan with this operator can be pickled"
    if row.page == "plain":
        assert not schema_of(row, onnx.defs.onnx_opset_version()).attributes
        return
    try:
        schema = onnx.defs.get_schema(row.name, max(newest, onnx.defs.onnx_opset_version()) if not row.domain else 99,
                                      row.domain)
    except onnx.defs.SchemaError:                          # an old operator, or one of a newer package onnx
        schema = schema_of(row, newest) if onnx.defs.has(row.name, row.domain) and not row.domain else None
        if schema is None:
            return
    parameters = inspect.signature(row.versions[newest]).parameters
    keyword = {p.name: p.default for p in parameters.values() if p.kind is p.KEYWORD_ONLY}
    missing = set(schema.attributes) - set(keyword)
    assert not missing or row.name in LEFT_OUT, f"attributes {missing}"
    for key, attribute in schema.attributes.items():
        if key in keyword and attribute.default_value.type and (row.name, key) not in DEFAULTS:
            wanted = onnx.helper.get_attribute_value(attribute.default_value)
            wanted = wanted.decode() if isinstance(wanted, bytes) else wanted
            assert keyword[key] in (None, inspect.Parameter.empty) or keyword[key] == pytest.approx(wanted), key
    inputs = [p for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
    assert variadic or len(inputs) >= len(schema.inputs)
    assert all(0 <= i < len(schema.inputs) for i in row.weights)


# Where the text of ONNX names a default that its definitions leave out.
IN_WORDS = {("SequenceEmpty", "dtype"): 1, ("StringNormalizer", "stopwords"): (), ("StringNormalizer", "locale"): "",
            ("TreeEnsemble", "n_targets"): 1}
SPELLED_BEFORE = {"foward": "forward", "bilinear": "linear"}           # GRU 1, a slip of ONNX; GridSample before opset 20


def history(row) -> dict[int, list]:
    """For each function of a row, by its first opset: ONNX's definitions in all opsets that it serves."""
    known = sorted((s for s in onnx.defs.get_all_schemas_with_history() if (s.name, s.domain) == (row.name, row.domain)),
                   key=lambda s: s.since_version)
    starts = sorted(row.versions)
    return {start: [s for i, s in enumerate(known) if s.since_version < end and
                    (i + 1 == len(known) or known[i + 1].since_version > start)]
            for start, end in zip(starts, [*starts[1:], 10**9], strict=True)}


@pytest.mark.parametrize("name", sorted(TABLE))
def test_old_functions_of_a_row_are_true_to_onnx_too(name):
    row = TABLE[name]
    for start, schemas in history(row).items():
        keyword = {p.name: p.default for p in inspect.signature(row.versions[start]).parameters.values()
                   if p.kind is p.KEYWORD_ONLY}
        for schema in schemas:
            for key, attribute in schema.attributes.items():
                given = keyword.get(key)
                if given in (None, inspect.Parameter.empty) or (row.name, key) in DEFAULTS:
                    continue
                wanted = (onnx.helper.get_attribute_value(attribute.default_value) if attribute.default_value.type
                          else IN_WORDS.get((row.name, key)))
                if isinstance(wanted, bytes):
                    wanted = SPELLED_BEFORE.get(wanted.decode(), wanted.decode())
                if wanted is not None:
                    assert list(given) == list(wanted) if isinstance(given, tuple) else given == pytest.approx(wanted), (
                        f"{key}={given!r} since opset {start}; ONNX {schema.since_version} has {wanted!r}")


def test_every_op_is_written_or_says_that_it_cannot():
    """Rules stand for ops that there are; an op that has none, and no operator of its own, is refused by its name."""
    assert set(table.WRITES) - {"detach"} <= set(OPS)
    assert all(callable(rule) for rule in (*table.WRITES.values(), *table.WRITES_LAYER.values()))
    missing = {op.name for op in OPS.values() if op.onnx and op.name not in table.WRITES and op.attributes}
    assert not missing
    assert all(op.onnx in TABLE for op in OPS.values() if op.onnx)


# Where an operator's name may be spelled outside of its row, and why.
SPELLED = {
    "ops/": "the interchange name of an op stands beside it", "nn/": "layers that are called so",
    "data/": "a transform, and a header of HTTP, that are called so", "optim/": "optimizers that are called so",
    "onnx/operators/": "its own page; activations are an attribute's value there",
    "onnx/read/joins.py": "patterns of what exporters write", "onnx/write/tidy.py": "patterns of what was written",
    "onnx/read/importer.py": "what is known before the model runs",
    "onnx/read/ranks.py": "constants, and a node of many outputs",
    "onnx/read/report.py": "constants are weights", "widgets/": "constants are no boxes; layers that are called so",
}


def test_no_name_of_an_operator_stands_elsewhere():
    names, found = {row.name for row in TABLE.values()}, set()
    for path in PACKAGE.rglob("*.py"):
        where = path.relative_to(PACKAGE).as_posix()
        if any(where.startswith(allowed) for allowed in SPELLED):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names:
                found.add((where, node.value))
    assert not found


def test_modules_of_the_room_import_in_one_direction():
    """No circle among the modules of onnx/ and program/, and program/ knows nothing of onnx/."""
    graph: dict[str, set[str]] = {}
    modules = {".".join(("needle_lab", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
               for path in PACKAGE.rglob("*.py")}
    for name, path in modules.items():
        if not name.startswith(("needle_lab.onnx", "needle_lab.program")):
            continue
        package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
        tree = ast.parse(path.read_text(encoding="utf-8"))
        hidden = {id(inner) for node in tree.body if isinstance(node, ast.If) for inner in ast.walk(node)}   # TYPE_CHECKING
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level and id(node) not in hidden:
                base = ".".join([*package[:len(package) - node.level + 1], *([node.module] if node.module else [])])
                for alias in node.names:
                    target = f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules else base
                    if target != name and target.startswith(("needle_lab.onnx", "needle_lab.program")):
                        graph.setdefault(name, set()).add(target)
    list(graphlib.TopologicalSorter(graph).static_order())                    # CycleError names a circle
    assert not [(a, b) for a, of in graph.items() for b in of
                if a.startswith("needle_lab.program") and b.startswith("needle_lab.onnx")]
    order = ["operators", "read", "write", "run"]                             # of the rooms: each imports those before it
    for a, of in graph.items():
        for b in of:
            rooms = [next((order.index(part) for part in name.split(".")[2:3] if part in order), None) for name in (a, b)]
            assert None in rooms or rooms[0] >= rooms[1], (a, b)
