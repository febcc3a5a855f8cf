"""Summary of a run: three sentences and a few key numbers.

Sentences are computed from the metrics, also for a model that is worse than a baseline.
"""

from dataclasses import dataclass

from artifacts.kinds.results import OUR_MODEL
from model.scoring.measurable import LEAST_CANDIDATES
from tasks.frame.number_texts import signed
from tasks.frame.stage import RunFacts
from tasks.promoting.baseline_lead import FEWEST, BaselineLead
from tasks.reporting.facts.content import HeldOut, ReportContent
from tasks.reporting.facts.metrics import (
    POPULARITY,
    Headline,
    first_crossings,
    format_gain,
    format_score,
    hit_ratio_margin,
)


@dataclass(frozen=True)
class KeyNumber:
    """A key number with its unit and direction."""

    value: str
    label: str
    note: str
    is_wide: bool = False


def summary_sentences(content: ReportContent, found: tuple[Headline, ...]) -> tuple[str, str, str]:
    """Returns the opening sentences: accuracy, strongest baseline, data."""
    if not found and content.cold_domain:
        accuracy, rivals = _cold_sentences(content)
    elif not found and content.left_out:
        accuracy = (
            f"All {content.left_out:,} held-out events have fewer than {LEAST_CANDIDATES} "
            "candidates: any model ranks them well, so this page says nothing about accuracy."
        )
        rivals = "For the same reason there is no comparison with baselines."
    elif not found:
        accuracy = "This run has no evaluation yet, so this page says nothing about accuracy."
        rivals = "Without an evaluation there is no comparison with baselines either."
    else:
        asked = content.held_out or HeldOut(found[0].targets, found[0].targets)
        accuracy = _accuracy_sentence(found[0], asked)
        if content.left_out:
            accuracy += (
                f" {content.left_out:,} more have fewer than {LEAST_CANDIDATES} candidates and are "
                "left out."
            )
        if content.lead is None:
            rivals = _rival(found[0], asked)
        else:
            rivals = f"{content.lead.sentence[0].upper()}{content.lead.sentence[1:]}."
    return accuracy, rivals, _source_sentence(content)


def key_numbers(content: ReportContent, found: tuple[Headline, ...]) -> list[KeyNumber]:
    """Returns the available key numbers, the most important first."""
    numbers = [_lead_tile(content.lead)] if content.lead else []
    numbers += [
        KeyNumber(format_score(h.metric, h.ours), h.metric, "full ranking; higher is better")
        for h in found
    ]
    if found and found[0].popularity:
        gain = format_gain(found[0].ours, found[0].popularity)
        numbers.append(KeyNumber(gain, "popularity's " + found[0].metric, "above 1× is better"))
    numbers += _crossing_tile(content)
    if (guards := content.guards) is not None and guards.coverage:
        shown = sum(c.recommended_items for c in guards.coverage)
        share = shown / max(1, sum(c.items for c in guards.coverage))
        numbers.append(KeyNumber(f"{share:.0%}", "catalogue coverage", "higher is more varied"))
    if (data := content.dataset) is not None and data.users:
        share = data.overlapping_users / data.users
        numbers.append(KeyNumber(f"{share:.0%}", "users in several domains", "from the data"))
    return numbers


def _lead_tile(lead: BaselineLead) -> KeyNumber:
    if not lead.is_judged:
        return KeyNumber("too few", "events to judge", f"{lead.events:,} of {FEWEST} needed")
    side = "behind" if lead.is_behind else "ahead" if lead.is_ahead else "level"
    note = (
        f"NDCG@10 {lead.ours:.3f} against {lead.theirs:.3f}; 95% interval of the difference "
        f"{signed(lead.low)} to {signed(lead.high)}"
    )
    return KeyNumber(
        side,
        f"of the strongest baseline, {lead.baseline}"
        if side != "level"
        else f"with the strongest baseline, {lead.baseline}",
        note,
        is_wide=True,
    )


