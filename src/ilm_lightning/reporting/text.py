"""Text that goes into a page: secrets masked, and nothing in it taken for markup."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from html import escape

MASK = "***"
LONG = 4000
"""Characters of a line that is the page's own, and of a command."""
_NAME = r"(?:api[_-]?key|secret|token|password|passwd|credential)s?"
# a page has a verdict or this package's command after a label such as "MLP, 1 token"
_LABEL = r"(?!(?<=\d )tokens?: (?:\*\*(?:confirmed|refuted|undecided)\*\*|`?python -m ilm_lightning\.))"
# key=value, key: value, "key": "value", up to a closing tag or backtick; counts (max_new_tokens=96) are no secrets
_VALUE = r"(?:(?!</)[^\s\"',;&`]){6,}"
_ASSIGNED = re.compile(rf"(?i){_LABEL}([\w.-]*{_NAME}[\w.-]*[\"']?\s*[=:]\s*[\"']?)({_VALUE})")
# api_key_env=OPENAI_API_KEY names a variable: words of capitals, few digits; anything else there may be a pasted key
_NAMES_VARIABLE = re.compile(
    r"(?i:.*_env[\"']?\s*[=:]\s*[\"']?)_?[A-Z]{1,20}\d{0,2}(?:_+(?:[A-Z]{1,20}\d{0,2}|\d{1,2})){0,9}[:.)}]*"
)
_KNOWN = re.compile(
    r"\b(?:sk-[\w-]{16,}|hf_\w{16,}|gh[pousr]_\w{16,}|wandb_v1_\w{16,}|xox[abprs]-[\w-]{10,}|AKIA[0-9A-Z]{16})\b"
)
_BEARER = re.compile(r"(?i)\b(bearer\s+)[\w.~+/-]{8,}=*")
_LOGIN = re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://)[^\s/@:]*:[^\s/@]+@")
_SECRET_VARIABLE = re.compile(r"(?i)(KEY|TOKEN|SECRET|PASSWORD)$")
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "−": r"$-$", "≈": r"$\approx$", "≥": r"$\ge$", "≤": r"$\le$", "×": r"$\times$",
}  # fmt: skip


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Mask what looks like a secret, and the values of the environment's keys and tokens.

    Args:
        text: anything that leaves the program.
        environment: variables; by default those of this process.

    Returns:
        The text with ``***`` in their places.

    >>> redact("tasks.llm.api_key=abcdef123 seed=3", {})
    'tasks.llm.api_key=*** seed=3'
    >>> redact("teacher.api_key_env=OPENAI_API_KEY teacher.api_key_env=A1B2C3D4E5F6", {})
    'teacher.api_key_env=OPENAI_API_KEY teacher.api_key_env=***'
    >>> redact("<code>api_key=abcdef123</code>", {})
    '<code>api_key=***</code>'
    >>> redact("https://me:pass@host/x", {})
    'https://***@host/x'
    """
    variables = os.environ if environment is None else environment
    for name, value in variables.items():
        if _SECRET_VARIABLE.search(name) and len(value) >= 8:
            text = text.replace(value, MASK)
    text = _LOGIN.sub(rf"\1{MASK}@", text)
    text = _KNOWN.sub(MASK, text)
    text = _BEARER.sub(rf"\1{MASK}", text)
    return _ASSIGNED.sub(_masked, text)


def _masked(found: re.Match[str]) -> str:
    plain = found[2].replace(".", "").isdigit() or _NAMES_VARIABLE.fullmatch(found[0])
    return found[0] if plain else found[1] + MASK


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "finished run"), counted(3, "protocol")
    ('1 finished run', '3 protocols')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def one_line(text: object, limit: int = 400) -> str:
    """Text without secrets, line breaks and control characters, cut where it is long."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in _redacted(str(text))).split())
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


@lru_cache(maxsize=8192)
def _redacted(text: str) -> str:
    # labels come back thousands of times; masked before any escaping, which would hide what a secret looks like
    return redact(text)


def markdown(text: object, limit: int = 400) -> str:
    r"""Text as a cell or a line of Markdown, cut where it is longer than the limit.

    >>> markdown("a|b <i>")
    'a\\|b &lt;i&gt;'
    """
    plain = one_line(text, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # an underscore within a word is no markup
    return re.sub(r"[\\|`*\[\]]|(?<!\w)_|_(?!\w)", r"\\\g<0>", plain)


def markdown_command(entry: str) -> str:
    """What is missing and the command that makes it, which may be copied as it stands.

    >>> markdown_command("ELM: python -m ilm_lightning.train 'a.b=[1,2]'")
    "ELM: `python -m ilm_lightning.train 'a.b=[1,2]'`"
    """
    name, sign, command = entry.partition(": python ")
    if not sign:
        return markdown(entry)
    return f"{markdown(name)}: `{one_line(f'python {command}', LONG).replace('`', chr(39))}`"


def grid(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    """A Markdown table; the first columns are left-aligned, the others right-aligned."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * left + "---:|" * (len(head) - left)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def html(text: object, lines: bool = False) -> str:
    r"""Text as HTML, in an element or an attribute in double quotes.

    Args:
        text: anything.
        lines: keep line breaks.

    >>> html("<script>\n&")
    '&lt;script&gt; &amp;'
    """
    if not lines:
        return escape(one_line(text, LONG))
    kept = "".join(c if c.isprintable() or c == "\n" else " " for c in _redacted(str(text)))
    return escape(kept.strip())


def latex(text: object) -> str:
    r"""Text as LaTeX.

    >>> latex("50 % of a_b")
    '50 \\% of a\\_b'
    """
    return "".join(_LATEX.get(c, c) for c in one_line(text))


def csv_cell(value: object) -> object:
    """A value that no spreadsheet takes for a formula; numbers stay numbers.

    >>> csv_cell("=1+1"), csv_cell(-2.5)
    ("'=1+1", -2.5)
    """
    if isinstance(value, str):
        line = one_line(value)
        return f"'{line}" if line[:1] in ("=", "+", "-", "@") else line
    return value
