"""The figures in plain words: what a manager needs to know, what supports it, and what to do next."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from local.evaluation.figures import Figures, Rates
from local.evaluation.intervals import Rate, needed

Light = Literal["good", "as_set", "bad", "unsure"]

LIGHTS: dict[Light, str] = {
    "good": "Better than the target",
    "as_set": "In line with the target",
    "bad": "Worse than the target",
    "unsure": "Too few strangers to say",
}

MANY_LOST = 0.02
"""From this share of strangers' photographs without a usable face on, their rate has to be told apart."""

LOOSE = 0.05
"""A limit farther than this from none, or from all, is told as being little."""

FEW_PEOPLE = 30
"""Below so many enrolled people tested, the share that is recognised says little of others."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said first.

    Attributes:
        light: whether the share of strangers who are named keeps to the target, as far as the interval can tell.
        sentences: the headline.
        support: what the light rests on.
        next_steps: what to do, the most important first.
    """

    light: Light
    sentences: tuple[str, ...]
    support: str
    next_steps: tuple[str, ...]

    @property
    def label(self) -> str:
        return LIGHTS[self.light]


def judge(figures: Figures) -> Verdict:
    """The verdict on a trial."""
    strangers, target = figures.rates.strangers_named, figures.trial.target_fpir
    light = light_of(strangers, target)
    return Verdict(light, _headline(figures), _support(strangers, target, light), tuple(_next_steps(figures, light)))


def light_of(strangers: Rate, target: float) -> Light:
    """A colour only where the interval allows one: wholly below the target, wholly above, or as narrow as it must be.

    With fewer strangers than the rule of three asks for, even a spotless result shows nothing; too many names can show
    earlier that the target is missed.
    """
    if strangers.total and strangers.low > target:
        return "bad"
    if strangers.effective < needed(target):
        return "unsure"
    return "good" if strangers.high < target else "as_set"


def per(share: float, of: int) -> str:
    """A share as a number of `of`, with as many digits as it takes to tell it from nothing and from all.

    >>> per(0.0092, 1000), per(0.9631, 100), per(0.9982, 100), per(0.00004, 1000), per(0.99996, 100), per(1.0, 100)
    ('9', '96', '99.8', '0.04', '99.996', '100')
    """
    value = share * of
    for decimals in (1 if 0 < value < 1 or of - 1 < value < of else 0, 2, 3, 4):
        text = f"{value:.{decimals}f}"
        if float(text) not in (0.0, float(of)) or value in (0.0, float(of)):
            break
    return text.removesuffix(".0")


def between(rate: Rate, of: int) -> str:
    """The interval, as `(5 to 15)`; with a decimal where its ends would read the same."""
    low, high = per(rate.low, of), per(rate.high, of)
    if low == high:
        low, high = f"{rate.low * of:.1f}", f"{rate.high * of:.1f}"
    return f"({low} to {high})"


def _headline(figures: Figures) -> tuple[str, ...]:
    return _of_strangers(figures.rates.strangers_named), *_of_people(figures)


def _of_strangers(strangers: Rate) -> str:
    if not strangers.total:
        return "No photographs of strangers were given, so nothing can be said of how many would be given a name."
    if strangers.count == 0:
        told = (
            "The one photograph of a stranger was not"
            if strangers.total == 1
            else (f"None of the {strangers.total:,} photographs of strangers was")
        )
        most = per(strangers.high, 1_000)
        return f"{told} given a name; {_shows(strangers.high < LOOSE)} fewer than {most} of 1,000 would be."
    if strangers.count == strangers.total:
        return f"Every photograph of a stranger, {strangers.total:,} in all, was given a name."
    return f"Of 1,000 strangers about {per(strangers.share, 1_000)} {between(strangers, 1_000)} would be given a name."


def _of_people(figures: Figures) -> tuple[str, ...]:
    rates = figures.rates
    right = rates.named_rightly
    if not right.total:
        return (
            "No other photographs of enrolled people were given, so nothing can be said of how many are recognised.",
        )
    if right.count == right.total:
        told = (
            "The one photograph of an enrolled person was"
            if right.total == 1
            else (f"All {right.total:,} photographs of enrolled people were")
        )
        first = f"{told} named rightly; {_shows(right.low > 1 - LOOSE)} at least {per(right.low, 100)} of 100 would be."
    else:
        first = f"Of 100 sightings of enrolled people {per(right.share, 100)} {between(right, 100)} are named rightly."
    return first, _rest(rates)


def _rest(rates: Rates) -> str:
    """What became of the photographs of enrolled people that were not named rightly."""
    wrong, unknown, lost = rates.named_wrongly.count, rates.unknown.count, rates.unusable.count
    told = [f"{_were(wrong)} given somebody else’s name"] + [f"{_were(unknown)} left unknown"] * bool(unknown)
    told += [f"in {lost:,} no face could be used"] * bool(lost)
    listed = told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"
    return f"Of {counted(rates.named_rightly.total, 'such photograph')} {listed}."


