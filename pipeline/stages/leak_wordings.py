"""The wordings by which a text betrays a hint or the reference answer, and those that excuse it: see `leaks`."""

import re


def any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_PLACE = r"\s+(?:place|segment|clip|moment|span|part|scene|time|one|spot|region|interval|frames?|person|side|way)\b"
_WRONG = (
    rf"(?:wrong(?!{_PLACE})|incorrect(?!{_PLACE})|not (?:get |got |been )?(?:correct|right|accepted)"
    r"|mistaken|rejected|inaccurate)"
)
_NOT_THEIRS = r"(?<!his )(?<!her )(?<!their )"
_EARLIER = r"(?:previous|earlier|prior|initial|former|preceding|old)"
_TRY = r"(?:attempts?|answers?|responses?|submissions?|solutions?|tries|try)"
_SEGMENT_ID = r"\(\s*\d{1,6}\s*,\s*\d{1,6}\s*(?:,\s*\d{1,6}\s*)?\)"
_TOLD_WHAT = (
    rf"(?:\(\s*\d|\b(?:segments?|where|clue|evidence|relevant|{_WRONG})\b|\b(?:shown|lies) in\b"
    r"|\bto (?:look|check|go|focus|search) (?:at|in|into|there|on)\b)"
)

SPEAKS_OF_A_HINT = any_of(
    # A hint, clue or piece of advice as a thing that was given; "the caption hints at" and "a hint of red" are not.
    r"\b(?:the|this|that|your|my|given|provided|latest|new|above)\s+hint\b(?!\s+of\b)",
    r"\b(?:the|those|these|your|given|provided|above)\s+hints\b(?!\s+(?:of|at|in|from)\b)",
    r"\bhints?\s+(?:that\s+)?(?:I|we|you)\s+(?:was|were|am|got|have|had|received|gave)\b",
    r"\b(?:received|given|got|had)\s+an?\s+hint\b|\b(?:as|was|were|been)\s+hinted\b|\bhinted\s+(?:segments?|spans?|\()",
    r"\b(?:given|provided|supplied)\s+(?:clue|tip|pointer)s?\b|\b(?:clue|tip|pointer)\s+(?:that\s+)?(?:you|I was)\b",
    r"\b(?:the|your)\s+(?:clue|tip|pointer|guidance|advice|feedback)\s+(?:says|tells|told|states|is to)\b",
    r"\b(?:clue|tip|pointer|guidance|advice)\s+(?:provided|given|supplied|I got)\b|\bclue intervals?\b",
    rf"\bit (?:has been|was) (?:suggested|indicated|advised|revealed|pointed out)\b[^.!?]{{0,60}}?{_TOLD_WHAT}",
    rf"\bI(?:['’]m|['’]ve| am| was| have| had|['’]d)(?:\s+(?:just|been|now|also|already))*\s+"
    rf"(?:told|informed|advised|notified|directed|pointed|tipped|steered)\b[^.!?]{{0,60}}?{_TOLD_WHAT}",
    r"\b(?:pointed out|revealed|disclosed|indicated) to me\b|\bas (?:I was )?(?:told|advised)\b(?!\s+(?:in|by|at)\b)",
    rf"^\W*hints?\s*:|\bgiven as\s+{_SEGMENT_ID}",
    r"\b(?:user|prompt|system|instructions?|message|note|feedback|they|someone)\s+"
    r"(?:told|informed|advised|points?|pointed|directs?|directed|gave|sent) me\b",
    r"\byou (?:told|pointed|directed|sent|gave)\b",
)
SPEAKS_OF_A_WRONG_ANSWER = any_of(
    rf"{_NOT_THEIRS}\b{_EARLIER}\s+{_TRY}\b(?!\s+(?:to|by|of|options?|choices?|at (?!this|the question))\b)"
    rf"[^.!?]{{0,50}}?\b{_WRONG}",
    rf"{_NOT_THEIRS}\b(?:first|last)\s+{_TRY}\s+(?:was|were|turned|ended|got|had been|has been|proved)\b"
    rf"[^.!?]{{0,30}}?\b{_WRONG}",
    rf"\b{_EARLIER}\s+attempt\s+(?:showed|shows|proved|failed|taught)\b|\b(?:last|first) attempt (?:showed|proved)\b",
    rf"\b{_WRONG}\s+{_EARLIER}\s+{_TRY}\b|\b{_WRONG}\s+(?:attempt|answer|try)\s+(?:before|earlier)\b",
    rf"\b(?:my|our)\s+(?:\w+\s+)?(?:answer|response)\b[^.!?]{{0,20}}\b(?:was|were|got)\b[^.!?]{{0,10}}\b{_WRONG}",
    r"\b(?:option|answer|choice|[A-E])\s+(?:has|had|was)\s+(?:already\s+)?(?:been\s+)?tried\b",
    rf"\bafter (?:an?|the|my) {_WRONG} answer\b|\bhaving answered (?:wrongly|incorrectly)\b",
    r"\bI failed (?:on|at|in) (?:the|my) (?:first|last|previous|earlier) (?:attempt|try)\b",
    rf"\b(?:my|our|the)\s+(?:answers?|attempts?)\s+(?:before|so far|earlier|last time)\b[^.!?]{{0,40}}\b{_WRONG}",
    rf"\b(?:attempts|answers|tries) (?:at \w+ \w+ )?so far\b[^.!?]{{0,40}}\b{_WRONG}",
    rf"\bI\s+(?:have\s+|had\s+)?(?:already\s+)?(?:answered|submitted|chose|picked|guessed|replied)\b[^.!?]{{0,50}}?"
    rf"\b(?:{_WRONG}|wrongly|incorrectly|mistakenly)",
    r"\bI (?:got|had|have) (?:it|this|that|this one) wrong\b|\bwrong (?:answer )?(?:last|the first) time\b",
    rf"\b(?:was|were|is|been|being) (?:already )?(?:marked|graded|judged|deemed|ruled|flagged) (?:as )?{_WRONG}",
    rf"\bended (?:up )?(?:with|in|as) (?:an? )?{_WRONG}(?: answers?)?\b",
    r"\b(?:second|new|fresh|another) (?:attempt|chance|try) (?:at|to answer) (?:this|the|that) question\b",
    rf"\bthat (?:answer|option|choice) (?:was|turned out(?: to be)?) {_WRONG}[^.!?]{{0,20}}\b(?:time|before|earlier)\b",
)
"""Of the teacher's own earlier answer, which no turn holds; a wrong place or a person's wrong answer is not meant."""

