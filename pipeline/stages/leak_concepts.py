"""What betrays a hint or the reference by the way its clauses go together, whatever the words: see `leaks`.

`leak_wordings` knows turns of phrase that betray by themselves. Here a sentence betrays where it says two things: that
somebody let its writer know, and what that was, a place in the video or the answer. A sentence that names an honest
source, such as a caption, does not.
"""

import re
import unicodedata
from collections.abc import Collection

from pipeline.stages.leak_wordings import CITES, TENTATIVE, WEIGHTLESS, any_of
from prompts.judging import normalised
from schemas.question import Question

_TO_TELL = (
    r"(?:says?|said|tells?|told|states?|stated|points?|pointed|names?|named|mentions?|mentioned|indicates?|indicated"
    r"|suggests?|suggested|directs?|directed|narrows?|narrowed|gives?|gave|marks?|marked|flags?|flagged|refers?"
    r"|singles?"
    r"|sends?|sent|steers?|recommends?|recommended|leaves? no doubt|identif\w+|specif\w+|contains?|lists?|reads?"
    r"|wrote"
    r"|highlights?|places?|wants?|has it|is (?:that|to)|being|hands?|handed|limits?|advises?|advised"
    r"|makes? (?:it )?clear|records?"
    r"|recorded|comes to|calls for|speaks? of|asks? for|confines?|restricts?|sets?|shows?|locates?|puts?|talks? of"
    r"|reveals?)"
)
_BETWEEN = r"(?:just|already|also|now|only|recently|kindly|explicitly|even|once|then)"
_TOLD = any_of(
    # Passive: "I was told", "having been handed", "B has been handed to me", "passed along".
    rf"\b(?:I|we|me)\b[^.!?,;]{{0,24}}?\b(?:am|are|was|were|been|being|got|get"
    rf"|find myself)\s+(?:{_BETWEEN}\s+)*(?:told|informed"
    r"|advised|notified|directed|pointed|steered|nudged|tipped|guided|referred|given|handed|shown|sent|let in"
    r"|let know"
    r"|passed|provided|supplied|alerted|briefed|urged|made aware|assured|trusted with)\b",
    r"\bhaving (?:just |already )?been (?:told|informed|advised|directed|pointed|given|handed|shown|sent|tipped)\b",
    r"\b(?:provided|supplied|given|handed|passed|disclosed|revealed|indicated|suggested|recommended|flagged|marked"
    r"|communicated|announced|pointed out|singled out|made known|shown)\s+(?:\w+ )?(?:to|for) (?:me|us)\b",
    r"\bpassed (?:along|on)\b|\b(?:was|has been|been) (?:disclosed|revealed|given away|leaked)\b|\bgives? away\b",
    # Active: "they let me know", "someone has narrowed it down for me".
    rf"\b(?<!this )(?<!that )(?<!which )(?:{_TO_TELL}) (?:it down )?(?:for )?(?:me|us)\b|\b(?:lets?"
    rf"|letting) me know\b",
    rf"\b(?:they|someone|somebody|whoever [\w ]{{0,24}})\s+(?:has |have |had )?{_TO_TELL}\b",
    # A notice that only its writer has: advice always, a note or a message where it is said to tell something.
    r"\b(?:the|your|this|that|my|an?|some|(?:new|extra|additional|further) )\s*(?:\w+ )?(?:hint|tip|pointer"
    r"|guidance|advice"
    r"|feedback|recommendation|suggestion|reminder|nudge|assistance|annotators?|annotation|grader|reviewer|checker"
    r"|correction|moderator|helper|examiner)\b"
    r"(?! (?:of|on) )",
    r"\b(?:clue|note|remark|message|user|prompt|instructions?|information|line|sentence|notice|person (?:\w+ing"
    r"|who)|system|problem statement|help)\b"
    rf"[^.!?]{{0,45}}?\b(?:{_TO_TELL}|trusted|(?:provided|supplied|given|received|handed|got|above|below|came with))\b",
    r"\bas (?:I (?:was|have been|am) )?(?:suggested|advised|recommended|told|hinted|directed|indicated"
    r"|disclosed)\s*(?:[,;]|$)",
    r"\bit says here\b|\bthanks to the (?:additional|extra|further|new) \w+|\b(?:insider|advance|prior) knowledge\b"
    r"|\b(?:ahead of time|in advance|beforehand)\b",
    r"\bI (?:now |already )?know (?:exactly |now )?where to look\b|\bhappen to know\b",
    r"\b(?:supposed|meant|expected|told) to (?:be )?(?:look|go|check|open|examine|inspect|search)\w*\b",
)
"""That somebody let the writer know something, or told it to do something."""

