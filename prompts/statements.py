"""Splitting a thought into the statements that it makes about what is seen.

A statement stands alone, so that a verifier can be asked about it with the frames and nothing else: "At 14.0s I see
that the red sign says FISH, so the answer is B." gives "The red sign says FISH." Rules for English text; what is in
doubt is left out, since a sentence that is no claim about frames would be held against a sound thought.
"""

import re

_SENTENCE_END = re.compile(
    r"(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bvs\.)(?<!\bMr\.)(?<!\bDr\.)(?<!\bMrs\.)(?:(?<=[.!?])|(?<=[.!?][\"'”’)*]))\s+"
    r"(?=[\"'“‘(*]*[A-Z0-9])|\s*\n\s*"
)
_SPACES = re.compile(r"[^\S\n]+")
_BULLET = re.compile(r"^(?:[-*•]\s+|\d+[.)]\s+)+")

_FRAMES = r"(?:frames?|clips?|zooms?|views?|images?|pictures?|footage|close-?ups?|looks?|inspections?|videos?)"
_NUMBER = r"\d+(?:\.\d+)?"
_TIME = rf"(?:\d+:\d{{2}}(?:\.\d+)?|{_NUMBER}\s*(?:s|secs?|seconds?)?)"
_LEAD_INS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?:so|now|then|here|there|indeed|also|and|but|well|okay|ok|yes|clearly|finally|first|next|moreover|however|again"
        r"|actually|meanwhile|afterwards|later|great|good)\b,?\s+(?!far\b|is\b|are\b|was\b|were\b|on\b)",
        rf"(?:at|around|by|near|about|from|between|in|during|within)\s+(?:about\s+)?[\[(]?{_TIME}"
        rf"(?:\s*(?:-|–|to|and|until|,)\s*{_TIME})?[\])]?,?\s+",
        rf"(?:in|from|during|on|at|with|looking at|zooming in on)\s+(?:the|this|that|these|those|all)\s+"
        rf"(?:[\w-]+\s+){{0,3}}{_FRAMES}\b[^,.]{{0,40}},\s+",
        r"(?:i|we)\s+(?:can\s+)?(?:(?:now|clearly|also|actually|then|again|plainly)\s+)*"
        r"(?:see|read|observe|notice|make out|spot)\s+(?:(?:now|clearly)\s+)?(?:that\s+)?",
        rf"(?:the|these|this|those|that|all|both)\s+(?:[\w-]+\s+){{0,3}}{_FRAMES}\s+(?:at\s+{_TIME}\s+)?"
        r"(?:(?:now|clearly|also)\s+)*(?:shows?|reveals?|confirms?|depicts?|displays?|proves?)\s+(?:that\s+)?",
        r"it\s+is\s+(?:now\s+)?(?:clear|visible|evident|plain|confirmed|apparent)\s+(?:here\s+)?that\s+",
        r"(?:the\s+)?(?:video_qa|tool|qa)\s+(?:says|answers|replies|reports|states|tells me)\s*:?\s*(?:that\s+)?",
    )
)
"""Where and how something was seen, at the beginning of a sentence."""