def _shows(enough: bool) -> str:
    return "so many show that" if enough else "so few show only that"


def _were(count: int) -> str:
    return {0: "none was", 1: "1 was"}.get(count, f"{count:,} were")


def counted(count: int, what: str, many: str = "") -> str:
    """A number with its noun.

    >>> counted(1, "photograph"), counted(1200, "photograph"), counted(2, "person", "people")
    ('1 photograph', '1,200 photographs', '2 people')
    """
    return f"{count:,} {what if count == 1 else many or what + 's'}"


def _support(strangers: Rate, target: float, light: Light) -> str:
    aim = f"The target is that at most {per(target, 1_000)} of 1,000 strangers are given a name"
    if not strangers.total:
        return f"{aim}; without strangers that cannot be tested."
    seen = f"{strangers.count:,} of {strangers.total:,} photographs of strangers were"
    limits = f"the true rate is between {per(strangers.low, 1_000)} and {per(strangers.high, 1_000)} of 1,000 (95 %)"
    ending = {
        "good": "all of that is below the target.",
        "as_set": "the target lies within.",
        "bad": "all of that is above the target.",
        "unsure": f"to confirm the target takes at least {needed(target):,} independent strangers.",
    }[light]
    return f"{aim}. Here {seen}: {limits}; {ending}"


def _next_steps(figures: Figures, light: Light) -> list[str]:
    steps = _about_strangers(figures, light)
    steps += _about_people(figures)
    if not figures.trial.calibration.get("calibrated", False):
        why = figures.trial.calibration.get("why", "")
        steps.append(
            "The threshold is the embedder’s cautious default, not one calibrated for this gallery"
            + (f" ({why})." if why else ".")
            + " It changes by itself as more people are enrolled."
        )
    if figures.trial.left_out:
        steps.append(
            f"{counted(len(figures.trial.left_out), 'photograph')} to search for did not count, being the very files "
            "that are enrolled: use photographs that the gallery does not hold."
        )
    return steps


def _about_strangers(figures: Figures, light: Light) -> list[str]:
    strangers, target = figures.rates.strangers_named, figures.trial.target_fpir
    if light == "unsure":
        more = max(needed(target) - math.floor(strangers.effective), 1)
        return [
            f"Add photographs of about {counted(more, 'more person', 'more people')} who are not enrolled, one of each "
            f"(--strangers DIR). {needed(target):,} of them with not one named would show that fewer than "
            f"{per(target, 1_000)} of 1,000 are: the rule of three."
        ]
    if light == "bad":
        return [
            "More strangers are named than intended. Look at the pairs below: two photographs of one person under two "
            "names, or a wrong folder, are the usual cause. If they are right, train with a smaller "
            "FACERELAY_TARGET_FPIR; the table of thresholds shows what that costs."
        ]
    lost = strangers.total - figures.rates.usable_strangers_named.total
    if lost > MANY_LOST * strangers.total:
        usable = figures.rates.usable_strangers_named
        return [
            f"In {counted(lost, 'photograph')} of strangers no face could be used, so no name could be given. Of the "
            f"other {usable.total:,}, {per(usable.share, 1_000)} {between(usable, 1_000)} of 1,000 were."
        ]
    return []


def _about_people(figures: Figures) -> list[str]:
    rates, steps = figures.rates, []
    tested = len(figures.people)
    if not rates.named_rightly.total:
        return [
            "Add other photographs of enrolled people (--probes DIR, or --split 3), taken on another day and by the "
            "cameras that will be used."
        ]
    if tested < FEW_PEOPLE:
        steps.append(
            f"Only {counted(tested, 'enrolled person was', 'enrolled people were')} tested. How many are recognised "
            f"differs between people, so this says little of others: test at least {FEW_PEOPLE}."
        )
    absent = sorted(set(figures.trial.plan.people) - set(figures.trial.model.person_ids))
    if absent:
        names = ", ".join(figures.trial.plan.people[person] for person in absent[:5]) + ", …" * (len(absent) > 5)
        steps.append(
            f"{counted(len(absent), 'person', 'people')} could not be enrolled at all, since no photograph was "
            f"accepted, and can only be missed: {names}."
        )
    if figures.trial.refused:
        steps.append(
            f"{counted(len(figures.trial.refused), 'photograph')} could not be enrolled, for the reasons listed below: "
            "use sharp photographs of one face instead."
        )
    weak = [row for row in figures.people if row.photographs >= 2 and row.named_rightly < row.photographs / 2]
    if weak:
        steps.append(
            f"{counted(len(weak), 'person is', 'people are')} recognised in fewer than half of the photographs "
            "searched for (see “Who is recognised least”): enrol more and newer photographs of them."
        )
    return steps
