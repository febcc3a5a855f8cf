"""What the flows tell the Prefect server, so that deployments can be triggered by it.

`prefect.yaml` names these events in its triggers. An event is delivered before the function
returns: whoever notes that something was announced does so afterwards, and a process that dies
in between announces it once more.
"""

from prefect.events import emit_event
from prefect.events.worker import EventsWorker

from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from artifacts.store_notes import store_id
from tasks.dump.sources.dump_watch import LandedDump
from tasks.frame.prefect_link import DEADLINE_SECONDS, PrefectGoneError, link

DUMP_LANDED = "llm4cdsr.dump.landed"
REFRESH_CHANGED = "llm4cdsr.refresh.changed"

_DELIVERY_SECONDS = DEADLINE_SECONDS


def announce_dump(store: Store, dump: LandedDump) -> None:
    """Says that a complete new dump is there: its folder, files and checksum, and which store
    has not seen it."""
    resource = {
        "prefect.resource.id": f"llm4cdsr.dump.{dump.checksum[:16]}",
        "prefect.resource.name": dump.name,
        "folder": dump.folder,
        "interactions": dump.interactions,
        "items": dump.items,
        "checksum": dump.checksum,
        "store": store_id(store),
    }
    _deliver(DUMP_LANDED, resource)


def announce_refresh(store: Store, refreshed: ArtifactRef, name: str) -> None:
    """Says that a refresh made something in a store that no model has been trained on."""
    resource = {
        "prefect.resource.id": f"llm4cdsr.refresh.{refreshed.fingerprint}",
        "prefect.resource.name": name,
        "store": store_id(store),
    }
    _deliver(REFRESH_CHANGED, resource)


def _deliver(event: str, resource: dict[str, str]) -> None:
    to = link()
    if to is not None and to.given_up:
        return
    if to is not None and to.gone.is_set():
        raise PrefectGoneError(f"{event} cannot be announced: {to.api_url} does not answer")
    emit_event(event=event, resource=resource)
    EventsWorker.drain_all(timeout=_DELIVERY_SECONDS)
