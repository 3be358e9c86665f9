import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.core.errors import ParamsError
from tunesmith.data.personal import finder as module
from tunesmith.data.personal.finder import CARD, EMAIL, IBAN, PHONE, Finder, mask

FINDER = Finder(("US", "GB", "DE", "FR", "IN", "IL", "BR"))
SECRET = "a secret (github-pat)"
TOKEN = "ghp_" + "x7Kd92LmQp4RtWz81VbNcYh3JfGs5Ae06Uio"


def kinds(text: str) -> list[str]:
    return [finding.kind for finding in FINDER.find([text]).get(0, [])]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("write to ada.lovelace+1843@example.co.uk, please", "ada.lovelace+1843@example.co.uk"),
        ("mail:'grace@navy.mil'", "grace@navy.mil"),
        ("call +49 30 901820 now", "+49 30 901820"),
        ("call (415) 555-2671 ext. 5", "(415) 555-2671 ext. 5"),
        ("Tel. 415-555-2671.", "415-555-2671"),
        ("ring 020 7946 0018 today", "020 7946 0018"),
        ("appelez le 01 42 68 53 00 !", "01 42 68 53 00"),
        ("card 4111 1111 1111 1111, exp 12/27", "4111 1111 1111 1111"),
        ("card 5500-0055-5555-5559.", "5500-0055-5555-5559"),
        ("amex 378282246310005", "378282246310005"),
        ("to DE89 3704 0044 0532 0130 00 by Monday", "DE89 3704 0044 0532 0130 00"),
        ("in GB82WEST12345698765432 2 days from today", "GB82WEST12345698765432"),
        (f"token {TOKEN} is mine", TOKEN),
        (f"GITHUB_TOKEN={TOKEN}", TOKEN),
        ("aws_access_key_id = AKIAQ3EGRZ7LMN5XTYWP", "AKIAQ3EGRZ7LMN5XTYWP"),
    ],
)
def test_personal_data_is_found_with_its_exact_place(text: str, found: str) -> None:
    [finding] = FINDER.find(["", text, ""])[1]
    assert text[finding.start : finding.end] == found
    placeholder = module.PLACEHOLDERS.get(finding.kind, "<SECRET>")
    assert mask(text, [finding]) == text.replace(found, placeholder)


@pytest.mark.parametrize(
    "text",
    [
        "12 + 34 + 56 + 78 = 180, and 1,234,567.89 dollars",
        "60000 - 10800 = <<60000-10800=49200>>, 4000/2000 = 2, 1200-400-300, 1800-1350 and 700*2400=1680000",
        "on 2024-03-15 at 12:30:45, or 15.03.2024, or 1700000000000 ms since the epoch",
        "card 4111 1111 1111 1112 fails its check digit",
        "DE89 3704 0044 0532 0130 01 fails its check digits",
        "pi is 3.14159265358979323846",
        "@ada and git@ and a@b",
        "they ask for the key and the token of the day; secret sauce",
        "AKIAIOSFODNN7EXAMPLE is Amazon's example",
        "IPs 192.168.100.200 and 10.0.0.1; ISBN 978-3-16-148410-0; v1.2.3.4567",
        "Zürich, 東京, Ελλάδα: 🎉",
    ],
)
def test_what_only_looks_like_personal_data_is_not_found(text: str) -> None:
    assert kinds(text) == []


def test_each_of_several_findings_is_masked_once_and_none_twice() -> None:
    text = f"é@: a@b.de, DE89370400440532013000, 4111111111111111, +49 30 901820 {TOKEN}"
    findings = FINDER.find([text])[0]
    assert [finding.kind for finding in findings] == [EMAIL, IBAN, CARD, PHONE, SECRET]
    masked = mask(text, findings)
    assert masked == "é@: <EMAIL_ADDRESS>, <IBAN_CODE>, <CREDIT_CARD>, <PHONE_NUMBER> <SECRET>"
    assert kinds(masked) == []


def test_an_unknown_region_is_refused() -> None:
    with pytest.raises(ParamsError, match="no region 'UK'"):
        Finder(("US", "UK"))


def test_national_numbers_are_those_of_the_named_regions() -> None:
    text = "ring 020 7946 0018 or +44 20 7946 0018"
    assert [len(Finder(regions).find([text])[0]) for regions in ((), ("GB",))] == [1, 2]


@given(st.lists(st.text(alphabet=st.sampled_from("a@.1 5+-DEkey=\n€é"), max_size=40), max_size=4))
def test_findings_lie_within_their_texts_apart_from_each_other(texts: list[str]) -> None:
    for position, findings in FINDER.find(texts).items():
        ends = [0] + [finding.end for finding in findings]
        assert all(end <= finding.start < finding.end for end, finding in zip(ends, findings, strict=False))
        assert findings[-1].end <= len(texts[position])
