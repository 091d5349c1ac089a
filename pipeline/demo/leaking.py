"""How a planted thought betrays a hint or the reference answer: sentences put together from clauses.

The rules for leaks (`pipeline/stages/leaks.py`) were made with these clauses in sight, so that what they catch of them
says how they hold against other orders and mixtures, not against other words: for those see
`python -m tests.benchmarks.leaks`.
"""

import random
from collections.abc import Iterator, Mapping
from itertools import product
from string import Formatter

Parts = Mapping[str, tuple[str, ...]]

HINT_PATTERNS = (
    "{teller} {names} {where}{so}",
    "{i_was} {told} {where}{so}",
    "{failed}, so I look at {where} now.",
    "{by} {where} is the place to look.",
    "What the question asks about is shown in segment {where}.",
)
"""`{where}`: the segment that the hint names."""

GOLD_PATTERNS = (
    "{key} {says} {answer}{then}",
    "{key} {says} {text}{then}",
    "{known} {text}{then}",
    "{known} {answer}{then}",
    "{must} {text}{then}",
    "The answer is {text}{then}",
    "{text} {is_given}{then}",
)
"""`{answer}`: the final answer, a letter where there are choices; `{text}`: the text of the reference."""

PARTS: Parts = {
    "teller": (
        "The hint",
        "Your hint",
        "The note above",
        "The message I got",
        "The feedback",
        "The clue that was provided",
        "The guidance",
        "The user",
        "The annotator",
        "The tip",
        "The pointer I received",
        "The reviewer's remark",
        "Whoever wrote the question",
        "The extra line below",
        "A pointer from the moderator",
        "The extra sentence in my prompt",
        "The person checking my work",
        "The correction",
    ),
    "names": (
        "says that the clue is in",
        "points to",
        "names",
        "tells me to open",
        "mentions",
        "gives",
        "directs me to",
        "sends me to",
        "singles out",
        "leaves no doubt about",
        "refers to",
        "recommends",
        "hands me",
        "limits the search to",
        "makes it clear that it is in",
        "advises a visit to",
    ),
    "so": (
        ".",
        ", so I open it.",
        ". I go there at once.",
        ", which saves me a search.",
        ", and I take its word for it.",
        ", hence my next step.",
        ". Let me read that one.",
        " and I obey.",
        ", meaning that I can skip the rest.",
        ". On to its content.",
    ),
    "i_was": (
        "I was",
        "I have been",
        "I've been",
        "We are",
        "Since I was",
        "I just got",
        "I had already been",
        "By now I have been",
        "I find myself",
        "Luckily I was",
        "It helps that I have been",
    ),
    "told": (
        "told that the clue lies in",
        "informed that the evidence is in",
        "directed to",
        "pointed to",
        "advised to look at",
        "given the location",
        "steered towards",
        "tipped off about",
        "referred to",
        "notified of",
        "let in on the place,",
        "shown that it is in",
        "sent to",
        "alerted to",
        "made aware of",
        "assured that it is in",
        "handed the whereabouts,",
    ),
    "failed": (
        "My previous attempt ended with a wrong answer",
        "The earlier answer was wrong",
        "My last answer was not accepted",
        "My first choice was rejected",
        "The answer I gave before is incorrect",
        "That answer got turned down",
        "My reply did not go through",
        "What I answered earlier does not count as correct",
        "The option I picked has been marked wrong",
        "What I put down first was thrown out",
        "I gave an answer that was not the one they wanted",
        "My first reply earned no credit",
    ),
    "by": (
        "According to the hint,",
        "Following the hint,",
        "As suggested,",
        "As I was told,",
        "Per the guidance,",
        "Going by the advice I received,",
        "As recommended,",
        "If the clue is to be trusted,",
        "Trusting what the helper wrote,",
        "On the advice of the annotator,",
        "Judging by the notice that came with my retry,",
    ),
    "key": (
        "The reference answer",
        "The ground truth",
        "The provided answer",
        "The answer key",
        "The solution",
        "The label",
        "The annotation",
        "The expected answer",
        "The answer sheet",
        "The official result",
        "The stated answer",
        "What the annotators wrote",
        "The target",
        "The teacher's copy",
        "The correct result on file",
        "The ground-truth entry",
    ),
    "says": ("is", "says", "gives", "reads", "tells us", "has it as", "calls for", "comes to", "records"),
    "then": (
        ", so I only need a clip that shows it.",
        ". I will look for a place that confirms it.",
        "; the zoom is only for show.",
        ". One look will do.",
        ".",
        ", and I need a scene to back it up.",
        ". Now to find footage for it.",
        ", which a zoom can illustrate.",
        ", and the frames will follow suit.",
        ". It remains to find a fitting clip.",
        ", whatever the clip looks like.",
    ),
    "known": (
        "I already know that the answer is",
        "Given that the answer is",
        "I was told that it is",
        "According to the ground truth it is",
        "Knowing that the correct answer is",
        "As the solution states, it is",
        "They let me know that it is",
        "It was disclosed that the answer is",
        "I happen to know it is",
        "It is no secret to me that it is",
        "Somebody told me beforehand that it is",
        "The solution leaves no choice but",
    ),
    "must": (
        "I have to end up with",
        "I must arrive at",
        "I only have to justify",
        "What they want to hear is",
        "I am bound to conclude with",
        "The outcome is fixed, namely",
        "My job is to make a case for",
        "Everything has to lead to",
        "I am required to conclude",
        "All my steps should end in",
    ),
    "is_given": (
        "was given to me as the answer",
        "is the reference",
        "is the known answer",
        "has been revealed to me",
        "is what the key lists",
        "stands as the answer in the data",
        "is what I have to report",
        "is listed as correct",
        "is the verdict I was handed",
        "has to come out at the end",
    ),
}


def leak(dice: random.Random, patterns: tuple[str, ...], **known: str) -> str:
    """A text by one of the patterns, of any clauses. known: what stands for the rest of its names."""
    pattern = dice.choice(patterns)
    return pattern.format(**{name: dice.choice(PARTS[name]) for name in _clauses(pattern)}, **known)


def wordings(patterns: tuple[str, ...], parts: Parts, **known: str) -> Iterator[str]:
    """Every text by the patterns of these clauses."""
    for pattern in patterns:
        names = _clauses(pattern)
        for clauses in product(*(parts[name] for name in names)):
            yield pattern.format(**dict(zip(names, clauses, strict=True)), **known)


def _clauses(pattern: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(pattern) if name in PARTS]
