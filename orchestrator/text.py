"""What programs wrote for a terminal, as plain text."""

from __future__ import annotations

import codecs
import io
import re

# As ECMA-48 builds them: CSI (colours, cursor), OSC (titles, links), with intermediates (character sets), short ones.
_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]{0,32}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)|[ -/]{1,4}[0-~]|[0-OQ-WYZ\\`-~])"
)
_BEGUN_ESCAPE = re.compile(r"\x1b(?:\[[0-?]{0,32}[ -/]{0,4}|\][^\x07\x1b]{0,256}\x1b?|[ -/]{0,4})\Z")


def without_escapes(text: str) -> str:
    """``text`` without escape sequences: colours, titles, links, moves of the cursor. Takes linear time."""
    return _ESCAPE.sub("", text)


class TerminalText:
    """Bytes written for a terminal, as they come, to text: without escape sequences, every line ended by ``\\n``.

    A character, a line's end or an escape sequence that is cut between two pieces is held back until the next.
    What is not UTF-8 becomes U+FFFD.
    """

    def __init__(self) -> None:
        utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._decoder = io.IncrementalNewlineDecoder(utf8, translate=True)
        self._held = ""

    def __call__(self, data: bytes, *, last: bool = False) -> str:
        """The text of the next piece; with ``last``, also what was held back."""
        text = self._held + self._decoder.decode(data, last)
        begun = None if last else _BEGUN_ESCAPE.search(text)
        end = begun.start() if begun else len(text)
        self._held = text[end:]
        return without_escapes(text[:end])
