"""Secrets of other services are named by their format, and an older Cloudflare token is none of them."""

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bot.model.other_secrets import mask_other_secrets, name_other_secret
from bot.model.pasted_token import MASK, STORABLE, classify, find_other_secret, mask_tokens, trim
from bot.model.submission import TokenKind

# All made up, in the formats that their vendors document; assembled here, so that no scanner takes them for real.
MADE_UP = "MADEUP0123456789abcdefghijklmnopqrstuvwx"
HEXADECIMAL = "0123456789abcdef" * 4
JWT = "eyJ" + MADE_UP + ".eyJ" + MADE_UP + "." + MADE_UP
PEM = "-----BEGIN PRIVATE " + "KEY-----\n" + MADE_UP + "\n-----END PRIVATE " + "KEY-----"

OTHERS = {
    "Slack bot": ("xoxb-" + "1234567890-1234567890-" + MADE_UP[:24], "a Slack token"),
    "Slack bot, as long as an older token": ("xoxb-" + "1234567890-" + MADE_UP[:24], "a Slack token"),
    "Slack user": ("xoxp-" + "1234567890-" + MADE_UP, "a Slack token"),
    "Slack app": ("xapp-" + "1-A0MADEUP-1234567890-" + MADE_UP, "a Slack token"),
    "Slack refresh": ("xoxe-" + "1-" + MADE_UP, "a Slack token"),
    "Slack rotated": ("xoxe." + "xoxb-1-" + MADE_UP, "a Slack token"),
    "part of a Slack token": ("xoxb-" + "MADEUP", "a Slack token"),
    "AWS key ID": ("AKIA" + "MADEUP0123456789", "an AWS access key ID"),
    "AWS session key ID": ("ASIA" + "MADEUP0123456789", "an AWS access key ID"),
    "AWS secret": ("MADEUP0123456789/abcdefghij+lmnopqrstuvw", "an AWS secret access key"),
    "GitHub personal": ("ghp_" + MADE_UP[:36], "a GitHub token"),
    "GitHub OAuth": ("gho_" + MADE_UP[:36], "a GitHub token"),
    "GitHub app": ("ghs_" + MADE_UP[:36], "a GitHub token"),
    "GitHub app, longer": ("ghs_" + JWT, "a GitHub token"),
    "part of a GitHub token": ("ghp_" + MADE_UP[:20], "a GitHub token"),
    "GitHub fine-grained": ("github_pat_" + MADE_UP + "_" + MADE_UP, "a GitHub token"),
    "GitLab": ("glpat-" + MADE_UP[:20], "a GitLab token"),
    "GitLab, routable": ("glpat-" + MADE_UP[:27] + ".01.madeup012", "a GitLab token"),
    "GitLab, as long as an older token": ("glpat-" + MADE_UP[:34], "a GitLab token"),
    "JWT": (JWT, "a JSON Web Token, or a token of cloudflared"),
    "JWT of 2,000 characters": (JWT * 15, "a JSON Web Token, or a token of cloudflared"),
    "cloudflared": ("eyJ" + MADE_UP * 3, "a JSON Web Token, or a token of cloudflared"),
    "PEM": (PEM, "a key or certificate in PEM"),
    "PEM in one line": (PEM.replace("\n", " "), "a key or certificate in PEM"),
    "OpenAI": ("sk-" + MADE_UP + "MADEUP01", "an API key of OpenAI, Anthropic or the like"),
    "OpenAI, of a project": ("sk-proj-" + MADE_UP * 3, "an API key of OpenAI, Anthropic or the like"),
    "Anthropic": ("sk-ant-" + MADE_UP * 2, "an API key of OpenAI, Anthropic or the like"),
    "Stripe": ("sk_" + "live_" + MADE_UP[:24], "a Stripe key"),
    "Google": ("AIza" + MADE_UP[:35], "a Google key"),
    "npm": ("npm_" + MADE_UP[:36], "an npm token"),
    "PyPI": ("pypi-" + "AgEIcHlwaS5vcmc" + MADE_UP * 3, "a PyPI token"),
    "Hugging Face": ("hf_" + MADE_UP[:34], "a Hugging Face token"),
    "DigitalOcean": ("dop_" + "v1_" + HEXADECIMAL, "a DigitalOcean token"),
    "SendGrid": ("SG." + MADE_UP[:22] + "." + MADE_UP, "a SendGrid key"),
    "Docker": ("dckr_" + "pat_" + MADE_UP[:27], "a Docker token"),
    "Databricks": ("dapi" + HEXADECIMAL[:32], "a Databricks token"),
    "Vault": ("hvs." + MADE_UP, "a Vault token"),
    "Grafana": ("glsa_" + MADE_UP[:32] + "_01234567", "a Grafana token"),
    "Atlassian": ("ATATT3" + MADE_UP * 4, "an Atlassian token"),
    "Shopify": ("shpat_" + HEXADECIMAL[:32], "a Shopify token"),
    "Origin CA": ("v1.0-" + HEXADECIMAL[:24] + "-" + HEXADECIMAL * 2, "a Cloudflare Origin CA key"),
    "Access": (HEXADECIMAL[:32] + ".access", "a Cloudflare Access service token"),
}
MASKED_ANYWHERE = {
    name: OTHERS[name][0]
    for name in (
        *("Slack bot", "Slack user", "Slack app", "Slack refresh", "Slack rotated", "AWS key ID", "AWS session key ID"),
        *("GitHub personal", "GitHub OAuth", "GitHub app", "GitHub fine-grained", "GitLab", "GitLab, routable", "JWT"),
        *("PEM", "OpenAI, of a project", "Anthropic", "Google", "npm", "PyPI", "Hugging Face", "DigitalOcean"),
        *("SendGrid",),
    )
}