_PLACE = any_of(
    r"\(\s*\d{1,6}\s*(?:,\s*\d{1,6}\s*)*\)|\bsegments? \d|\b(?:first|second|third|fourth|last) (?:segment|half"
    r"|quarter)\b",
    r"\d\s*s(?:ec\w*)?\s*(?:to|-|and|until)\s*\d|\bthis video\b|\bwhere (?:to look|the \w+ (?:is|lies|happens"
    r"|can))\b",
    r"\b(?:right|correct|relevant|exact|asked-about) (?:place|segment|spot|part|location|interval|moment|clip|bit)\b",
)
_HANDED_PLACE = any_of(
    r"\b(?:clue|ground[- ]truth|reference|gold|annotated|labell?ed|supplied|provided|disclosed) "
    r"(?:interval|segment|span|location|place|moment)\b(?!s)",
)
_HONEST = any_of(
    r"\b(?:captions?|captioned|video_qa|qa|tool|subtitles?|overview|narrator|narrates|thumbnails?|question|frames?"
    r"|clip)\b"
    r"|\bon (?:the|a|his|her) (?:screen|wall|door|phone|map|paper|desk)\b|\b(?:he|she|him|her|his|their)\b"
)
_NO_SOURCE = any_of(
    r"\b(?:get|getting|read|reading|calls?|calling|asks?|asking|requests?|fetch|query|queries|zoom\w*|look\w*)\s+"
    r"(?:\w+\s+){0,2}?(?:its|the|a|that|this)\s+(?:[\w-]+\s+)?(?:captions?|clip|frames?)\b"
    r"|(?<=\bwrote )the question\b|(?<=\basked )the question\b|(?<=\bset )the question\b"
)
"""What is going to be called, and what somebody wrote: the source of nothing."""

_FAILS = (
    r"(?:wrong(?! (?:place|segment|clip|moment|person))|incorrect|rejected|turned down|refused|declined|dismissed"
    r"|denied"
    r"|struck (?:down|out|off)|thrown out|no good|a failure|failed|fails|missed the mark|fell short|invalid|mistaken"
    r"|not (?:\w+ )?(?:right|correct|accepted|accept|pass|count|hold|go through|get through|good enough|succeed"
    r"|stand))"
)
_WAS = r"(?:was|were|is|has|had|got|came|turned|proved|did|does|been|missed|failed|fell)"
_ANSWER = r"(?:answer|reply|response|submission|choice|option|letter|selection|conclusion|attempt)"
_OLD = r"(?:previous|earlier|last|prior|first|initial|former|old|own|chosen)"
ANSWER_FAILED = any_of(
    rf"\bmy (?:{_OLD} )?{_ANSWER}\b(?! of (?:segment|clip|place))[^.!?:]{{0,40}}?"
    rf"\b(?:{_WAS}\b[^.!?:]{{0,25}}?\b{_FAILS}|missed the mark|failed|fell short)\b",
    rf"\b(?:my|the) (?:{_OLD}) guess {_WAS}\b[^.!?:]{{0,10}}\b(?:rejected|not (?:accepted|pass)|turned down)\b",
    rf"\b(?:the|that|what|which) (?:{_OLD} )?(?:{_ANSWER} )?(?:that )?I (?:had |have )?(?:answered|gave|picked"
    rf"|chose|selected"
    rf"|submitted|replied|said|given|put down|chosen)\b[^.!?:]{{0,30}}?\b{_WAS}\b[^.!?:]{{0,25}}?\b{_FAILS}\b",
    rf"\bthat (?:{_ANSWER}) (?:was|got|has been|did)\b[^.!?:]{{0,12}}\b(?:rejected|turned down|refused"
    rf"|not (?:accepted|pass))\b",
    r"(?-i:\b[A-H]) (?:was|has been|had been|got|did)\b[^.!?:]{0,12}\b(?:rejected|turned down|refused|struck \w+"
    r"|not (?:accepted|pass|go through)|marked (?:as )?(?:wrong|incorrect))",
    r"\b(?:my|that|the|an) (?:\w+ )?(?:answer|reply|choice|response)\b[^.!?:]{0,20}\b(?:no credit"
    r"|not the one (?:that )?they)\b",
    r"\bI (?:have |had )?(?:picked|chose|chosen|selected|gave|given) the wrong (?:letter|option|answer|choice)\b",
    r"^\W*(?:(?:okay|ok|so|well|hmm|right|alright|oh)\W+)*wrong answer\b(?=\W)",
    rf"\b(?:grader|reviewer|checker|evaluator|user|they|annotator)\b[^.!?]{{0,40}}\b(?:{_FAILS}|reject\w*)\b",
    r"\b(?:having|I have|I had|I) (?:was |been |was being )corrected\b|\basked to (?:reconsider|try again|rethink)\b",
    r"\b(?:learn(?:ed|t)|told|informed)\b[^.!?]{0,10} that (?-i:[A-H]|my answer) (?:is|was) (?:not|wrong|incorrect)",
)
"""Of an answer that the writer gave, and that somebody else found wrong."""

