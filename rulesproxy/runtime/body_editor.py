"""The editor of bodies: text and JSON changed in the decoded body, which is coded again as it was."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

import jsonpatch
import jsonpointer

from rulesproxy.model.http import Message
from rulesproxy.runtime.fields import FieldEditor
from rulesproxy.runtime.substitution import Substitution

#: Fields that say something about the body that was: validators, digests, and that parts of it can be had.
BODY_FACTS = (b"etag", b"content-digest", b"repr-digest", b"digest", b"content-md5", b"accept-ranges")

# What bodies that are no JSON and patches that do not fit their document raise.
_UNFIT = (ValueError, TypeError, LookupError, AttributeError, RecursionError, jsonpatch.JsonPatchException,
          jsonpointer.JsonPointerException)


class Body(FieldEditor):
    """Read only where something is changed in it: a body that is replaced may be whatever it is, or missing."""

    message: Message

    def __init__(self, message: Message, name: str) -> None:
        super().__init__(message, name)
        self.content: bytes | None = None
        self._set = False

    def _read(self) -> bytes:
        """The body as it is by now. It was found readable before (`x.response_ready`)."""
        if self.content is None:
            self.content = self.message.get_content(strict=True) or b""
        return self.content

    def set(self, value: Any) -> None:
        self.content = value or b""
        self._set = True

    def replace(self, substitutions: Sequence[Substitution]) -> None:
        before = content = self._read()
        for substitution in substitutions:
            content = substitution.apply_bytes(content)
        if content is not before:
            self.set(content)

    def change_json(self, op: str, document: Any) -> None:
        """A body that is not JSON, or a patch that does not fit it, is left as it is."""
        try:
            current = json.loads(self._read())
            if op == "json_merge":
                changed = merge(current, document)
            else:
                # A copy: later operations write into the values of earlier ones, and the document is the rule's.
                changed = jsonpatch.apply_patch(current, copy.deepcopy(document))
            content = json.dumps(changed, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except _UNFIT:
            return
        self.set(content.encode("utf-8", "replace"))

    @property
    def changed(self) -> bool:
        return self._set

    def write(self) -> None:
        if self._set:
            self.message.set_content(self.content)


def merge(target: Any, patch: Any) -> Any:
    """JSON Merge Patch (RFC 7396 §2). The result shares no object with the patch that could be written to."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged
