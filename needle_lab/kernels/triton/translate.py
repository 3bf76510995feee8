"""From an elementwise op's numpy expression to the text of its Triton kernel.

An elementwise op is written once, as `return <expression of numpy functions>`. The same expression, with each numpy
function replaced by Triton's or libdevice's, is the body of the kernel: `print(source(ops.softplus))` shows it. Every
replacement names the kinds of dtype for which it is right; an op asked for another kind, or written with a function
that is not in the table, has no kernel and runs on the host, which is reported.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap

REAL, WHOLE, LOGIC = "f", "iu", "b"          # kinds of numpy dtypes: floats, integers, bools
NUMBER, ANY = REAL + WHOLE, REAL + WHOLE + LOGIC

FUNCTIONS = {                                # numpy's name -> (Triton expression, kinds of dtype)
    # libdevice is NVIDIA's library of float functions; Triton's own exp, sin, /, ... are faster and less accurate
    **{name: (f"libdevice.{name}({{}})", REAL) for name in
       "exp expm1 log log1p log2 log10 sin cos tan sinh cosh tanh floor ceil rint trunc".split()},
    **{f"arc{name}": (f"libdevice.a{name}({{}})", REAL) for name in "sin cos tan sinh cosh tanh".split()},
    "round": ("libdevice.rint({})", REAL),
    "_erf": ("libdevice.erf({})", REAL),
    "sqrt": ("libdevice.sqrt_rn({})", REAL),
    "arctan2": ("libdevice.atan2({}, {})", REAL),
    "abs": ("tl.abs({})", REAL + "i"),
    "maximum": ("functions.maximum({}, {})", NUMBER),
    "minimum": ("functions.minimum({}, {})", NUMBER),
    "where": ("tl.where({}, {}, {})", ANY),
    "sign": ("functions.sign({})", NUMBER),
    "fmod": ("functions.fmod({}, {})", NUMBER),
    "mod": ("functions.remainder({}, {})", NUMBER),
    "floor_divide": ("functions.floor_divide({}, {})", NUMBER),
    "isnan": ("({0} != {0})", NUMBER),
    "isinf": ("(tl.abs({}) == float('inf'))", REAL),
    "isfinite": ("(tl.abs({}) < float('inf'))", REAL),
    "logical_and": ("(({} != 0) & ({} != 0))", ANY),
    "logical_or": ("(({} != 0) | ({} != 0))", ANY),
    "logical_xor": ("(({} != 0) ^ ({} != 0))", ANY),
    "logical_not": ("({} == 0)", ANY),
}
OPERATORS = {
    ast.Add: ("({} + {})", NUMBER), ast.Sub: ("({} - {})", NUMBER), ast.Mult: ("({} * {})", NUMBER),
    ast.Div: ("libdevice.div_rn({}, {})", REAL), ast.Pow: ("libdevice.pow({}, {})", REAL),
    ast.BitAnd: ("({} & {})", WHOLE + LOGIC), ast.BitOr: ("({} | {})", WHOLE + LOGIC),
    ast.BitXor: ("({} ^ {})", WHOLE + LOGIC), ast.Invert: ("(~{})", WHOLE + LOGIC), ast.USub: ("(-{})", REAL + "i"),
    ast.Eq: ("({} == {})", ANY), ast.NotEq: ("({} != {})", ANY), ast.Lt: ("({} < {})", ANY),
    ast.LtE: ("({} <= {})", ANY), ast.Gt: ("({} > {})", ANY), ast.GtE: ("({} >= {})", ANY),
}

KERNEL = '''\
@triton.jit(do_not_specialize={unspecialized})
def {name}({parameters}, result_ptr, shape, n, {constants}):
    """{doc}

    One program computes BLOCK values: it reads each input once and writes each result once.
    """
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
{loads}
    result = {expression}
    tl.store(result_ptr + i, result.to(result_ptr.dtype.element_ty), mask=inside)
'''
ARRAY = "    {x} = tl.load({x}_ptr + place(i, shape, {x}_strides), mask=inside).to(DTYPE)"
CONDITION = "    {x} = tl.load({x}_ptr + place(i, shape, {x}_strides), mask=inside) != 0"
SCALAR = "    {x} = tl.full((BLOCK,), {x}, DTYPE)"


class Untranslatable(Exception):
    """The op's forward is no single expression of functions in the tables above."""


