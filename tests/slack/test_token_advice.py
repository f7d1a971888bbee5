"""The form's advice on the token: which ones exist, where to create one, who sees it, how long it may live."""

from datetime import timedelta

import pytest

from bot.sandbox.blocks import texts_of
from bot.slack.token_advice import advise, describe_lifetime
from tests.make import ACCOUNT


def test_it_links_to_the_place_where_such_a_token_is_created() -> None:
    """By a link with words, in the bot's account; it promises nothing that the dashboard lacks."""
    text = "\n".join(texts_of({"blocks": advise(ACCOUNT, None)}))

    page = f"https://dash.cloudflare.com/{ACCOUNT}/r2/api-tokens/create?type=account"
    assert f"<{page}|Create an account API token>" in text
    assert text.count("https://") == 1
    assert "It is for all buckets of the account, and only a Super Administrator can create one" in text
    assert "docs/token-for-one-bucket.md" in text
    assert "Slack sees what you paste" in text
    assert "refuses" not in text
    assert "approve" not in text


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (timedelta(days=90), "90 days"),
        (timedelta(days=1), "1 day"),
        (timedelta(hours=36), "36 hours"),
        (timedelta(minutes=90), "90 minutes"),
        (timedelta(seconds=61), "61 seconds"),
    ],
)
def test_it_says_how_long_a_token_may_live(limit: timedelta, words: str) -> None:
    """Before one is pasted that would be refused."""
    assert describe_lifetime(limit) == words
    text = "\n".join(texts_of({"blocks": advise(ACCOUNT, limit)}))
    assert f"This bot refuses a token that never expires or lives longer than *{words}* from now." in text


def test_it_says_that_an_approval_is_needed() -> None:
    """Before the requester waits for one."""
    text = "\n".join(texts_of({"blocks": advise(ACCOUNT, None, is_approved=True)}))
    assert "Another person has to approve it before it is stored." in text
