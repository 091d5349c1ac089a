"""Tools apart from the system text, for a trainer that writes them there itself: else they would stand there twice."""

import json
from collections.abc import Sequence

from schemas.samples import SampleMessage

_BEFORE = (
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
)
_AFTER = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
    "</tool_call>"
)


def apart(messages: Sequence[SampleMessage], tools: Sequence[str]) -> tuple[list[SampleMessage], str]:
    """The messages without the tools in their system text, and the tools as one JSON list.

    Only where the Hermes form of Qwen's chat templates, which LLaMA-Factory has as `QWEN_TOOL_PROMPT` in its
    `data/tool_utils.py`, puts back the very bytes that the teacher saw; else the messages as they are, and "".
    """
    section = _BEFORE + "\n".join(tools) + _AFTER
    kept = list(messages)
    written = all(json.dumps(json.loads(tool), ensure_ascii=False) == tool for tool in tools)
    if not tools or not written or kept[0].role != "system" or not kept[0].content.endswith(section):
        return kept, ""
    kept[0] = kept[0].model_copy(update={"content": kept[0].content.removesuffix(section)})
    return kept, f"[{', '.join(tools)}]"
