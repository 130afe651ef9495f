"""Language of texts, so that nobody is read by the follow-ups of another one."""

from collections.abc import Iterable

from uptake.errors import InputError

# Letters that a guess has to rest on, and as many as it looks at.
LEAST, MOST = 200, 20_000


def language_of(texts: Iterable[str]) -> str | None:
    """The ISO 639-1 code of the language that most of the texts are in; None where they are too short to tell.

    Source: py3langid, naive Bayes over byte n-grams of 139 languages (Lui and Baldwin, ACL 2012).
    """
    import py3langid  # noqa: PLC0415 - reads its model

    joined = ""
    for text in texts:
        joined += f"{text}\n"
        if len(joined) > MOST:
            break
    return str(py3langid.classify(joined)[0]) if sum(map(str.isalpha, joined)) >= LEAST else None


def check_language(texts: Iterable[str], wanted: str, path: str) -> None:
    """Raises InputError where the texts are in another language than `wanted`, the code of a follow-up set."""
    found = language_of(texts)
    if found is not None and found != wanted.lower().replace("_", "-").split("-")[0]:
        allowed = f"a set in {found!r} by --followups, or --any-language"
        raise InputError(
            f"users write in {found!r} here, and the follow-ups are in {wanted!r}", path=path, allowed=allowed
        )