_DOUBT = any_of(
    r"\?|\b(?:if|whether|may|might|could|perhaps|maybe|possibl[ey]|probabl[ey]|likely|seems?|looks? like|suggests?"
    r"|guess\w*)\b",
    r"\b(?:unclear|unsure|not sure|cannot|can ?not|never|or|between|assum\w+|suppose|hypothes\w+|expected from)\b"
    r"|n't\b",
)
_SOURCE_SAYS = any_of(
    r"\b(?:answers?|key|solution|metadata|dataset|data|annotat\w+|reference(?! (?:to|point|frame)\b)"
    r"|ground[- ]truth|label(?! on)"
    r"|hint|target|verdict|teacher's \w+|correct (?:result|entry)|entry|official \w+|stated \w+|provided \w+"
    r"|marked \w+|intended \w+|desired \w+|outcome|result)\b[^.!?]{0,30}?"
    r"(?:\b(?:is|are|was|says|reads|gives|tells|states|lists|has|have|being|indicates|wrote|shows|names|of|as"
    r"|attached|records|comes to|calls for|demands|leaves)\b|[:=])",
    r"\b(?:answer|reference|key|solution)\b\W*$|\bthe answer in the\b|\b(?:as|according to|per) (?:the|what) (?:key"
    r"|annotat\w+)\b",
    r"\bwe (?:already )?know\b|\bas we (?:all )?know\b|\bI (?:already |happen to )?know (?:it|that|the)\b"
    r"|\bknowing\b",
    r"\b(?:listed|marked|given|recorded|filed|stored|noted) as (?:\w+ )?(?:correct|right|the answer)\b"
    r"|\bno secret to me\b",
)
_BOUND = any_of(
    r"\b(?:I|me|my|we|they|reader)\b[^.!?]{0,30}?\b(?:have to|has to|must|need to|needs to|am to|supposed to"
    r"|meant to|expected"
    r" to|bound to|wants? to|only need|going to|required to|should|(?:job|task|aim|goal) is to"
    r"|expect)\b[^.!?]{0,16}?\b(?:end up|arrive|reach"
    r"|get to|land|conclude|report|lead|justify|support|back|prove|produce|hear|argue|make a case|defend"
    r"|point (?:at|to)"
    r"|demonstrate|present|explain|here|show|end in|come out|steer)\b",
    r"\b(?:everything|all|it) (?:\w+ )?(?:has|have) to (?:lead|point|end|come out)\b|\bhas to come out\b",
    r"\b(?:what|which|that) (?:\w+ )?(?:I|they|we) (?:must|have to|need to|want to|am to|are to) (?:report|hear|see"
    r"|say|give|read)\b",
    r"\b(?:answer|response|conclusion|outcome|result|reply)\b[^.!?]{0,12}\b(?:will|must|has to|shall|should"
    r"|is going to) be\b",
    r"\bit shall be\b",
)
"""That the end is settled, and the way to it is what is left to find."""

_SERVES = any_of(
    r"\b(?:only|just|merely|simply) (?:have |need |want |has )?(?:to )?(?:show|point|find|locate|demonstrate"
    r"|justify|prove"
    r"|support|illustrate|confirm)\b",
    r"\bback(?:s|ed|ing)? (?:it |this |that )?up\b|\bbears? (?:it|that|this) out\b|\bto (?:show|prove"
    r"|illustrate) (?:it|that)\b",
    r"\b(?:zoom|zooming|look|clip|frame)\b[^.!?]{0,20}?\b(?:will|can|would)\b[^.!?]{0,12}?\b(?:do|confirm|prove"
    r"|show (?:it|that)"
    r"|illustrate|bear|make (?:it|that|this))\b",
    r"\b(?:frame|footage|evidence|scene|clip|moment)\b[^.!?]{0,10}\b(?:for it|supports? it|shows it|backs)\b"
    r"|\bdig up\b",
    r"\bneeds? a (?:frame|clip|scene|zoom)\b|\bI can (?:prove|justify)\b",
)
"""That a look is wanted to support what was said, and not to find out."""

_ASIDE = any_of(
    r"\bbut\b|^(?:\W*\w+\W*){1,2}$|\b(?:camera|plan|vitamin|side|team|group|point|type|class|grade|part|person"
    r"|player|room"
    r"|exit|gate|block|figure|letter|row|track|building|hepatitis) (?-i:[A-Z]\b)"
)
"""Of a letter: a sentence with a reservation, hardly any words, or another thing of that name."""

