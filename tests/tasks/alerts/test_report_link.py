"""A promoted release links to the served report among the artifacts; a held one does not."""

import pytest
from prefect import flow

from artifacts.store import Store
from tasks.alerts import stories
from tests.tasks.alerts.told_release import VERDICT, release


@pytest.mark.parametrize("promoted", [True, False])
def test_only_what_is_served_is_linked(
    promoted: bool, store: Store, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[dict[str, str]] = []
    monkeypatch.setattr(stories, "create_link_artifact", lambda **told: left.append(told))
    verdict = VERDICT.model_copy(update={"promoted": promoted, "reasons": ()})
    made = release(store, 0.2)

    @flow
    def telling() -> None:
        stories.publish_release_summary(
            store, made, None, verdict, (), "https://shop.example/recs/"
        )

    telling()
    assert [told["link"] for told in left] == ["https://shop.example/recs/report"] * promoted
