"""What one person may do: pure, so that it can be asked as often as needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bot.model import bucket_globs
from bot.model.catalog import BucketKey, is_bucket_name
from bot.model.errors import AccessRefused, MembershipUnknown, NotAnApprover, OwnRequest, UsergroupUnreadable
from bot.policy.attempt import Note, RefusedAttempt, keep_quiet
from bot.policy.decision import decide
from bot.policy.rules import Person, Request, Rule, Verb


@dataclass(frozen=True, slots=True)
class Outlook:
    """Which buckets someone sees: those that one of the lists of globs serves. Equal for all who see the same lists.

    It depends on nothing else, so what was put in order for it stays right when the rules change.
    """

    lists: frozenset[tuple[str, ...]]

    def sees(self, key: BucketKey) -> bool:
        """Return whether a bucket is among them."""
        return any(not globs or bucket_globs.serves(globs, key.bucket) for globs in self.lists)


NOWHERE: Final = Outlook(frozenset())
"""The outlook of someone who sees no bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Decides what one person may do, without further requests. Made for each event."""

    person: Person
    rules: Sequence[Rule]
    note: Note = keep_quiet

    def require(self, verb: Verb, key: BucketKey | None, channel_id: str | None) -> Rule:
        """Return the first rule that fits, or raise the AccessRefused that applies.

        A bucket or channel that is None is not checked; the terms of the rule apply only if both are given.
        """
        decided = self.decide(verb, key, channel_id)
        if isinstance(decided, AccessRefused):
            raise self._noted(decided, verb, key, channel_id)
        return decided

    def attempt(self, verb: Verb, key: BucketKey | None, channel_id: str | None) -> AccessRefused | None:
        """Return what `require` would raise, for a person who tried it."""
        refusal = self.refusal(verb, key, channel_id)
        return None if refusal is None else self._noted(refusal, verb, key, channel_id)

    def _noted(
        self, refusal: AccessRefused, verb: Verb, key: BucketKey | None, channel_id: str | None
    ) -> AccessRefused:
        user_id = self.person.user_id
        key = key if key is None or is_bucket_name(key.bucket) else None  # a record names no bucket that cannot be
        self.note(RefusedAttempt(user_id=user_id, refusal=refusal, verb=verb, key=key, channel_id=channel_id))
        return refusal

    def refusal(self, verb: Verb, key: BucketKey | None, channel_id: str | None) -> AccessRefused | None:
        """Return what `require` would raise."""
        decided = self.decide(verb, key, channel_id)
        return decided if isinstance(decided, AccessRefused) else None

    def decide(self, verb: Verb, key: BucketKey | None, channel_id: str | None) -> Rule | AccessRefused:
        """Return the first rule that fits, or the refusal, which is noted nowhere: this person has tried nothing."""
        return decide(self.rules, Request(person=self.person, verb=verb, key=key, channel_id=channel_id))

    def find_rules(self, verb: Verb, key: BucketKey | None, channel_id: str | None) -> Sequence[Rule]:
        """Return the rules of which one will decide, as far as that is known: for what a form says beforehand."""
        request = Request(person=self.person, verb=verb, key=key, channel_id=channel_id)
        if request.is_whole:
            decided = decide(self.rules, request)
            return [decided] if isinstance(decided, Rule) else []
        found = []
        for rule in self.rules:
            if rule.refuse(request) is None:
                found.append(rule)
                if (key or not rule.buckets) and (channel_id or not rule.channels):  # no later one can decide
                    break
        return found

    def require_approver(self, rule: Rule, requester: str, key: BucketKey, channel_id: str | None) -> None:
        """Raise AccessRefused unless this person may approve what `requester` asked for under the rule.

        NotAnApprover or OwnRequest; MembershipUnknown or UsergroupUnreadable if Slack does not say.
        """
        refusal = self._refuse_approving(rule, requester, key, channel_id)
        if refusal is not None:
            raise self._noted(refusal, Verb.APPROVE, key, channel_id)

    def _refuse_approving(
        self, rule: Rule, requester: str, key: BucketKey, channel_id: str | None
    ) -> AccessRefused | None:
        if self.person.user_id == requester:
            return OwnRequest()
        if rule.approvers is not None:
            refusal = rule.approvers.refuse(self.person)
        else:
            refusal = self.refusal(Verb.APPROVE, key, channel_id)
        is_doubt = isinstance(refusal, MembershipUnknown | UsergroupUnreadable)
        return refusal if refusal is None or is_doubt else NotAnApprover()

    def outlook(self, *verbs: Verb, channel_id: str | None = None) -> Outlook:
        """Return which buckets this person may do one of these things with, or anything at all; in doubt, fewer."""
        wanted = [Request(person=self.person, verb=verb, channel_id=channel_id) for verb in (verbs or (None,))]
        lists = {rule.buckets for rule in self.rules if not all(rule.refuse(request) for request in wanted)}
        return Outlook(frozenset({()} if () in lists else lists))

    def sees(self, key: BucketKey, *verbs: Verb) -> bool:
        """Return whether this person may see a bucket in a table, a list or a button."""
        return self.outlook(*verbs).sees(key)