PRETENDS = any_of(
    r"\b(?:zoom|look|clip|search|call|step)\w*\b[^.!?]{0,20}\b(?:a (?:mere )?formality|for (?:the sake of form"
    r"|form's sake|show"
    r"|appearances?)|look (?:earned|natural|genuine))\b|\bI (?:\w+ ){0,3}(?:for the sake of form"
    r"|pretend to (?:search|look|find))",
    r"\b(?:make|making) (?:it|this|the \w+|my \w+) (?:seem|look|appear|sound)? ?(?:as if I|as though I|natural"
    r"|earned|genuine)",
    r"\b(?:whatever|no matter what) (?:I|the (?:clips?|frames?|zooms?|videos?)) (?:see|finds?|looks?|shows?|says?)\b|"
    r"\bI zoom anywhere\b",
    r"\b(?:outcome|result|conclusion|answer) is (?:fixed|predetermined|preset|decided beforehand)\b",
)
"""Of a search whose end is known: no gold needs to be named."""


def plain_sentence(text: str) -> str:
    """A sentence as the rules read it: one form of every quote, dash and space, no emphasis, no contractions."""
    text = unicodedata.normalize("NFKC", text).replace("’", "'").replace("‘", "'")
    text = re.sub(r"[\u200b-\u200f\ufeff]|\*\*|__|(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)|`", "", text)
    text = re.sub(r"[\u2010-\u2015]", "-", text)
    for short, full in _CONTRACTIONS:
        text = short.sub(full, text)
    return " ".join(text.split())


_CONTRACTIONS = tuple(
    (re.compile(short, re.IGNORECASE), full)
    for short, full in (
        (r"\b(can)'t\b", r"\1not"),
        (r"\bwon't\b", "will not"),
        (r"(?<=\w)n't\b", " not"),
        (r"(?<=\b[IiWw])'m\b|(?<=\bI)'m\b", " am"),
        (r"(?<=\w)'ve\b", " have"),
        (r"(?<=\w)'re\b", " are"),
        (r"(?<=\w)'ll\b", " will"),
        (r"\bI'd been\b", "I had been"),
    )
)


def told_where(sentence: str) -> bool:
    """Whether a sentence says that its writer was told of a place in the video. sentence: a `plain_sentence`."""
    said = _NO_SOURCE.sub("", sentence)
    if _HANDED_PLACE.search(said):
        return True
    return bool(_TOLD.search(said) and _PLACE.search(said)) and not _HONEST.search(said)


def answer_failed(sentence: str) -> bool:
    """Whether a sentence says that an answer of its writer was not accepted. sentence: a `plain_sentence`."""
    said = _NO_SOURCE.sub("", sentence)
    return bool(ANSWER_FAILED.search(said)) and not _HONEST.search(said)


def knows_gold(sentence: str, question: Question) -> bool:
    """Whether a sentence from before the first look treats the reference as known: names it, without another choice,
    as something that was told, that is to be shown or that a source holds."""
    if PRETENDS.search(sentence):
        return True
    if CITES.search(sentence) or _DOUBT.search(sentence) or not _names_gold_alone(sentence, question):
        return False
    if any(of.search(sentence) for of in (_TOLD, _SOURCE_SAYS, _BOUND, _SERVES)):
        return True
    lettered = bool(question.answer_letter) and _lettered(sentence, question.answer_letter)
    return lettered and not TENTATIVE.search(sentence) and not _ASIDE.search(sentence)


def _names_gold_alone(sentence: str, question: Question) -> bool:
    """Whether a sentence names the reference by letter, or by a word that no other choice has, and no other"
    " choice."""
    text, gold = f" {normalised(sentence)} ", normalised(question.answer_text)
    others = [other for choice in question.choices if (other := normalised(choice)) != gold]
    letters = {letter for letter in question.letters if _lettered(sentence, letter)}
    if letters - {question.answer_letter} or any(f" {other} " in text and other not in gold for other in others):
        return False
    if gold and f" {gold} " in text and f" {gold} " not in f" {normalised(question.text)} ":
        return True
    words = set(text.split())
    if any(words & _telling(choice, question) for choice in others):
        return False
    return bool(letters) or bool(words & _telling(gold, question))


def _telling(choice: str, question: Question) -> set[str]:
    """The words of a choice that neither the question nor another choice holds."""
    rest = [other for other in question.choices if normalised(other) != normalised(choice)]
    elsewhere: Collection[str] = set(f"{normalised(question.text)} {' '.join(map(normalised, rest))}".split())
    return {w for w in normalised(choice).split() if w not in elsewhere and not WEIGHTLESS.fullmatch(w)}


def _lettered(sentence: str, letter: str) -> bool:
    """Whether a sentence has a letter as the name of a choice; `A` and `I` are words, too."""
    article = r"(?!\s+(?!(?:is|has|was|must|as|in|it|from|and|or)\b)\w)" if letter in "AI" else ""
    return re.search(rf"(?<![\w'])(?<!\d )[\"'(\[]?{letter}(?![\w']){article}", sentence) is not None
