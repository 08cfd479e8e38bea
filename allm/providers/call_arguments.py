"""The arguments of a tool call as they go back over a wire: always the text of a JSON object.

A model may have written something else: half an object, two of them, an object inside a text. Servers parse what they are sent back
(vLLM answers 400, llama.cpp 500), so that a thread with such a call could never be continued.
"""

from allm.messages import ToolCallPart
from allm.wire_json import MalformedJson, decode, encode, is_object

__all__ = ["arguments_text"]


def arguments_text(call: ToolCallPart) -> str:
    """What the model wrote, byte for byte, if it is an object: a prompt cache needs that. Else the arguments as they were understood."""
    raw = call.raw_arguments
    if raw is not None:
        try:
            if is_object(decode(raw.encode())):
                return raw
        except (MalformedJson, UnicodeEncodeError):
            pass  # it is told as what was made of it
    return encode(call.arguments).decode()