OF_A_TOOL = any_of(r"\b(?:video_qa|qa|tool|captions?|captioner|subtitles?)\b")
PLACES_THE_ANSWER = any_of(
    r"\b(?:what (?:the question|is|was|I)\b[^.!?]{0,15}\b(?:ask\w*|seek|sought|want\w*|need\w*)\b(?:\s+\w+){0,2}"
    r"|the question['’]s \w+|(?:the|all) (?:answer|evidence"
    r"|(?:asked|asked-about|requested|relevant|needed|sought|key|right|correct) \w+))"
    r"\s+(?:is|are|lies?|happens?|occurs?|can be (?:seen|found)|appears?|takes place|sits)\b[^.!?]{0,25}?"
    rf"(?P<path>{_SEGMENT_ID})",
)
"""`path`: the segment in which a sentence says that the answer is shown."""

REASONED = any_of(r"\b(?:because|since|therefore|hence|thus|so|as|captions?|overview)\b|\d\s*s(?:ec\w*)?\b")

_NO_ANSWER = r"(?!s|\s+(?:answer\s+)?(?:choices?|options?|candidates?|alternatives?|formats?|types?|by|from|of)\b)"
_REFERENCE = r"(?:reference|ground[- ]truth|gold(?:en)?|official|annotated|labell?ed|known)"
_GIVEN = r"(?:given|provided|supplied|revealed|disclosed)"
SPEAKS_OF_THE_REFERENCE = any_of(
    rf"\b{_REFERENCE}\s+(?:answer|solution|choice|option|letter)\b{_NO_ANSWER}",
    r"\bground[- ]truths?\b|\banswer[- ]keys?\b|\bgold (?:label|standard)\b",
    rf"\b(?:the|this|that|your)\s+{_GIVEN}\s+(?:correct\s+)?(?:answer|solution)\b{_NO_ANSWER}",
    rf"\b(?:answer|solution)\s+(?:that\s+)?(?:I\s+(?:was|am|have been)\s+{_GIVEN}|you\s+(?:gave|provided|told))\b",
    rf"\banswer\s+(?:is|was|has been|had been)\s+(?:already\s+)?(?:{_GIVEN}|told)\s+"
    r"(?:as|to me|in the (?:prompt|question|instructions?|dataset)|beforehand|in advance)\b",
    r"\b(?:as|according to|per) the (?:solution|dataset)\b|\bthe (?:solution|dataset) (?:says|states|gives|lists)\b",
    r"\blabel (?:for|of) (?:this|the) question\b|\b(?:according to|as|per) the reference\b(?! point)",
    r"\bthe reference (?:says|states|gives)\b|^\W*reference\s*:|\bwith the (?:\w+ )?answer in mind\b",
    r"\b(?:supposed|meant|expected|required) to (?:end up|arrive|land|conclude)\b",
    rf"\b(?:justify|rationali[sz]e|reverse[- ]engineer|arrive at|lead to|fit) (?:the|this|that) "
    rf"(?:{_GIVEN}|known|desired|required) (?:answer|option|choice)\b",
    r"\bwork(?:ing)? back(?:wards?)? from (?:the|this|that) (?:\w+ )?(?:answer|solution)\b",
    r"\bI (?:was|am|have been|was already) (?:told|given|shown|informed)\b[^.!?]{0,20}\bthe (?:correct |right |final )?"
    r"(?:answer|solution)\b(?!\s+(?:choices?|options?|format|must|should|has to|in)\b)",
    r"\b(?:zoom|look|call|search|step|clip)\w* (?:is|are|was) (?:only|just|merely) for show\b",
)
"""Of an answer that was known beforehand; "the given answer choices" and "the answer given by video_qa" are not."""

