"""A process of its own that embeds and profiles a shop: profiled_once URL STORE USERS.

Prints the checksums of both artifacts' files, the requests and the reused answers, as JSON.
"""

import json
import sys

from artifacts.store import Store
from tasks.cluster import ClusterConfig, cluster_items
from tasks.embed import embed_items
from tasks.frame.prefect_link import send_nothing_more
from tasks.profile import ProfileConfig, profile_users
from tests.tasks.shops.small_shop import EVENTS, LENIENT, SmallShop, endpoints_at


def profiled(url: str, store: Store, users: int) -> dict[str, object]:
    """Makes the artifacts; a fifth of the users share their histories, so prompts are equal."""
    copies = [(f"{user}{n}", *rest) for n in range(users // 5) for user, *rest in EVENTS]
    titles = {
        (domain, item): f"{kind} of {item}"
        for domain, kind, letter in (("books", "tale", "b"), ("gear", "tool", "g"))
        for item in (f"{letter}{number}" for number in range(1, 6))
    }
    for n in range(users // 5):
        titles[("books", f"n{n}")] = f"novel number {n}"
        copies.append((f"ada{n}", f"n{n}", "books", 0))
    shop = SmallShop(events=tuple(copies), titles=titles)  # pyright: ignore[reportArgumentType]
    by = endpoints_at(url)
    data = shop.ingested(store)
    vectors = embed_items.fn(data, by.embedding, LENIENT, store.root)
    clustered = cluster_items.fn(vectors.ref, ClusterConfig(clusters=3), store.root)
    profiles = profile_users.fn(data, clustered.ref, by, LENIENT, ProfileConfig(), store.root)
    stages = (vectors, profiles)
    return {
        "files": {
            str(stage.ref): {
                name: file.sha256 for name, file in store.manifest(stage.ref).files.items()
            }
            for stage in stages
        },
        "prompts": [stage.usage.prompts for stage in stages],
        "merged": [stage.usage.merged for stage in stages],
        "requests": sum(stage.usage.requests for stage in stages),
        "reused": sum(stage.usage.reused for stage in stages),
    }


if __name__ == "__main__":
    send_nothing_more()
    print(json.dumps(profiled(sys.argv[1], Store(sys.argv[2]), int(sys.argv[3]))))
