"""What a person can let go wrong with a rotation, step by step, by switches of the fake Cloudflare."""

from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from bot.sandbox.account_tokens import AccountToken, Flaw
from bot.sandbox.cloudflare import FakeCloudflare
from bot.sandbox.policies import CATALOG_WRITE, find_buckets
from bot.sandbox.standing import MintingState
from bot.sandbox.switches import FailNext, Lasting, NextFlaw, Once, Switch
from bot.sandbox.tokens import Behaviour, make_token

MAKING: Final = "While the token is made"
USING: Final = "While it is checked, stored and tested"
TAKING_BACK: Final = "While the replaced one is taken back"

_SOMEBODY_ELSES: Final = make_token(Behaviour.GOOD, number=999_999)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that can go wrong, with one line for the person who tries it."""

    id: str
    step: str
    label: str
    explanation: str
    switch: Switch


class Troubles:
    """All that can go wrong. `hear_write` and `hear_token` have to be called when the fake Cloudflare's hooks are."""

    def __init__(self, cloudflare: FakeCloudflare) -> None:
        self._cloudflare = cloudflare
        self._switched_off, self._overwritten, self._put_back = Once(), Once(), Once()
        self.all = (*self._of_making(), *self._of_using(), *self._of_taking_back())

    def flip(self, trouble_id: str) -> None:
        """Turn a switch on, or off. Raises KeyError if there is none with this id."""
        switch = {each.id: each.switch for each in self.all}[trouble_id]
        switch.turn(on=not switch.is_on)

    def hear_token(self, token: AccountToken) -> None:
        """Let what was waiting for a new token happen."""
        names = find_buckets(token.policies, self._cloudflare.account_id)
        buckets = [self._cloudflare.buckets[name] for name in names if name in self._cloudflare.buckets]
        if self._switched_off.take(fits=bool(buckets)):
            for bucket in buckets:
                bucket.catalog = "inactive"

    def hear_write(self) -> None:
        """Let what was waiting for a write of a token that the bot made happen."""
        tokens, (*before, last) = self._cloudflare.tokens, self._cloudflare.writes
        if tokens.find(last.token) is None:
            return
        ours = (each for each in reversed(before) if each.bucket == last.bucket and tokens.find(each.token))
        previous = next(ours, None)
        if self._overwritten.take(fits=True):
            self._cloudflare.write_by_hand(last.bucket, _SOMEBODY_ELSES)
        elif previous is not None and self._put_back.take(fits=True):
            self._cloudflare.write_by_hand(last.bucket, previous.token)

    def _of_making(self) -> Iterator[Trouble]:
        tokens = self._cloudflare.tokens
        yield Trouble(
            id="quota",
            step=MAKING,
            label="Quota reached",
            explanation="The account has as many API tokens as it may have.",
            switch=Lasting(lambda on: setattr(tokens, "others", tokens.quota if on else 0), lambda: tokens.others > 0),
        )
        yield self._mint("expired", "Minting token expired", "The token that makes tokens has expired.")
        yield self._mint("lacks the right", "Right missing", "The token that makes tokens may not make any.")
        yield self._mint("limited to addresses", "Wrong address", "That token works from other IP addresses only.")
        yield Trouble(
            id="group",
            step=MAKING,
            label="Permission gone",
            explanation="Cloudflare does not know a permission any more that the new token needs.",
            switch=Lasting(
                lambda on: (tokens.missing.add if on else tokens.missing.discard)(CATALOG_WRITE.id),
                lambda: CATALOG_WRITE.id in tokens.missing,
            ),
        )
        yield Trouble(
            id="lost",
            step=MAKING,
            label="Answer lost",
            explanation="The next token is made, but the answer never comes: the bot makes another one. It takes the "
            "lost one back once it is listed, after a quarter of an hour at the earliest.",
            switch=FailNext(self._cloudflare, "create_token", {"drop_after_store": True}),
        )

    def _of_using(self) -> Iterator[Trouble]:
        tokens = self._cloudflare.tokens
        flaws: tuple[tuple[Flaw, str, str], ...] = (
            ("unknown", "Never known", "Cloudflare never gets to know the next token: the bot waits three minutes."),
            (
                "useless",
                "Useless",
                "The next token opens no catalog, as in another jurisdiction: the bot waits three minutes.",
            ),
            ("refused", "Refused by the catalog", "Code 30004 when the next token is stored."),
            ("invalid", "Made, stored, then invalid", "The next token is stored, but does not work there."),
        )
        for flaw, label, explanation in flaws:
            switch = NextFlaw(tokens, flaw)
            yield Trouble(id=flaw, step=USING, label=label, explanation=explanation, switch=switch)
        yield Trouble(
            id="switched-off",
            step=USING,
            label="Catalog switched off",
            explanation="As soon as the next token is made, the catalog of its bucket is off.",
            switch=self._switched_off,
        )
        yield Trouble(
            id="overwritten",
            step=USING,
            label="Written by somebody else",
            explanation="Right after the bot stores the next token, somebody puts another one into that slot.",
            switch=self._overwritten,
        )
        yield Trouble(
            id="no-test",
            step=USING,
            label="No test offered",
            explanation="Cloudflare does not say whether a stored credential works, so no token is taken back. "
            "The bot believes that for an hour, also after this is off.",
            switch=Lasting(
                lambda on: setattr(self._cloudflare, "offers_status", not on),
                lambda: not self._cloudflare.offers_status,
            ),
        )

    def _of_taking_back(self) -> Iterator[Trouble]:
        yield Trouble(
            id="disable",
            step=TAKING_BACK,
            label="Disabling refused",
            explanation="The next request to disable a token is refused: the bot tries again after ten minutes.",
            switch=FailNext(
                self._cloudflare,
                "update_token",
                {"status": HTTPStatus.BAD_REQUEST, "code": 1004, "message": "The token cannot be changed."},
            ),
        )
        yield Trouble(
            id="put-back",
            step=TAKING_BACK,
            label="Put back by somebody",
            explanation="When the bot replaces a token of its own, somebody puts the replaced one back into the slot. "
            "The slot fails its test while that one is disabled: the bot enables it again, and rotates once more.",
            switch=self._put_back,
        )

    def _mint(self, state: MintingState, label: str, explanation: str) -> Trouble:
        def change(on: bool) -> None:  # noqa: FBT001 - the new position
            self._cloudflare.minting_state = state if on else "good"

        switch = Lasting(change, lambda: self._cloudflare.minting_state == state)
        return Trouble(id=state.replace(" ", "-"), step=MAKING, label=label, explanation=explanation, switch=switch)
