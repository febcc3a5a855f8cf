"""What a run says of itself: facts, what changed, what was paid for, and the verdict first."""

from artifacts.bundles import create_bundle
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Store
from tasks.alerts.stories import metric_rows, refresh_story, release_story, usage_rows
from tasks.frame.stage import LlmUsage, StageResult
from tests.tasks.alerts.told_release import VERDICT, release


def dataset(store: Store, users: int) -> ArtifactRef:
    made = identity(Kind.DATASET, {"users": users}, {})
    with store.create(made) as draft:
        draft.counts["users"] = users
    return made.ref


def stage(name: str, ref: ArtifactRef, usage: LlmUsage | None = None, **counts: int) -> StageResult:
    return StageResult(
        stage=name,
        ref=ref,
        reused=usage is None,
        seconds=2.5,
        counts=dict(counts),
        notes=[],
        usage=usage or LlmUsage(),
    )


def test_a_refresh_tells_what_changed_since_the_last_dump(store: Store) -> None:
    before = create_bundle(store, Kind.REFRESH, {"dataset": dataset(store, users=1000)})
    now = stage("ingest", dataset(store, users=1200), users=1200)
    story = refresh_story(store, (now,), before, changed=True)
    assert "| users | 1,200 | 1,000 | +200 |" in story
    assert "New data" in story
    first = refresh_story(store, (now,), None, changed=False)
    assert "| users | 1,200 | – | – |" in first
    assert "no model will be trained" in first


def test_usage_is_told_by_stage_and_in_all(store: Store) -> None:
    ref = dataset(store, 1)
    asked = LlmUsage(prompts=10, reused=7, requests=3, failed=1, prompt_tokens=1500, usd=0.25)
    rows = usage_rows(
        (stage("ingest", ref), stage("embed items", ref, asked), stage("profile users", ref, asked))
    )
    assert [row["stage"] for row in rows] == ["embed items", "profile users", "all"]
    assert (rows[-1]["sent"], rows[-1]["tokens in"]) == ("6", "3,000")
    assert rows[-1]["US dollars"] == "0.50"


def test_a_model_without_a_price_has_no_bill_of_zero(store: Store) -> None:
    asked = LlmUsage(prompts=3, requests=3, unpriced=3)
    (row, _) = usage_rows((stage("embed items", dataset(store, 1), asked),))
    assert row["US dollars"] == "no price known"


def test_quality_stands_beside_the_last_model(store: Store) -> None:
    old, new = release(store, 0.20), release(store, 0.22)
    (row,) = metric_rows(store, new, old)
    assert (row["new model"], row["last model"], row["change"]) == ("0.2200", "0.2000", "+10.0%")
    assert metric_rows(store, new, None)[0]["change"] == "–"


def test_a_held_model_says_so_first_and_how_to_serve_it(store: Store) -> None:
    old, new = release(store, 0.20), release(store, 0.12)
    held = VERDICT.model_copy(update={"promoted": False, "reasons": ("much worse",)})
    story = release_story(store, new, old, held, ())
    assert story.index("**Held:**") < story.index("## Quality")
    assert f"llm4cdsr promote {new.fingerprint}" in story
    assert "much worse" in story
    assert "The new model is served." in release_story(store, new, old, VERDICT, ())


SHOWN = r"x\](javascript:a) \| !\[b\](http://c/d.png) \<img src=e\> \`f\` \*\*g\*\* \# h"
NAME = "x](javascript:a) | ![b](http://c/d.png) <img src=e> `f` **g**\n# h"


def test_names_are_shown_as_they_are_and_load_nothing(store: Store) -> None:
    reasons = (f"lists of {NAME} are short",)
    held = VERDICT.model_copy(update={"promoted": False, "reasons": reasons})
    noted = stage("ingest", dataset(store, 1)).model_copy(update={"notes": [NAME]})
    stories = (
        release_story(store, release(store, 0.2), None, held, ()),
        refresh_story(store, (noted,), None, changed=True),
    )
    for story in stories:
        assert SHOWN in story
