"""What a cut leaves out of the rows that meet its condition, since they are alike or too many."""

from pydantic import Field

from pipeline.shards.formats.layout import Kind
from schemas.record import Record


class Thinning(Record):
    """What is left out of the rows that meet every clause, in this order; None and "" leave nothing out.

    pass_rate_above, pass_rate_below: share of a question's attempts that is right, in 0..1, between which, without the
    bounds themselves, it must lie. Attempts whose outcome is known count, failed ones and corrected ones as wrong.
    distinct_questions, distinct_thoughts: of questions, of attempts on one video whose texts are at least so alike,
    in 0..1 (`pipeline/shards/alike.py`), one is kept. per_question, per_video, per_letter: attempts at most, for RL
    questions; a letter is that of the reference answer. best_by: a column by which a question's attempts are ranked,
    highest first, with `-` before it lowest first, NULL last; alone it means one a question.
    """

    pass_rate_above: float | None = Field(default=None, ge=0, lt=1)
    pass_rate_below: float | None = Field(default=None, gt=0, le=1)
    distinct_questions: float | None = Field(default=None, gt=0, le=1)
    distinct_thoughts: float | None = Field(default=None, gt=0, le=1)
    per_question: int | None = Field(default=None, ge=1)
    per_video: int | None = Field(default=None, ge=1)
    per_letter: int | None = Field(default=None, ge=1)
    best_by: str = ""

    @property
    def most(self) -> int | None:
        """Attempts of a question at most; None for no bound."""
        return self.per_question or (1 if self.best_by else None)

    @property
    def asked(self) -> dict[str, object]:
        """What is left out by, by name; empty where nothing is."""
        return self.model_dump(exclude_defaults=True)


NOT_THINNED = Thinning()


def in_words(asked: Thinning, kind: Kind, seed: str) -> list[str]:
    """A sentence for each way of thinning, in order."""
    of_questions = kind == "rl"
    what = "questions" if of_questions else "attempts"
    most = f"the {'least' if asked.best_by.startswith('-') else 'most'} {asked.best_by.removeprefix('-')}"
    chosen, drawn = f"those with {most}", f"drawn by the seed {seed}"
    said = []
    if asked.pass_rate_above is not None:
        said.append(f"A question is kept whose pass rate over all its attempts is above {asked.pass_rate_above}.")
    if asked.pass_rate_below is not None:
        said.append(f"A question is kept whose pass rate over all its attempts is below {asked.pass_rate_below}.")
    if asked.distinct_questions:
        said.append(f"Of questions on one video whose texts are alike to {asked.distinct_questions}, one is kept.")
    if asked.distinct_thoughts:
        said.append(f"Of attempts on one video whose thoughts are alike to {asked.distinct_thoughts}, one is kept.")
    if of_questions and asked.best_by:
        said.append(f"A question is told by its attempt with {most}.")
    elif asked.most:
        said.append(f"Of each question at most {asked.most}, {chosen if asked.best_by else drawn}.")
    if asked.per_video:
        said.append(f"Of each video at most {asked.per_video} {what}, of as many questions as there are, {drawn}.")
    if asked.per_letter:
        said.append(f"Of each reference letter at most {asked.per_letter} {what}, {drawn}.")
    return said
