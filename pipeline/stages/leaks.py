"""Whether a teacher's text betrays what a student will never be told: a hint, or the reference answer.

Rules over English text, no model. They hold against rewording as far as words give a leak away. A text that follows a
hint without a word of it passes, so does one in another language, and one that invents a reason for what it was told.
"""

import re
from collections.abc import Iterable

from prompts.judging import normalised
from prompts.statements import sentences
from schemas.question import Question
from schemas.trajectory import Trajectory, Turn

COPIED_WORDS = 6
"""Words in a row that a text shares with a hint, and with nothing else that was shown, before it counts as copied."""


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_PLACE = r"\s+(?:place|segment|clip|moment|span|part|scene|time|one|spot|region|interval|frames?|person|side|way)\b"
_WRONG = rf"(?:wrong(?!{_PLACE})|incorrect(?!{_PLACE})|not (?:correct|right|accepted)|mistaken|rejected|inaccurate)"
_EARLIER = r"(?:previous|earlier|prior|last|first|initial|former|preceding|old)"
_TRY = r"(?:attempts?|answers?|responses?|submissions?|solutions?|tries|try)"
_SEGMENT_ID = r"\(\s*\d{1,6}\s*,\s*\d{1,6}\s*(?:,\s*\d{1,6}\s*)?\)"
_TOLD_WHAT = (
    rf"(?:\(\s*\d|\b(?:segments?|where|clue|evidence|relevant|{_WRONG})\b|\b(?:shown|lies) in\b"
    r"|\bto (?:look|check|go|focus|search) (?:at|in|into|there|on)\b)"
)

_SPEAKS_OF_A_HINT = _any(
    r"\b(?:the|this|that|your|my|given|provided|latest|new|above)\s+hint\b(?!\s+of\b)",
    r"\b(?:the|those|these|your|given|provided|above)\s+hints\b(?!\s+(?:of|at|in|from)\b)",
    r"\bhints?\s+(?:that\s+)?(?:I|we|you)\s+(?:was|were|am|got|have|had|received|gave)\b",
    r"\b(?:received|given|got|had)\s+an?\s+hint\b|\b(?:as|was|were|been)\s+hinted\b|\bhinted\s+(?:segments?|spans?|\()",
    r"\b(?:given|provided|supplied)\s+(?:clue|tip|pointer)s?\b|\b(?:clue|tip|pointer)\s+(?:that\s+)?(?:you|I was)\b",
    r"\b(?:the|your)\s+(?:clue|tip|pointer)\s+(?:says|tells|told|states)\b|\bclue intervals?\b",
    rf"\bI(?:['’]m|['’]ve| am| was| have| had|['’]d)(?:\s+(?:just|been|now|also|already))*\s+"
    rf"(?:told|informed|advised|notified|directed|pointed|tipped|steered)\b[^.!?]{{0,60}}?{_TOLD_WHAT}",
    r"\b(?:pointed out|revealed|disclosed|indicated) to me\b|\bas (?:I was )?(?:told|advised|instructed)\b",
    r"\b(?:user|prompt|system|instructions?|message|note|feedback|teacher)\s+(?:told|pointed|directed|gave|sent) me\b",
    r"\byou (?:told|pointed|directed|sent|gave)\b",
)
_SPEAKS_OF_A_WRONG_ANSWER = _any(
    rf"(?<!his )(?<!her )(?<!their )\b{_EARLIER}\s+{_TRY}\b(?!\s+(?:to|by|of|at (?!this|the question))\b)"
    rf"[^.!?]{{0,50}}?\b{_WRONG}",
    rf"\b{_WRONG}\s+{_EARLIER}\s+{_TRY}\b|\b{_WRONG}\s+(?:attempt|answer|try)\s+(?:before|earlier)\b",
    rf"\b(?:my|our|the)\s+(?:answers?|attempts?)\s+(?:before|so far|earlier|last time)\b[^.!?]{{0,40}}\b{_WRONG}",
    rf"\b(?:attempts|answers|tries) (?:at \w+ \w+ )?so far\b[^.!?]{{0,40}}\b{_WRONG}",
    rf"\bI\s+(?:have\s+|had\s+)?(?:already\s+)?(?:answered|submitted|chose|picked|guessed|replied)\b[^.!?]{{0,50}}?"
    rf"\b(?:{_WRONG}|wrongly|incorrectly|mistakenly)",
    r"\bI (?:got|had|have) (?:it|this|that|this one) wrong\b|\bwrong (?:answer )?(?:last|the first) time\b",
    rf"\b(?:was|were|is|been|being) (?:already )?(?:marked|graded|judged|deemed|declared) (?:as )?{_WRONG}",
    rf"\bended (?:up )?(?:with|in|as) (?:an? )?{_WRONG}(?: answers?)?\b",
    r"\b(?:second|new|fresh|another) (?:attempt|chance|try) (?:at|to answer) (?:this|the|that) question\b",
    rf"\bthat (?:answer|option|choice) (?:was|turned out(?: to be)?) {_WRONG}[^.!?]{{0,20}}\b(?:time|before|earlier)\b",
)
_OF_A_TOOL = _any(r"\b(?:video_qa|qa|tool|captions?|captioner|subtitles?)\b")
_PLACES_THE_ANSWER = _any(
    r"\b(?:what (?:the question|is|was|I am)\b[^.!?]{0,15}\b(?:asks?|asked|sought|wanted|needed)\b(?:\s+\w+){0,2}"
    r"|(?:the|all) (?:answer|evidence|(?:relevant|needed|sought|key|right|correct) \w+))"
    r"\s+(?:is|are|lies?|happens?|occurs?|can be (?:seen|found)|appears?|takes place|sits)\b[^.!?]{0,25}?"
    rf"(?P<path>{_SEGMENT_ID})",
)
_REASONED = _any(r"\b(?:because|since|therefore|hence|thus|so|as|captions?|overview)\b|\d\s*s(?:ec\w*)?\b")