KNOWS_AHEAD = any_of(
    r"(?<!to )\bknow (?:that )?(?:the )?(?:correct |right )?(?:answer|solution|which (?:option|choice|letter))\b",
    r"\b(?:answer|solution) is (?:already )?known\b|\bI (?:already )?have the (?:right |correct )?answer\b",
    r"\bonly need (?:a|the|some|any) (?:\w+ )?(?:clip|frames?|evidence|place|segment|moment)\b[^.!?]{0,20}"
    r"\b(?:shows?|supports?|confirms?|proves?|for) (?:it|this|that|the answer)\b",
)
"""Of knowing the answer: a leak before the first look only."""

TENTATIVE = any_of(
    r"\?|\b(?:if|whether|may|might|could|would|should|can(?! be (?:seen|found))|cannot|likely|unlikely)\b",
    r"\b(?:probabl[ey]|perhaps|possibl[ey]|maybe|seems?|seemed|appears? to|suggests?|leans?|leaning|guess\w*)\b",
    r"\b(?:hypothes\w+|assum\w+|suspect|suppose|plausible|candidates?|think|believe|expect|tentative\w*)\b",
    r"\b(?:initial\w*|unclear|unknown|unsure|or|among|between|unless|until|check\w*|verify|see|look for|find)\b",
    r"\b(?:determine|decide|distinguish|before|once I|so that|not|never|no)\b|n['’]t\b",
)
"""A question, a doubt, a condition, a choice between several, or what is still to be found out."""

PLAN = any_of(
    r"[,;:—–-]\s*(?:(?:so|but|and|which|now|then|yet|still)\s+)?"
    r"(?:I(?:['’]ll| will| only| just| still| need| have| should| must| look| zoom)|let me|the zoom|all)\b.*$",
    r",\s*not\b.*$",
)
"""What follows a statement and takes nothing back of it."""

CITES = any_of(
    r"\b(?:overview|captions?|subtitles?|thumbnails?|visible|high-level|low-level|already see|common knowledge)\b",
    r"\b(?:frames?|video|clip|segment \d+|images?|pictures?)\s+(?:(?:already|clearly|also)\s+)?"
    r"(?:shows?|mentions?|describes?|says?|displays?|depicts?|summari[sz]es?)\b",
)
"""What a teacher may know an answer from before its first look."""

WEIGHTLESS = any_of(
    r"\b(?:a|after|an|and|are|be|been|by|clip|did|do|does|film|for|from|had|has|have|how|in|is|it|its|many)\b",
    r"\b(?:much|of|on|or|say|says|scene|that|the|there|this|to|at|video|was|were|what|when|where|which|who|whom|whose|why|with)\b",
)
"""Words that say nothing of what a question asks about."""