def _crossing_tile(content: ReportContent) -> list[KeyNumber]:
    """Returns HR@10 of users' first events in a domain; empty if it was not measured."""
    if content.metrics is None:
        return []
    values, events = first_crossings(content.metrics)
    if not values:
        return []
    note = f"of {events:,} events; full ranking"
    if POPULARITY in values:
        base = format_score("HR@10", values[POPULARITY])
        note = f"of {events:,} events; popularity {base}"
    share = format_score("HR@10", values[OUR_MODEL])
    return [KeyNumber(share, "HR@10 of first events in a domain", note)]


def _accuracy_sentence(head: Headline, asked: HeldOut) -> str:
    share = format_score(head.metric, head.ours)
    base = format_score(head.metric, head.popularity)
    against = (
        " (popularity was not evaluated)"
        if head.popularity is None
        else f", against {base} for popularity"
    )
    if head.popularity:
        against += f" ({format_gain(head.ours, head.popularity).rstrip('×')} times as much)"
    events = (
        f"On the held-out last events of {asked.users:,} users"
        if asked.is_last_events
        else f"On {asked.events:,} held-out events of {asked.users:,} users"
    )
    where = (
        f"{events}, ranked among all items of their domain that the user has not seen, {OUR_MODEL}"
    )
    if head.metric.startswith("HR"):
        top = head.metric.partition("@")[2]
        return f"{where} places the right item in the top {top} for {share}{against}."
    return f"{where} reaches {head.metric} of {share}{against}."


def _cold_sentences(content: ReportContent) -> tuple[str, str]:
    """Returns the first two sentences for data with withheld domains only."""
    table = content.cold_domain[0]
    (ours,) = (row for row in table.rows if row.leads is None)
    accuracy = (
        f"For {table.users:,} users all events in one domain were withheld; ranking its items, "
        f"{OUR_MODEL} has a withheld item in the top 10 for {ours.values[0]:.1%} of them."
    )
    others = [row for row in table.rows if row.leads is not None]
    if not others:
        return accuracy, "No baseline was evaluated, so a stronger one may exist."
    best = max(others, key=lambda row: row.values[0])
    assert best.leads is not None
    lead, low, high = (100 * value for value in best.leads[0])
    side = "ahead of" if lead >= 0 else "behind"
    return accuracy, (
        f"It is {abs(lead):.1f} percentage points {side} the strongest baseline, {best.model} "
        f"({best.values[0]:.1%}); the 95% interval of the lead is {signed(low, 1)} to "
        f"{signed(high, 1)}."
    )


def _rival(head: Headline, asked: HeldOut) -> str:
    if head.rival is None:
        return "No baseline other than popularity was evaluated, so a stronger one may exist."
    name, value = head.rival
    gap = head.ours - value
    if head.metric.startswith("HR"):
        size = f"{abs(gap) * 100:.1f} percentage points"
        margin = hit_ratio_margin(head.ours, head.targets) * 100
        note = f", with a sampling error of about ±{margin:.1f} points"
        if not asked.is_last_events:
            note = ""  # Events of one user are correlated, so the margin would be too small.
    else:
        size, note = f"{abs(gap):.3f}", ""
    side = "ahead of" if gap >= 0 else "behind"
    return (
        f"It is {size} {side} the strongest other baseline, {name} "
        f"({format_score(head.metric, value)}){note}."
    )


def _source_sentence(content: ReportContent) -> str:
    data = content.dataset
    if data is None:
        source = f"The run used the dataset {content.dataset_name}"
    else:
        names = [domain.name for domain in data.domains]
        source = (
            f"It was made from {data.events:,} events of {data.users:,} users on "
            f"{data.items:,} items in {len(names)} domain{'' if len(names) == 1 else 's'} "
            f"({', '.join(names)})"
        )
    facts = RunFacts(content.stages)
    usage = facts.usage
    if not facts.asking:
        return f"{source}; no language model requests were recorded."
    return (
        f"{source}, with {usage.requests:,} language model requests, {usage.reused:,} answers "
        f"reused at no cost and {usage.failed:,} failed."
    )