@pytest.mark.parametrize(("pasted", "name"), OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("way", ["{}", " '{}'\n", "Bearer {}", "export TOKEN={}", "{}\u200b"])
def test_a_secret_of_another_service_is_named_and_not_stored(pasted: str, name: str, way: str) -> None:
    """However it was copied: Cloudflare must not get another service's secret."""
    trimmed = trim(way.format(pasted))

    assert find_other_secret(trimmed) == name
    assert classify(trimmed) is TokenKind.OTHER_SECRET
    assert TokenKind.OTHER_SECRET not in STORABLE


PREFIXES = [
    "AKIA",
    "ASIA",
    "eyJ",
    "sk-",
    "hf_",
    "SG-",
    "AIza",
    "dapi",
    "ghp-",
    "glpa-",
    "v1-0",
    "xo-xb-",
    "----",
    "uuid-",
]


@given(st.sampled_from(PREFIXES), st.text("AZaz09_-", min_size=40, max_size=40))
@example("ghp_", "-" * 40)
@example("npm_", "a" * 35 + "_" + "b" * 4)
@example("eyJ", "a" * 40)
def test_an_older_token_with_the_same_prefix_is_stored(prefix: str, rest: str) -> None:
    """An older token is 40 random characters: a match that is likely by chance is no reason to refuse one."""
    older = (prefix + rest)[:40]
    assume(any(c.isupper() or c in "_-" for c in older) or not set(older) <= set("0123456789abcdef"))

    assert name_other_secret(older) == ""
    assert classify(older) is TokenKind.UNPREFIXED


@pytest.mark.parametrize("prefix", ["cfut_", "cfat_"])
@given(st.text("AZaz09", min_size=40, max_size=40))
def test_a_token_with_cloudflares_prefix_is_never_another_services(prefix: str, rest: str) -> None:
    """Whatever follows the prefix."""
    assert name_other_secret(prefix + rest + "0badc0de") == ""


@pytest.mark.parametrize("secret", MASKED_ANYWHERE.values(), ids=MASKED_ANYWHERE)
@pytest.mark.parametrize("way", ["{}", "see {}, please", "KEY={}", "https://x.test/?t={}&u=1", "<{}|x>"])
def test_a_secret_of_another_service_is_masked_anywhere(secret: str, way: str) -> None:
    """A reason is stored, and posted to the channel."""
    assert mask_tokens(way.format(secret)) == way.format(MASK)


@pytest.mark.parametrize(
    "text",
    [
        "xoxa-is-a-kiss",
        "glpat-migration-archive-of-2024",
        "sk-proj-analytics-events-prod",
        "pypi-download-stats-by-country-and-day-of-the-week",
        "the ghp_ prefix is GitHub's, and xoxb- is Slack's",
        "do it like SG. Miller",
        "eyJust kidding",
        "AKIA",
        "T0123ABCD",
    ],
)
def test_names_and_words_are_not_masked(text: str) -> None:
    """A bucket may have such a name."""
    assert mask_other_secrets(text, MASK) == text


@given(st.from_regex(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", fullmatch=True))
def test_a_bucket_name_is_not_masked(name: str) -> None:
    """Unless it has the format of a Slack token, with a digit where those have one."""
    assume(not name.startswith(("xox", "xapp-", "xwfp-")))
    assert mask_other_secrets(name, MASK) == name


ENDLESS = ["xoxb-" * 200_000, "eyJ" + "a." * 500_000, "-----BEGIN PRIVATE " + "KEY-----" * 100_000, "sk-ant-" * 150_000]


@pytest.mark.parametrize("text", ENDLESS, ids=["Slack", "JWT", "PEM", "Anthropic"])
def test_a_long_text_of_prefixes_is_masked_in_one_pass(text: str) -> None:
    """If each prefix were searched to the end, this test would not finish."""
    assert len(mask_other_secrets(text, MASK)) <= 40 * len(text)
    name_other_secret(text)
