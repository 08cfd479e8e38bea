"""The wires a `Simulator` can speak, by the name it takes them by."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from allm.testing.wires.chat import ChatWire
from allm.testing.wires.embeddings import EmbeddingsWire, GeminiEmbeddingsWire
from allm.testing.wires.gemini import GeminiWire
from allm.testing.wires.images import ImagesWire
from allm.testing.wires.messages import MessagesWire
from allm.testing.wires.moderations import ModerationsWire
from allm.testing.wires.responses import ResponsesWire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allm.testing.wires.contract import Wire

__all__ = ["WIRES"]

WIRES: Mapping[str, Wire] = MappingProxyType(
    {
        wire.name: wire
        for wire in (
            ChatWire(),
            EmbeddingsWire(),
            GeminiWire(),
            GeminiEmbeddingsWire(),
            ImagesWire(),
            MessagesWire(),
            ModerationsWire(),
            ResponsesWire(),
        )
    }
)
