"""A user's SQL condition: one expression over the columns of a row, and nothing that looks elsewhere."""

import difflib
import json
from collections.abc import Iterator
from typing import Any

import duckdb

from pipeline.shards.columns import COLUMNS
from pipeline.shards.reading import first_line
from schemas.errors import UserError

_REFUSED = {
    "SUBQUERY": "a subquery",
    "WINDOW": "a window function",
    "STAR": "*",
    "PARAMETER": "a parameter",
    "POSITIONAL_REFERENCE": "a column's position",
}

_UNSTEADY = """
SELECT 1 FROM duckdb_functions() WHERE function_name = ? AND (stability <> 'CONSISTENT' OR
    regexp_matches(function_name, '^(current_.*|age|version|hash)$') OR
    regexp_matches(macro_definition, '(?i)current_|sleep|select')) LIMIT 1
"""
"""Functions that tell the time, or whatever else is another each time: `age` of one date is its age today; `hash` and
`version` are those of a release of the database."""


def checked(db: duckdb.DuckDBPyConnection, table: str, condition: str) -> str:
    """A condition as one parenthesised expression. Raises UserError where it is anything else.

    Allowed are expressions of the columns and functions that give the same result every time; refused are further
    statements, subqueries, aggregates, unknown columns, and whatever is not true or false. table: one with the columns
    of `rows`.
    """
    wrapped = f"({condition}\n)"
    # What parses both inside brackets and without is one expression that closes no bracket of ours.
    for shape in (wrapped, condition):
        _refuse_foreign(db, _parsed(db, f"SELECT 1 FROM rows WHERE {shape}", condition), condition)
    try:
        db.execute(f"EXPLAIN SELECT 1 FROM {table} AS rows WHERE {wrapped}")
        described = db.execute(f"DESCRIBE SELECT {wrapped} FROM {table} AS rows").fetchall()
    except duckdb.Error as error:
        raise UserError(f"condition {_quoted(condition)}: {first_line(error)}") from error
    if described[0][1] != "BOOLEAN":
        raise UserError(f"condition {_quoted(condition)} gives {described[0][1]}, not true or false: compare it")
    return wrapped


def known_column(name: str) -> str:
    """The column that a user named. Raises UserError where there is none."""
    if name.lower() in _MEANINGS:
        return name.lower()
    raise UserError(f"there is no column {name}.{_guess(name)} Columns: {', '.join(_MEANINGS)}")


_MEANINGS = {column.name: column.meaning for column in COLUMNS}


def _parsed(db: duckdb.DuckDBPyConnection, sql: str, condition: str) -> Any:
    (answer,) = db.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone() or ("{}",)
    parsed = json.loads(answer)
    if parsed.get("error", True) or len(parsed["statements"]) != 1:
        fault = parsed.get("error_message", "not one expression")
        raise UserError(f"condition {_quoted(condition)} is not one SQL expression: {fault.splitlines()[0]}")
    return parsed["statements"][0]["node"].get("where_clause")


def _refuse_foreign(db: duckdb.DuckDBPyConnection, tree: Any, condition: str) -> None:
    nodes = list(_nodes(tree))
    bound = {name for node in nodes if node.get("class") == "LAMBDA" for name in _names(node.get("lhs"))}
    for node in nodes:
        kind = node.get("class")
        if kind in _REFUSED:
            raise UserError(f"condition {_quoted(condition)} holds {_REFUSED[kind]}; only columns of a row are allowed")
        if kind == "COLUMN_REF":
            _require_column(node["column_names"], bound, condition)
        if kind == "FUNCTION" and db.execute(_UNSTEADY, [node["function_name"].lower()]).fetchone():
            raise UserError(
                f"condition {_quoted(condition)}: {node['function_name']}() is not allowed: a cut must come out the "
                "same again"
            )


def _require_column(path: list[str], bound: set[str], condition: str) -> None:
    name = path[1] if len(path) == 2 and path[0].lower() == "rows" else path[0]
    if name.lower() in _MEANINGS or name in bound:
        return
    quotes = " Texts stand in 'single quotes'." if f'"{name}"' in condition else ""
    raise UserError(
        f"condition {_quoted(condition)}: there is no column {name}.{_guess(name)}{quotes} "
        f"Columns: {', '.join(_MEANINGS)}"
    )


def _guess(name: str) -> str:
    close = [f"{n} ({_MEANINGS[n]})" for n in difflib.get_close_matches(name.lower(), _MEANINGS, 2)]
    return f" Did you mean {' or '.join(close)}?" if close else ""


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def _names(tree: Any) -> Iterator[str]:
    for node in _nodes(tree):
        if node.get("class") == "COLUMN_REF":
            yield node["column_names"][0]


def _quoted(condition: str) -> str:
    line = " ".join(condition.split())
    return f"`{line if len(line) <= 120 else line[:117] + '...'}`"
