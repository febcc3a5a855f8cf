"""Events of flows on the Prefect server, which trigger deployments.

`prefect.yaml` has the triggers. An event is delivered before the function returns; callers record
it afterwards, so a process that dies in between sends it again.
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
    """Emits the event of a complete new dump: folder, files, checksum, and the store."""
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
    """Emits the event of a refresh with artifacts that no model was trained on."""
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