_CONCLUSION = re.compile(
    r",?\s+(?:and\s+)?(?:so|hence|thus|therefore)\s+(?!that\b|far\b|much\b|many\b).*$"
    r"|,\s+(?:which|meaning|confirming|ruling|matching|indicating|suggesting|implying|consistent|as expected)\b.*$",
    re.IGNORECASE | re.DOTALL,
)
_JOINT = re.compile(
    r",?\s+(?:and|while|whereas|but)\s+(?=(?:the|an?|another|his|her|their|its?|he|she|they|there)\s)", re.I
)
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|had|says?|said|reads?|shows?|spells?|flash(?:es)?|bears?|holds?|wears?|stands?|sits?"
    r"|walks?|moves?|opens?|picks?|puts?|takes?|turns?|lies|hangs?|goes|comes|looks?|appears?|contains?|displays?)\b",
    re.IGNORECASE,
)
_NO_STATEMENT = re.compile(
    r"\?|[<\[]|\(\s*\d+\s*,|^\W*[A-Z]\W*$|^[A-Z][.)]\s|\b(?:is|be|pick|choose)\s+\(?[A-Z]\b\W*$"
    # Of the speaker and the task, not of the frames.
    r"|\b(?:I|I'm|I’m|I'll|I’ll|I've|I’ve|me|my|myself|we|us|our|let's)\b"
    r"|\b(?:answers?|options?|choices?|questions?|segments?|captions?|overview|subtitles?|video_qa|zoom\w*|fps)\b"
    r"|\b(?:timestamps?|resolution|hints?|clues?|reference|information|evidence|enough|sufficient|conclusions?)\b"
    r"|\b(?:earlier|previous\w*|correct|incorrect|wrong|confirm\w*|consistent|rules? out|settles?|so far)\b"
    r"|\bmatch(?:es)? (?:the|option|what)\b"
    # Of a look that was in vain.
    r"|\btoo (?:early|late|soon|short|long|coarse|sparse|few|wide|narrow|low)\b"
    r"|^(?:therefore|thus|hence|consequently|overall|in conclusion|in short|given|since|because|based on|to)\b"
    r"|^(?:this|that|it|these|which)\s+(?:means|implies|leaves|eliminates|suffices|helps)\b"
    r"|^(?:look|check|go|open|next|one more|time to|need|worth|still)\b"
    # In doubt, or still to come.
    r"|\b(?:may|might|could|would|should|must|will|shall|can|need\w*|seems?|seemingly|appears? to|looks? like)\b"
    r"|\b(?:likely|unlikely|probabl[ey]|perhaps|possibl[ey]|maybe|presumably|apparently|unclear|unsure|if|whether)\b"
    r"|\b(?:suggest\w*|impl(?:y|ies)|indicat\w*|either|expect\w*|plausibl[ey]|suspect\w*|assum\w+|guess\w*)\b"
    # Absent: frames show what is there.
    r"|\b(?:no|not|never|none|nothing|nobody|nowhere|neither|nor|cannot|without|absent|missing|blank)\b|n['’]t\b"
    r"|\b(?:unreadable|illegible|invisible|too (?:small|blurry|blurred|dark|far))\b",
    re.IGNORECASE,
)
_FEWEST_WORDS = 3


def sentences(text: str) -> list[str]:
    """The sentences of a text, each line and list item apart, without outer whitespace and bullets."""
    parts = (_BULLET.sub("", part.strip()) for part in _SENTENCE_END.split(_SPACES.sub(" ", text)))
    return [part for part in parts if part]


def statements(thought: str) -> tuple[str, ...]:
    """What a thought says is seen: each sentence once, in order, with a capital and a full stop.

    Left out: questions, plans, doubts, what is not seen, and sentences about the answer, the captions or the task. Cut
    off: where and how it was seen ("In the clip I can see that …"), and what follows from it ("…, so the answer is B").
    """
    clauses = (clause for sentence in sentences(thought.replace("**", "")) for clause in sentence.split("; "))
    found = (_statement(part) for clause in clauses for part in _parts(clause))
    return tuple(dict.fromkeys(statement for statement in found if statement))


def _parts(clause: str) -> list[str]:
    """A clause without its conclusion, split where it joins two that stand alone."""
    kept = _CONCLUSION.sub("", clause)
    parts: list[str] = []
    for part in _JOINT.split(kept):
        if parts and not (_VERB.search(parts[-1]) and _VERB.search(part)):
            return [kept]
        parts.append(part)
    return parts


def _statement(part: str) -> str:
    """The part as a statement; "" where it is none."""
    if part.endswith("?"):
        return ""
    text = _without_lead_in(part.strip())
    if _NO_STATEMENT.search(text) or len(text.split()) < _FEWEST_WORDS:
        return ""
    return text[:1].upper() + text[1:].rstrip(" .,:;!") + "."


def _without_lead_in(text: str) -> str:
    while match := next((m for pattern in _LEAD_INS if (m := pattern.match(text))), None):
        text = text[match.end() :]
    return text