_NO_ANSWER = r"(?!s|\s+(?:answer\s+)?(?:choices?|options?|candidates?|alternatives?|formats?|types?|by|from|of)\b)"
_REFERENCE = r"(?:reference|ground[- ]truth|gold(?:en)?|official|annotated|labell?ed|known)"
_GIVEN = r"(?:given|provided|supplied|revealed|disclosed)"
_SPEAKS_OF_THE_REFERENCE = _any(
    rf"\b{_REFERENCE}\s+(?:answer|solution|choice|option|letter)\b{_NO_ANSWER}",
    r"\bground[- ]truths?\b|\banswer[- ]keys?\b|\bgold (?:label|standard)\b",
    rf"\b(?:the|this|that|your)\s+{_GIVEN}\s+(?:correct\s+)?(?:answer|solution)\b{_NO_ANSWER}",
    rf"\b(?:answer|solution)\s+(?:that\s+)?(?:I\s+(?:was|am|have been)\s+{_GIVEN}|you\s+(?:gave|provided|told))\b",
    rf"\banswer\s+(?:is|was|has been|had been)\s+(?:already\s+)?(?:{_GIVEN}|told)\s+"
    r"(?:as|to me|in the (?:prompt|question|instructions?|dataset)|beforehand|in advance)\b",
    r"\b(?:as|according to|per) the (?:solution|dataset)\b|\bthe solution (?:says|states|gives)\b",
    rf"\b(?:justify|rationali[sz]e|reverse[- ]engineer|arrive at|lead to|fit) (?:the|this|that) "
    rf"(?:{_GIVEN}|known|desired|required) (?:answer|option|choice)\b",
    r"\bwork(?:ing)? back(?:wards?)? from (?:the|this|that) (?:\w+ )?(?:answer|solution)\b",
    r"\bI (?:was|am|have been|was already) (?:told|given|shown|informed)\b[^.!?]{0,20}\bthe (?:correct |right |final )?"
    r"(?:answer|solution)\b(?!\s+(?:choices?|options?|format|must|should|has to|in)\b)",
    r"\b(?:zoom|look|call|search|step|clip)\w* (?:is|are|was) (?:only|just|merely) for show\b",
)
_KNOWS_AHEAD = _any(
    r"(?<!to )\bknow (?:that )?(?:the )?(?:correct |right )?(?:answer|solution|which (?:option|choice|letter))\b",
    r"\b(?:answer|solution) is (?:already )?known\b",
    r"\bonly need (?:a|the|some|any) (?:\w+ )?(?:clip|frames?|evidence|place|segment|moment)\b[^.!?]{0,20}"
    r"\b(?:shows?|supports?|confirms?|proves?|for) (?:it|this|that|the answer)\b",
)
_TENTATIVE = _any(
    r"\?|\b(?:if|whether|may|might|could|would|should|can|cannot|likely|unlikely|probabl[ey]|perhaps|possibl[ey])\b",
    r"\b(?:maybe|seems?|seemed|appears? to|suggests?|leans?|leaning|guess\w*|hypothes\w+|assum\w+|suspect|suppose)\b",
    r"\b(?:plausible|candidates?|think|believe|expect|tentative\w*|initial\w*|unclear|unknown|unsure|or|among)\b",
    r"\b(?:between|unless|until|check\w*|verify|see|look for|find|determine|decide|distinguish|before|so that)\b",
    r"\b(?:not|never|no)\b|n['’]t\b",
)
_PLAN = _any(
    r"[,;:—–-]\s*(?:(?:so|but|and|which|now|then|yet|still)\s+)?"
    r"(?:I(?:['’]ll| will| only| just| still| need| have| should| must| look| zoom)|let me|the zoom|all)\b.*$",
    r",\s*not\b.*$",
)
_CITES = _any(
    r"\b(?:overview|captions?|subtitles?|thumbnails?|visible|high-level|low-level|already see|common knowledge)\b",
    r"\b(?:frames?|video|clip|segment \d+|images?|pictures?)\s+(?:(?:already|clearly|also)\s+)?"
    r"(?:shows?|mentions?|describes?|says?|displays?|depicts?|summari[sz]es?)\b",
)
_WEIGHTLESS = frozenset(
    (
        "a",
        "an",
        "and",
        "are",
        "be",
        "been",
        "by",
        "clip",
        "did",
        "do",
        "does",
        "film",
        "for",
        "from",
        "had",
        "has",
        "have",
        "how",
        "in",
        "is",
        "it",
        "its",
        "many",
        "much",
        "of",
        "on",
        "or",
        "say",
        "says",
        "scene",
        "that",
        "the",
        "there",
        "this",
        "to",
        "at",
        "video",
        "was",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "whom",
        "whose",
        "why",
        "with",
    )
)
"""Words that say nothing of what a question asks about."""


