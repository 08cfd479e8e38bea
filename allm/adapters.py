"""For authors of adapters: all that one needs, from one place. `examples/third_party` has an adapter, `AdapterConformance` tests it.

An `Adapter` makes an `HttpRequest` of a `Request`, and a `Decoder` that makes events of the answer. It registers by the entry-point
group `allm.adapters`, or is named as `"package.module:Class"`. It never sees a key: it says which header takes it. An answer is a
stream if its content type is one of an event stream or of JSON lines; else `Decoder.body` gets all of it.
"""

from allm.blocks import CallContext, MessageBuilder
from allm.providers.adapter import Adapter, Decoder, HttpRequest, Script
from allm.providers.decoding import BaseDecoder
from allm.providers.failures import error_of, failure
from allm.sse import FrameTooLarge, SseDecoder
from allm.wire_json import MalformedJson, decode, encode

__all__ = [
    "Adapter", "BaseDecoder", "CallContext", "Decoder", "FrameTooLarge", "HttpRequest", "MalformedJson", "MessageBuilder", "Script",
    "SseDecoder", "decode", "encode", "error_of", "failure",
]  # fmt: skip
