"""multipart/form-data as the simulator reads it: a form becomes plain data, its files told by size and hash and kept as base64."""

from __future__ import annotations

import base64
import hashlib
import re
from email.message import Message
from typing import Any

__all__ = ["read_form"]


def read_form(content_type: str, body: bytes) -> dict[str, Any] | None:
    """`{"multipart": [...]}` with `{"name", "value"}` or `{"name", "filename", "content_type", "bytes", "sha256", "b64"}` for each field;
    None for what is no form."""
    head = Message()
    head["content-type"] = content_type
    boundary = head.get_param("boundary")
    if head.get_content_type() != "multipart/form-data" or not isinstance(boundary, str):
        return None
    mark = b"--" + boundary.encode("latin-1")
    pieces = (b"\r\n" + body).split(b"\r\n" + mark)
    if len(pieces) < 2 or pieces[0] or pieces[-1].strip() != b"--":
        return None
    fields = [_field(piece.removeprefix(b"\r\n")) for piece in pieces[1:-1]]
    return None if None in fields else {"multipart": fields}


def _field(piece: bytes) -> dict[str, Any] | None:
    head, blank, value = piece.partition(b"\r\n\r\n")
    told = dict(re.findall(r'(?im)[; ](name|filename)="([^"\r\n]*)"', head.decode("utf-8", "replace")))
    if not blank or "name" not in told:
        return None
    if "filename" not in told:
        return {"name": told["name"], "value": value.decode("utf-8", "replace")}
    kind = re.search(r"(?im)^content-type: *(\S+)", head.decode("utf-8", "replace"))
    return {
        **told,
        "content_type": kind[1] if kind else "",
        "bytes": len(value),
        "sha256": hashlib.sha256(value).hexdigest(),
        "b64": base64.b64encode(value).decode("ascii"),
    }
