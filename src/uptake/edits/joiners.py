"""Joiners that are letters: U+200C and U+200D change what is seen in scripts whose letters join, and nowhere else.

A Persian word without its half space is misspelt, and a Sinhala or Malayalam one is another word. Between other
letters, and in other places, they are left over from copying. Source: The Unicode Standard, sections 9.2 and 12.1.
"""

JOINERS = "\u200c\u200d"

_JOINING = (
    *("Arabic", "Syriac", "Mandaic", "Nko", "Adlam", "Mongolian", "Phags_Pa", "Hanifi_Rohingya", "Sogdian"),
    *("Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Oriya", "Tamil", "Telugu", "Kannada", "Malayalam", "Sinhala"),
    *("Khmer", "Myanmar", "Tibetan", "Balinese", "Javanese", "Brahmi", "Grantha", "Newa", "Tirhuta"),
)
_LETTER = "".join(rf"\p{{{script}}}" for script in _JOINING)
# Marks that take a letter's vowel, after which a joiner says what becomes of the letter, at a word's end too.
_VIRAMA = "\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d4d\u0dca\u1039\u17d2"

# A joiner that is seen, in the language of patterns that `regex` and `tokenizers` share.
SEEN_JOINER = rf"(?:(?<=[{_LETTER}\p{{M}}])[{JOINERS}](?=[{_LETTER}])|(?<=[{_VIRAMA}])[{JOINERS}])"
