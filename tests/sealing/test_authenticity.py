"""What is signed is recognised, and nothing else; the keys of one purpose serve no other."""

import base64
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.sealing.authenticity import Authenticity

OLD = "an old key, long enough to be one, 1"
NEW = "a new key, long enough to be one, 22"
FIELDS: dict[str, str | int | None] = {"id": "V1", "bucket": "lake", "revision": 3, "reason": None}

_TEXTS = st.one_of(st.none(), st.integers(), st.text(st.characters(exclude_categories=())))


def test_what_was_signed_is_recognised() -> None:
    """In whatever order the fields come."""
    signature = Authenticity([NEW]).sign("row", FIELDS)
    assert Authenticity([NEW]).verifies("row", dict(reversed(FIELDS.items())), signature)


@given(fields=st.dictionaries(st.text(), _TEXTS), other=st.dictionaries(st.text(), _TEXTS))
def test_no_other_fields_are_recognised(
    fields: dict[str, str | int | None], other: dict[str, str | int | None]
) -> None:
    """Whatever text or number stands where: no two records have one signature."""
    keys = Authenticity([NEW])
    assert keys.verifies("row", other, keys.sign("row", fields)) == (fields == other)


@pytest.mark.parametrize(
    "signature",
    [
        None,
        7,
        "",
        "v1",
        "v1..",
        b"v1.0.0",
        "v1.0000000000000000." + "0" * 64,
        pytest.param(Authenticity([NEW]).sign("other", FIELDS), id="of another kind"),
        pytest.param(Authenticity([OLD]).sign("row", FIELDS), id="with another key"),
        pytest.param(Authenticity([NEW]).sign("row", FIELDS)[:-1], id="cut"),
        pytest.param(Authenticity([NEW]).sign("row", FIELDS) + "\ud800", id="with half a character"),
        pytest.param(Authenticity([NEW]).sign("row", FIELDS).replace("v1", "v2"), id="of another version"),
    ],
)
def test_anything_else_is_refused(signature: object) -> None:
    """A column of the database can hold anything, and raises nothing."""
    assert not Authenticity([NEW]).verifies("row", FIELDS, signature)


def test_a_replaced_key_still_verifies_and_no_longer_signs() -> None:
    """During a rotation, what was signed before is still recognised."""
    both = Authenticity([NEW, OLD])
    assert both.verifies("row", FIELDS, Authenticity([OLD]).sign("row", FIELDS))
    assert both.sign("row", FIELDS) == Authenticity([NEW]).sign("row", FIELDS)
    assert both.key_ids == {Authenticity([NEW]).key_id, Authenticity([OLD]).key_id}


def test_a_fingerprint_tells_tokens_apart_and_depends_on_the_key() -> None:
    """Who does not have the key cannot find out by trying whether a token is the one."""
    keys = Authenticity([NEW])
    assert keys.fingerprint("one") == keys.fingerprint("one") != keys.fingerprint("two")
    assert keys.fingerprint("one") != Authenticity([OLD]).fingerprint("one")


def test_a_commitment_depends_on_its_salt() -> None:
    """Two entries about one person do not look alike."""
    keys = Authenticity([NEW])
    assert keys.commit("1", FIELDS) != keys.commit("2", FIELDS)
    assert keys.commit("1", FIELDS) == keys.commit("1", FIELDS)


def test_a_receiver_verifies_with_the_secret() -> None:
    """As the Standard Webhooks say: base64 of HMAC-SHA-256 with the decoded rest of `whsec_...`."""
    keys = Authenticity([NEW])
    secret = base64.b64decode(keys.webhook_secret().reveal().removeprefix("whsec_"))
    assert keys.sign_webhook(b"id.1.{}") == base64.b64encode(hmac.digest(secret, b"id.1.{}", "sha256")).decode()
