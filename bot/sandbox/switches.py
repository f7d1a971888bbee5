"""Switches with which a person lets something go wrong: each is on or off, and some switch themselves off."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bot.sandbox.account_tokens import AccountTokens, Flaw
from bot.sandbox.cloudflare import Failure, FakeCloudflare, Kind
from bot.sandbox.failures import PlannedFailure


class Switch(Protocol):
    """Can be turned on and off."""

    @property
    def is_on(self) -> bool:
        """Whether what it is for still lasts, or is still to come."""

    def turn(self, *, on: bool) -> None:
        """Turn it on or off."""


@dataclass(frozen=True, slots=True)
class Lasting:
    """Changes how things are until it is turned off."""

    change: Callable[[bool], None]
    read: Callable[[], bool]

    @property
    def is_on(self) -> bool:
        """Whether things are that way, whatever made them so."""
        return self.read()

    def turn(self, *, on: bool) -> None:
        """Change how things are."""
        self.change(on)


@dataclass(slots=True)
class FailNext:
    """Fails the next request of a kind."""

    cloudflare: FakeCloudflare
    kind: Kind
    failure: Failure
    _planned: PlannedFailure | None = None

    @property
    def is_on(self) -> bool:
        """Whether no such request has come yet."""
        return self._planned is not None and self._planned.times_left > 0

    def turn(self, *, on: bool) -> None:
        """Order the failure, or call it off."""
        if self._planned is not None:
            self._planned.call_off()
        self._planned = self.cloudflare.fail_next(self.kind, **self.failure) if on else None


@dataclass(frozen=True, slots=True)
class NextFlaw:
    """Gives the next token that is created a flaw."""

    tokens: AccountTokens
    flaw: Flaw

    @property
    def is_on(self) -> bool:
        """Whether no token has got it yet."""
        return self.flaw in self.tokens.flaws

    def turn(self, *, on: bool) -> None:
        """Have the flaw given, or not."""
        if on and not self.is_on:
            self.tokens.flaws.append(self.flaw)
        elif not on and self.is_on:
            self.tokens.flaws.remove(self.flaw)


@dataclass(slots=True)
class Once:
    """Waits for something to happen, and is off once it did."""

    is_on: bool = False

    def turn(self, *, on: bool) -> None:
        """Wait for it, or not."""
        self.is_on = on

    def take(self, *, fits: bool) -> bool:
        """Return whether it was waited for, and is to follow now."""
        is_due, self.is_on = self.is_on and fits, self.is_on and not fits
        return is_due
