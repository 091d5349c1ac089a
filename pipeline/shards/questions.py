"""The questions whose rows meet a condition."""

from pipeline.shards.table import Rows


def questions_where(rows: Rows, condition: str, all_attempts: bool) -> set[str]:
    """Ids of the questions of which any row that was rolled out meets the condition; with all_attempts, every row.

    Raises UserError for a bad condition.
    """
    each = "bool_and" if all_attempts else "bool_or"
    met = f"rolled_out AND coalesce({rows.check(condition)}, false)"
    return {row["question_id"] for row in rows.query(f"SELECT question_id FROM rows GROUP BY 1 HAVING {each}({met})")}