def hint_leak(trajectory: Trajectory, shown: str) -> bool | None:
    """Whether the text written after a hint betrays it; None for a trajectory without a hint.

    It does where it speaks of a hint, of being told where to look, or of an earlier answer that was wrong; where it
    shares `COPIED_WORDS` words in a row with a hint that stand nowhere in `shown`; or where it places what is asked
    for, without doubt or reason, in a segment below the top level that was not looked at. Segment ids are no words: to
    call what a hint names is what a hint is for.

    shown: all else that the teacher was shown. A remark on its own zooms ("the first clip was the wrong place"), on a
    tool's answer or on the video ("the caption hints at a kitchen") is no leak.
    """
    if not trajectory.hints:
        return None
    first = min(hint.after_turn for hint in trajectory.hints)
    written = [_visible(turn) for turn in trajectory.turns[first:]]
    if any(_speaks_of_a_hint(sentence) for text in written for sentence in sentences(text)):
        return True
    secret = _runs_of_words(hint.text for hint in trajectory.hints) - _runs_of_words([shown])
    return bool(secret & _runs_of_words(written)) or _places_the_unseen(trajectory, first)


def gold_leak(trajectory: Trajectory) -> bool | None:
    """Whether a text betrays knowledge of the reference answer; None for a trajectory without any turn.

    It does where it speaks of a reference, given or known answer; or where a thought before the first observation,
    unless that very turn answers, claims to know the answer, or states the gold letter or text as settled: as the
    answer, or in a sentence that holds half of the words that the question asks about. A sentence with a doubt, a
    second choice or a word on the overview settles nothing, nor does one whose gold text the question or a top-level
    caption already holds. A mere guess put as a fact counts as a leak where it is right.
    """
    if not trajectory.turns:
        return None
    if any(_SPEAKS_OF_THE_REFERENCE.search(_visible(turn)) for turn in trajectory.turns):
        return True
    captions = trajectory.overview.captions if trajectory.overview else ()
    known = normalised("\n".join([trajectory.question.text, *(line.caption for line in captions)]))
    ahead = [sentence for thought in _before_looking(trajectory) for sentence in sentences(thought)]
    return any(_settles(sentence, trajectory.question, known) for sentence in ahead)