def source(op, scalars: tuple[int, ...] = ()) -> str:
    """The text of an elementwise op's kernel.  scalars: positions of inputs that are Python numbers."""
    return translate(op, scalars)[0]


@functools.cache
def translate(op, scalars: tuple[int, ...] = ()) -> tuple[str, frozenset[str]]:
    """-> (text of the kernel, kinds of dtype for which it is right)."""
    function = ast.parse(textwrap.dedent(inspect.getsource(op.definition))).body[0]
    last = function.body[-1] if isinstance(function, ast.FunctionDef) else None
    if (not isinstance(function, ast.FunctionDef) or not isinstance(last, ast.Return) or not last.value
            or len(function.body) > 2 or function.args.vararg or not op.elementwise):
        raise Untranslatable(f"{op.name}: its forward is not one expression")
    inputs = [a.arg for a in function.args.args]
    attributes = [a.arg for a in function.args.kwonlyargs]
    if set(inputs + attributes) & {"i", "n", "shape", "inside", "result"}:
        raise Untranslatable(f"{op.name}: one of {inputs + attributes} is a name that every kernel uses")
    numbers = [x for position, x in enumerate(inputs) if position in scalars]
    writer = _Writer(inputs, attributes)

    def load(position: int, x: str) -> str:
        line = SCALAR if position in scalars else CONDITION if position in op.index_inputs else ARRAY
        return line.format(x=x)

    text = KERNEL.format(
        name=f"{op.name}_kernel", unspecialized=repr(["n", *numbers]).replace("'", '"'),
        parameters=", ".join(x if x in numbers else f"{x}_ptr, {x}_strides" for x in inputs),
        constants=", ".join(f"{c}: tl.constexpr" for c in [*attributes, "DTYPE", "BLOCK"]),
        doc=(op.__doc__ or f"{ast.unparse(last.value)}.").partition("\n")[0],
        loads="\n".join(load(position, x) for position, x in enumerate(inputs)),
        expression=ast.unparse(ast.parse(writer.visit(last.value))))        # with the parentheses that it needs
    return text, frozenset(writer.kinds)


class _Writer(ast.NodeVisitor):
    """Writes an expression; `kinds` is what all its functions have in common."""

    def __init__(self, inputs: list[str], attributes: list[str]):
        self.inputs, self.attributes, self.kinds = inputs, attributes, set(ANY)

    def fill(self, rule: tuple[str, str], *operands: ast.expr) -> str:
        template, kinds = rule
        self.kinds &= set(kinds)
        library = template.startswith("libdevice")
        written = [self.as_block(x) if library else self.visit(x) for x in operands]
        if template.count("{}") not in (0, len(written)):
            raise Untranslatable(f"{template} takes {template.count('{}')} operands, not {len(written)}")
        return template.format(*written)

    def as_block(self, operand: ast.expr) -> str:
        """libdevice's functions take blocks of one dtype; a constant becomes one."""
        plain = isinstance(operand, ast.Constant) or (isinstance(operand, ast.Name) and operand.id in self.attributes)
        return f"tl.full((BLOCK,), {self.visit(operand)}, DTYPE)" if plain else self.visit(operand)

    def visit_BinOp(self, node: ast.BinOp) -> str:
        return self.fill(self.rule(node.op), node.left, node.right)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> str:
        return self.fill(self.rule(node.op), node.operand)

    def visit_Compare(self, node: ast.Compare) -> str:
        if len(node.ops) > 1:
            raise Untranslatable("a chain of comparisons")
        return self.fill(self.rule(node.ops[0]), node.left, node.comparators[0])

    def rule(self, operator: ast.AST) -> tuple[str, str]:
        if type(operator) not in OPERATORS:
            raise Untranslatable(f"the operator {type(operator).__name__}")
        return OPERATORS[type(operator)]

    def visit_Call(self, node: ast.Call) -> str:
        name = ast.unparse(node.func).removeprefix("np.")
        if name not in FUNCTIONS or node.keywords:
            raise Untranslatable(f"the function {ast.unparse(node.func)}")
        return self.fill(FUNCTIONS[name], *node.args)

    def visit_Name(self, node: ast.Name) -> str:
        if node.id not in self.inputs + self.attributes:
            raise Untranslatable(f"the name {node.id}")
        return node.id

    def visit_Constant(self, node: ast.Constant) -> str:
        return repr(node.value)

    def generic_visit(self, node: ast.AST) -> str:
        raise Untranslatable(ast.unparse(node))
