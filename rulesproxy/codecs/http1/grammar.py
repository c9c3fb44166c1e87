"""The strict grammar of RFC 9110 §5 and RFC 9112 §2 to §7 as regular expressions over bytes.

`FIELD` and `FIELD_PADDED` find the field lines of a block, see `fields`.
All repeats are possessive or end at a delimiter they cannot contain, so matching is linear.
"""

from __future__ import annotations

import re

TCHAR = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"  # RFC 9110 §5.6.2
_VALUE = rb"[\t\x20-\x7e\x80-\xff]"  # VCHAR, obs-text, SP, HTAB; no other control character (RFC 9110 §5.5)

TOKEN = re.compile(TCHAR + rb"+\Z")
FIELD_VALUE = re.compile(_VALUE + rb"*\Z")
REQUEST_TARGET = re.compile(r"[\x21-\x7e]+\Z")
METHOD = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")

REQUEST_LINE = re.compile(rb"(" + TCHAR + rb"++) ([\x21-\x7e]++) HTTP/1\.([01])\r\n")
ANY_REQUEST_LINE = re.compile(TCHAR + rb"++ [\x21-\x7e]++ HTTP/([0-9])\.[0-9]\r\n")
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: (" + _VALUE + rb"*+))?\r\n")

FIELD = re.compile(rb"^(" + TCHAR + rb"++):[ \t]*+(" + _VALUE + rb"*+)(?<![ \t])\r\n", re.MULTILINE)
FIELD_PADDED = re.compile(rb"^(" + TCHAR + rb"++):(" + _VALUE + rb"*+)\r\n", re.MULTILINE)

BARE_LF = re.compile(rb"(?<!\r)\n")
LENIENT_HEAD_END = re.compile(rb"\n\r?\n")  # what h11 takes for the end of a head

# RFC 9112 §7.1.1, with a quoted-string that cannot hold control characters.
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
_EXTENSION = (rb"[ \t]*+;[ \t]*+" + TCHAR + rb"++(?:[ \t]*+=[ \t]*+(?:" + TCHAR + rb"++|" + _QUOTED + rb"))?")
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16}+)((?:" + _EXTENSION + rb")*+)\r\n")
