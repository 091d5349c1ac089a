"""Whether a teacher's text betrays what a student will never be told: a hint, or the reference answer.

Rules over English text, no model: turns of phrase that betray by themselves (`leak_wordings`), and clauses that betray
together (`leak_concepts`). Of paraphrases that no rule was fitted to they miss some (`python -m tests.benchmarks.leaks`
says how many), which a judge may catch (`judged_leaks`). A text that follows a hint without a word of it passes, so
does one in another language, and one that invents a reason for what it was told.
"""

import re
from collections.abc import Iterable

from pipeline.stages.leak_concepts import answer_failed, knows_gold, plain_sentence, told_where
from pipeline.stages.leak_wordings import (
    CITES,
    KNOWS_AHEAD,
    OF_A_TOOL,
    PLACES_THE_ANSWER,
    PLAN,
    REASONED,
    SPEAKS_OF_A_HINT,
    SPEAKS_OF_A_WRONG_ANSWER,
    SPEAKS_OF_THE_REFERENCE,
    TENTATIVE,
    WEIGHTLESS,
)
from prompts.judging import normalised
from prompts.statements import sentences
from schemas.question import Question
from schemas.trajectory import Trajectory, Turn

COPIED_WORDS = 6
"""Words in a row that a text shares with a hint, and with nothing else that was shown, before it counts as copied."""

_RIGHT = r"(?:correct|right|true|actual) (?:answer|option|choice)"
_WHAT_IT_IS = r"(?:answer|solution|option|choice|it|word|text|count|number|total|outcome|result)(?: \w+)?(?: \w+)?"
_SURELY = r"(?:(?:clearly|certainly|surely|definitely|obviously|simply) )?"


def hint_leak(trajectory: Trajectory, shown: str) -> bool | None:
    """Whether the text written after a hint betrays it; None for a trajectory without a hint or a reflection.

    It does where it speaks of a hint, of being told where to look, or of an earlier answer that was wrong; where it
    shares `COPIED_WORDS` words in a row with a hint that stand nowhere in `shown`; or where it places what is asked
    for, without doubt or reason, in a segment below the top level that was not looked at. Segment ids are no words: to
    call what a hint names is what a hint is for.

    shown: all else that the teacher was shown. A remark on its own zooms ("the first clip was the wrong place"), on a
    tool's answer or on the video ("the caption hints at a kitchen") is no leak. That an answer was wrong is what a
    reflection is told, as a hint would.
    """
    first = first_told(trajectory)
    if first is None:
        return None
    written = [visible(turn) for turn in trajectory.turns[first:]]
    if any(_speaks_of_a_hint(sentence) for text in written for sentence in _said(text)):
        return True
    secret = _runs_of_words(hint.text for hint in trajectory.hints) - _runs_of_words([shown])
    return bool(secret & _runs_of_words(written)) or _places_the_unseen(trajectory, first)


def gold_leak(trajectory: Trajectory) -> bool | None:
    """Whether a text betrays knowledge of the reference answer; None for a trajectory without any turn.

    It does where it speaks of a reference, given or known answer; or where a thought before the first observation,
    unless that very turn answers, claims to know the answer, or states the gold letter or text as settled: as the
    answer, in a sentence that holds half of the words that the question asks about, or in one that speaks of being
    told, of a source that has it, or of a look that is to support it (`leak_concepts.knows_gold`). A sentence with a
    doubt, a second choice or a word on the overview settles nothing, nor does one whose gold text the question or a
    top-level caption already holds. A mere guess put as a fact counts as a leak where it is
    right.
    """
    if not trajectory.turns:
        return None
    if any(SPEAKS_OF_THE_REFERENCE.search(said) for turn in trajectory.turns for said in _said(visible(turn))):
        return True
    captions = trajectory.overview.captions if trajectory.overview else ()
    known = normalised("\n".join([trajectory.question.text, *(line.caption for line in captions)]))
    ahead = [said for thought in before_looking(trajectory) for said in _said(thought)]
    question = trajectory.question
    return any(_settles(said, question, known) or knows_gold(said, question) for said in ahead)


def first_told(trajectory: Trajectory) -> int | None:
    """The first turn that was written after a hint, or after word that the answer was wrong; None without either."""
    told_after = [hint.after_turn for hint in trajectory.hints]
    told_after += [trajectory.reflection.after_turn] if trajectory.reflection else []
    return min(told_after, default=None)


def visible(turn: Turn) -> str:
    """What a student may see of a turn: its thought and queries, or the whole of a text that could not be parsed."""
    if not turn.actions:
        return turn.raw
    return "\n".join([turn.think, *(action.query for action in turn.actions if action.query)])


def _said(text: str) -> list[str]:
    """The sentences of a text, as the rules read them."""
    return [plain_sentence(sentence) for sentence in sentences(text)]


def _speaks_of_a_hint(sentence: str) -> bool:
    if SPEAKS_OF_A_HINT.search(sentence) or told_where(sentence) or answer_failed(sentence):
        return True
    return any(not OF_A_TOOL.search(match[0]) for match in SPEAKS_OF_A_WRONG_ANSWER.finditer(sentence))


def _runs_of_words(texts: Iterable[str]) -> set[tuple[str, ...]]:
    """Every `COPIED_WORDS` words in a row, case folded, numbers left out."""
    found = set()
    for text in texts:
        words = re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)?", text.casefold())
        found |= {tuple(words[i : i + COPIED_WORDS]) for i in range(len(words) - COPIED_WORDS + 1)}
    return found


def _places_the_unseen(trajectory: Trajectory, first: int) -> bool:
    """Whether a thought from turn `first` on knows which segment shows what is asked for before it was opened."""
    looked_at: set[str] = set()
    for number, turn in enumerate(trajectory.turns):
        for sentence in sentences(turn.think) if number >= first else ():
            match = PLACES_THE_ANSWER.search(sentence)
            if match is None or TENTATIVE.search(sentence) or REASONED.search(sentence):
                continue
            if re.sub(r"\s", "", match["path"]) not in looked_at:
                return True
        looked_at |= {f"({','.join(map(str, action.segment))})" for action in turn.actions}
    return False


def before_looking(trajectory: Trajectory) -> Iterable[str]:
    """The thoughts up to the first observation of the video, without that of a turn which answers."""
    for turn in trajectory.turns:
        if any(action.kind == "answer" for action in turn.actions):
            return
        yield turn.think
        if any(observation.shows for observation in turn.observations):
            return


def _settles(sentence: str, question: Question, known: str) -> bool:
    """Whether a sentence claims to know the answer, or states it as a fact. known: normalised text."""
    said = PLAN.sub("", sentence)
    words, gold = normalised(said), normalised(question.answer_text)
    if _named_as(words, rf"^answer {{gold}}|{_RIGHT} {{gold}}", gold):
        return True
    if CITES.search(sentence) or TENTATIVE.search(said):
        return False
    if KNOWS_AHEAD.search(sentence) or (question.answer_letter and _names_letter(said, question.answer_letter)):
        return True
    others = [other for choice in question.choices if not _holds(gold, other := normalised(choice))]
    if not _holds(words, gold) or any(_holds(words, other) for other in others) or _in_small_letters(said, question):
        return False
    if _named_as(words, rf"{_WHAT_IT_IS} (?:is|be|s|reads|says|spells) {_SURELY}{{gold}}", gold):
        return True
    return _named_as(words, rf"{{gold}} is {_RIGHT}", gold) or (
        not _holds(known, gold) and _answers(words, gold, question)
    )


def _in_small_letters(said: str, question: Question) -> bool:
    """Whether a reference in capitals, as of a sign, stands in a sentence as a common word: `fish` for `FISH`."""
    return question.answer_text.isupper() and question.answer_text not in said


def _named_as(words: str, pattern: str, gold: str) -> bool:
    """Whether words hold a pattern; `{gold}` in it stands for the gold text."""
    return bool(gold) and re.search(rf"\b(?:{pattern.format(gold=re.escape(gold))})\b", words) is not None


def _names_letter(sentence: str, letter: str) -> bool:
    """Whether a letter is said to be the answer."""
    named = rf"(?:(?i:option|choice|letter)\s+)?[(\[\"'*]*{letter}\b(?!['’])"
    patterns = (
        rf"(?i:\b(?:answer|option|choice|solution)\b(?:\s+\w+){{0,2}}\s*(?:\bis\b|\bbe\b|:|=)\s*{_SURELY}){named}",
        rf"\b{letter}\)?\s+(?i:is|must be|has to be)\s+(?i:the\s+)?(?i:correct|right|true|answer)",
        rf"(?i:\b(?:choose|pick|select|go with|going with|settle on))\s+{named}",
        rf"(?i:\b(?:correct|right|true) (?:answer|option|choice)),?\s+{named}",
        rf"^\W*(?i:obviously|clearly|certainly|surely|definitely)\W+{named}\W*$",
        rf"^\W*(?i:it(?:['’]s| is| must be))\s+{named}",
    )
    return any(re.search(pattern, sentence) for pattern in patterns)


def _answers(words: str, gold: str, question: Question) -> bool:
    """Whether a sentence with the gold text holds half of the words that the question asks about, too."""
    asked = {_stem(word) for word in normalised(question.text).split() if not WEIGHTLESS.fullmatch(word)}
    said = {_stem(word) for word in words.split()} - {_stem(word) for word in gold.split()}
    return bool(asked) and len(asked & said) * 2 >= len(asked) and not said & {"frame", "fps", "need", "requi"}


def _stem(word: str) -> str:
    """The beginning of a word, so that `flash`, `flashes` and `flashing` are one."""
    return re.sub(r"(?<=\w\w\w)(?:es|ed|ing|s)$", "", word)[:5]


def _holds(words: str, text: str) -> bool:
    return bool(text) and f" {text} " in f" {words} "
