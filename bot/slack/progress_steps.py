"""The lines of a modal's progress, built from the delivery's plan."""

from bot.delivery.plan import PLANS
from bot.model.submission import Task
from bot.slack.messages.outcome import ProgressStep


def steps_of(task: Task) -> tuple[ProgressStep, ...]:
    """Return the labelled steps of a task's plan, in order."""
    return tuple(ProgressStep(state=step.state, label=step.label) for step in PLANS[task] if step.label)
