import pytest

from ilm_lightning.reporting.text import csv_cell, latex, markdown, one_line, redact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("api_key=abcdef1234", "api_key=***"),
        ('{"token": "abcdefgh"}', '{"token": "***"}'),
        ("Authorization: Bearer abc.def.ghi", "Authorization: Bearer ***"),
        ("sk-abcdefghijklmnopqrst and hf_abcdefghijklmnopqrst", "*** and ***"),
        ("postgres://user:pa55@host/db", "postgres://***@host/db"),
        ("evaluation.max_new_tokens=96000000", "evaluation.max_new_tokens=96000000"),
        ("token: **undecided** password: confirmed", "token: *** password: ***"),
        ("MLP, 1 token: abcdef1234", "MLP, 1 token: ***"),
        ("A above MLP, 1 token: **undecided**: no run", "A above MLP, 1 token: **undecided**: no run"),
        ("MLP, 8 tokens: `python -m ilm_lightning.train x=1", "MLP, 8 tokens: `python -m ilm_lightning.train x=1"),
        ("tasks.title_in_prompt=true", "tasks.title_in_prompt=true"),
        ("teacher.api_key_env=NOSUCH: this is not set", "teacher.api_key_env=NOSUCH: this is not set"),
        ('{"api_key_env": "MY_KEY_2"}', '{"api_key_env": "MY_KEY_2"}'),
        ("teacher.api_key_env=sk-hidden-42 x", "teacher.api_key_env=*** x"),
        ("teacher.api_key_env=AKIA0123456789ABCDEF", "teacher.api_key_env=***"),
        ("teacher.api_key_env=JBSWY3DPEHPK3PXPJBSWY3DP:", "teacher.api_key_env=***"),
        ("teacher.api_key_env=ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF", "teacher.api_key_env=***"),
        ("teacher.api_key_env=openai_api_key_abc", "teacher.api_key_env=***"),
        ("OPENAI_API_KEY=NOSUCHNAME", "OPENAI_API_KEY=***"),
        ("commit 5415b1ba111c20e6f54f70b0016a6250e4ace465", "commit 5415b1ba111c20e6f54f70b0016a6250e4ace465"),
    ],
)
def test_secrets_are_masked_and_numbers_are_not(text: str, expected: str) -> None:
    assert redact(text, {}) == expected


def test_values_of_secret_variables_are_masked_wherever_they_stand() -> None:
    environment = {"OPENAI_API_KEY": "plainlooking", "HOME": "/home/me", "MY_TOKEN": "ab"}
    assert redact("x plainlooking y /home/me ab", environment) == "x *** y /home/me ab"


def test_markup_of_each_kind_is_escaped() -> None:
    assert markdown("a|b*c*<d>[e](f) g_h _i_") == r"a\|b\*c\*&lt;d&gt;\[e\](f) g_h \_i\_"
    assert latex(r"100% & $x_1$ {\a}") == r"100\% \& \$x\_1\$ \{\textbackslash{}a\}"
    assert csv_cell("@x") == "'@x"
    assert one_line("a\nb\tc\x00d") == "a b c d"
    assert len(one_line("x" * 1000)) == 400
