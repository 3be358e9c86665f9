"""Answers that try to be right for several references at once, by the verifier that they were made for."""

ANY = [
    *("", "0", "42 7 3.5 100 0", "#### 42 #### 7 #### 100", "#### 42\n#### 7", "\\boxed{42} \\boxed{7}"),
    *("\\boxed{42}, \\boxed{7}", "\\boxed{42 or 7}", "\\boxed{42, 7, 100}", "42 or 7 or 100", "x = 42 = 7 = 100"),
    *("\\boxed{x=42=7}", "#### 42 7 100", "#### 42/7/100", "####", "#### ####", "\\boxed{}", "\\boxed{\\boxed{42}}"),
    *(
        "\u0664\u0662",
        "\uff14\uff12",
        "forty-two",
        "①",
        "Ⅶ",
        "42e0",
        "4.2e1",
        "0x2A",
        "00042",
        "42%",
        "$42$",
        "--42",
        "+-42",
        "42-",
    ),
    *("4 2", "4\u200b2", "42\n\n\n7\n\n\n100", "The answer is 42. No, 7. No, 100.", "\\boxed{42}#### 7"),
    *("#### 7\\boxed{42}", "∞", "nan", "inf", "1/0", "0/0", "10^999", "1e999", "9" * 200, "42" * 60, "42 = 42"),
    *("7×6", "\\frac{84}{2}", "84/2", "42,0", "4,2", "1,000", "42 (or 7)", "[42,7]", "{42,7}", "42..100", "42 to 100"),
]
ALGEBRA = [
    *("x", "x=x", "\\mathbb{R}", "(-\\infty,\\infty)", "\\emptyset", "\\text{all}", "0=0", "1=2", "true", "\\pm 42"),
    *(
        "x\\in\\mathbb{R}",
        "42 \\ne 41",
        "x \\le x",
        "\\ldots",
        "?",
        "\\square",
        "f(x)",
        "\\{\\}",
        "()",
        "[]",
        "zoo",
        "oo",
    ),
    *(
        "\\frac{0}{0}",
        "\\frac{1}{0}",
        "42 \\text{ or } 7",
        "\\boxed{42} and \\boxed{7}",
        "a=b=c",
        "x=42, x=7",
        "42_{x}",
    ),
    *("\\left.\\right.", "\\begin{cases}1\\\\2\\end{cases}", "\\max(42,7)", "\\mathrm{d}x", "\\overline{42}"),
    *("x_{__import__('os').system('id')}", "\\operatorname{__import__}(x)", "S.Infinity", "lambda"),
]
UNIVERSAL: dict[str, list[str]] = {
    "number": ANY,
    "math": [*ANY[:30], *ALGEBRA],
    "choice": [
        *("A", "A B C D", "A, B, C, D", "A or B", "(A)(B)(C)(D)", "The answer is A. The answer is B.", "A\nB\nC\nD"),
        *("\\boxed{A}\\boxed{B}", "\\boxed{AB}", "\\boxed{A,B}", "Paris London Rome Oslo", "Answer: A, B", "\uff21"),
        *("Answer: A/B/C/D", "all of the above", "\u0391", "\u0410", "I choose A, B, C or D", "ABCD"),
        *("not A", "Neither A nor B", "A? B? C? D!", "Answer: [ABCD]", "Answer: E", "A" * 100),
        "A is correct. B is correct.",
    ],
    "exact": [
        *("the", "a", "Paris London", "Paris\nLondon", "Paris or London", '"Paris"', "Pa\u200bris", "\u2119aris", "."),
    ],
    "json_schema": [
        *('{}', '{"a":1}', '{"a":1.0}', '{"a":true}', '{"a":"1"}', '{"a":0,"a":1}', '{"a":NaN}', '[{"a":1}]'),
        *('```\n{"a":1}\n```\n```\n{"a":0}\n```', '{"a":1}{"a":0}', '{"a":1} // c', '"{\\"a\\":1}"', '\ufeff{"a":1}'),
        *('{"\\u0061":1}', '{"a":1,"__proto__":{"a":0}}', '{"a":0.9999999999999999999}'),
        '{"a":1' + "0" * 308 + 'e-308}',
    ],
}  # fmt: skip
