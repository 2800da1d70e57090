"""Comments, messages and documents say things in the words that other projects use."""

from __future__ import annotations

import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ODD = "nobody", "whoever", "somebody", "anew", "told", "begun", "ought"
"""CONTRIBUTING.md has what to say in their place."""
PER_WORDS = 10_000
# Not in code: `--anew`, "anew", anew=True and variables named `told`.
AS_PROSE = re.compile(rf"(?<![-\w`\"'.])({'|'.join(ODD)})(?![-\w`\"'(=])", re.IGNORECASE)


def texts_of(path: Path) -> Iterator[str]:
    """The comments and string literals of a module; all other files whole, without their blocks of code."""
    if path.suffix != ".py":
        yield re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
        return
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type in (tokenize.COMMENT, tokenize.STRING) or tokenize.tok_name[token.type] == "FSTRING_MIDDLE":
                yield token.string


def test_odd_words_are_rare_in_comments_messages_and_documents() -> None:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md"]
    files = [path for suffix in ("py", "sql", "js", "html", "yaml") for path in ROOT.glob(f"src/musicfs/**/*.{suffix}")]
    words, found = 0, Counter[str]()
    for path in [*pages, *ROOT.glob("docs/**/*.md"), *files]:
        for text in texts_of(path):
            words += len(re.findall(r"[A-Za-z']+", text))
            found.update(f"{path.relative_to(ROOT)}: {word.lower()}" for word in AS_PROSE.findall(text))
    assert words > 50_000
    assert found.total() * PER_WORDS < words, found.most_common()
