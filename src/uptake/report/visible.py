"""Visible text: blanks, line ends, control characters and what only steers a renderer.

What a model writes is shown as it is, but may neither steer a terminal nor reorder what stands around it.
"""

import unicodedata
from typing import Final

END, NEWLINE, NOTHING = "\N{END OF PROOF}", "\N{RETURN SYMBOL}", "\N{EMPTY SET}"
_SHOWN: Final = {
    "\n": f"{NEWLINE}\n",
    "\t": "\N{RIGHTWARDS ARROW TO BAR}\t",
    "\N{NO-BREAK SPACE}": "\N{SHOULDERED OPEN BOX}",
}
# Joiners and tags say how the characters around them are drawn, and show nothing alone.
_JOINERS: Final = ("\N{ZERO WIDTH JOINER}", "\N{ZERO WIDTH NON-JOINER}")
_OPEN: Final = "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}"
_CLOSE: Final = "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}"


def visible(text: str) -> str:
    """A piece of text as it can be shown alone: `visible("  ")` is two middle dots, `visible("\\n")` has a mark before.

    Blanks show where nothing else does, a combining mark at the start stands on a dotted circle, and the rest is as in
    `safe`.
    """
    if text and not text.strip(" "):
        return "\N{MIDDLE DOT}" * len(text)
    alone = all(unicodedata.category(letter) == "Cf" for letter in text)
    shown = "".join(_SHOWN.get(letter) or _letter(letter, alone) for letter in text)
    return "\N{DOTTED CIRCLE}" + shown if text and unicodedata.category(text[0])[0] == "M" else shown


def safe(text: str) -> str:
    """Running text as it can be shown: blanks and line ends as they are, nothing that steers what shows it.

    Controls become their pictures; other characters that draw nothing, or change the direction of what follows, become
    their code point, as does half a surrogate pair.
    """
    return "".join(letter if letter in _SHOWN else _letter(letter, False) for letter in text)


def _letter(letter: str, alone: bool) -> str:
    code, category = ord(letter), unicodedata.category(letter)
    if code < 0x20 or code == 0x7F:
        return chr(0x2400 + code) if code < 0x20 else "\N{SYMBOL FOR DELETE}"
    joins = not alone and (letter in _JOINERS or 0xE0020 <= code <= 0xE007F)
    if category in ("Cc", "Cs", "Zl", "Zp") or (category == "Cf" and not joins):
        return f"{_OPEN}U+{code:04X}{_CLOSE}"
    return letter