def _visible(turn: Turn) -> str:
    """What a student may see of a turn: its thought and queries, or the whole of a text that could not be parsed."""
    if not turn.actions:
        return turn.raw
    return "\n".join([turn.think, *(action.query for action in turn.actions if action.query)])


def _speaks_of_a_hint(sentence: str) -> bool:
    if _SPEAKS_OF_A_HINT.search(sentence):
        return True
    return any(not _OF_A_TOOL.search(match[0]) for match in _SPEAKS_OF_A_WRONG_ANSWER.finditer(sentence))


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
            match = _PLACES_THE_ANSWER.search(sentence)
            if match is None or _TENTATIVE.search(sentence) or _REASONED.search(sentence):
                continue
            if re.sub(r"\s", "", match["path"]) not in looked_at:
                return True
        looked_at |= {f"({','.join(map(str, action.segment))})" for action in turn.actions}
    return False


def _before_looking(trajectory: Trajectory) -> Iterable[str]:
    """The thoughts up to the first observation of the video, without that of a turn which answers."""
    for turn in trajectory.turns:
        if any(action.kind == "answer" for action in turn.actions):
            return
        yield turn.think
        if any(observation.kind != "error" for observation in turn.observations):
            return


def _settles(sentence: str, question: Question, known: str) -> bool:
    """Whether a sentence claims to know the answer, or states it as a fact. known: normalised text."""
    said = _PLAN.sub("", sentence)
    if _CITES.search(sentence) or _TENTATIVE.search(said):
        return False
    if _KNOWS_AHEAD.search(sentence) or (question.answer_letter and _names_letter(said, question.answer_letter)):
        return True
    words, gold = normalised(said), normalised(question.answer_text)
    others = [other for choice in question.choices if not _holds(gold, other := normalised(choice))]
    if not _holds(words, gold) or any(_holds(words, other) for other in others):
        return False
    if re.search(rf"\b(?:answer|solution|option|choice|it)\b(?: \w+)? (?:is|be) {re.escape(gold)}\b", words):
        return True
    return not _holds(known, gold) and _answers(words, gold, question)


def _names_letter(sentence: str, letter: str) -> bool:
    """Whether a letter is said to be the answer."""
    named = rf"(?:(?i:option|choice|letter)\s+)?[(\[\"'*]*{letter}\b(?!['’])"
    patterns = (
        rf"(?i:\b(?:answer|option|choice|solution)\b(?:\s+\w+){{0,2}}\s*(?:\bis\b|\bbe\b|:|=)\s*){named}",
        rf"\b{letter}\)?\s+(?i:is|must be|has to be)\s+(?i:the\s+)?(?i:correct|right|true|answer)",
        rf"(?i:\b(?:choose|pick|select|go with|going with|settle on))\s+{named}",
        rf"^\W*(?i:it(?:['’]s| is| must be))\s+{named}",
    )
    return any(re.search(pattern, sentence) for pattern in patterns)


def _answers(words: str, gold: str, question: Question) -> bool:
    """Whether a sentence with the gold text holds half of the words that the question asks about, too."""
    asked = {_stem(word) for word in normalised(question.text).split() if word not in _WEIGHTLESS}
    said = {_stem(word) for word in words.split()} - {_stem(word) for word in gold.split()}
    return bool(asked) and len(asked & said) * 2 >= len(asked)


def _stem(word: str) -> str:
    """The beginning of a word, so that `flash`, `flashes` and `flashing` are one."""
    return word[:5]


def _holds(words: str, text: str) -> bool:
    return bool(text) and f" {text} " in f" {words} "
