"""Conditions on the fields of runs, such as "width <= 1 and optimizer == 'sam'": comparisons, and no code that runs.

condition    comparison | condition and condition | condition or condition | not condition | (condition)
comparison   value operator value, also chained: 0 < rho <= 0.1
operator     == != < <= > >= in, not in
value        a field, a number, a string, True, False, or a list of such
"""

import ast
import operator
from collections.abc import Mapping

_OPERATORS = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}


class Condition:
    """A condition that is parsed once and asked of many rows.

    Raises ValueError for a text that is no condition, and, when it is called, for a field that there is not and for
    values that cannot be compared.

    >>> condition = Condition("width <= 1 and optimizer == 'sam'")
    >>> condition({"width": 0.5, "optimizer": "sam"})
    True
    """

    def __init__(self, text: str):
        self.text = text
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise self._error(getattr(error, "msg", None) or str(error)) from error
        self._check(self._tree)

    def __call__(self, row: Mapping) -> bool:
        return self._holds(self._tree, row)

    def _check(self, node: ast.AST) -> None:
        """Refuse everything but what the language has."""
        if isinstance(node, ast.BoolOp):
            parts = node.values
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            parts = [node.operand]
        elif isinstance(node, ast.Compare) and all(type(op) in _OPERATORS for op in node.ops):
            for value in (node.left, *node.comparators):
                self._check_value(value)
            return
        else:
            raise self._error(f"{ast.unparse(node)} is no comparison")
        for part in parts:
            self._check(part)

    def _check_value(self, node: ast.AST) -> None:
        if isinstance(node, ast.List | ast.Tuple):
            for element in node.elts:
                self._check_value(element)
            return
        negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
        number = node.operand if negative else node
        if not (isinstance(node, ast.Name) or _is_constant(node, str) or _is_constant(number, int | float)):
            raise self._error(f"{ast.unparse(node)} is no field, number or string")

    def _holds(self, node: ast.AST, row: Mapping) -> bool:
        if isinstance(node, ast.BoolOp):
            return (all if isinstance(node.op, ast.And) else any)(self._holds(part, row) for part in node.values)
        if isinstance(node, ast.UnaryOp):
            return not self._holds(node.operand, row)
        values = [self._value(value, row) for value in (node.left, *node.comparators)]
        try:
            return all(_OPERATORS[type(op)](a, b) for op, a, b in zip(node.ops, values, values[1:], strict=False))
        except TypeError as error:
            raise self._error(f"{ast.unparse(node)} cannot be compared ({error})") from error

    def _value(self, node: ast.AST, row: Mapping):
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.UnaryOp):
            return -self._value(node.operand, row)
        if isinstance(node, ast.List | ast.Tuple):
            return [self._value(element, row) for element in node.elts]
        if node.id not in row:
            raise self._error(f"there is no field {node.id}; the fields are {', '.join(row)}")
        return row[node.id]

    def _error(self, reason: str) -> ValueError:
        return ValueError(f"condition {self.text!r}: {reason}")


def _is_constant(node: ast.AST, kind) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, kind)
