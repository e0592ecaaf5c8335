"""What the stub knows. Tests read it, set it before or while a client works, and never need to lock it."""

import math
import threading
from collections.abc import Callable
from typing import Any, Literal

from attrs import define, field

from modelport.arm.ids import WorkspaceId

from .messages import Fault, Seen

WORKSPACE = WorkspaceId("00000000-0000-0000-0000-000000000000", "rg", "ws")
CONTAINER = "azureml-blobstore-1"
SIGNATURE = "sv=2022-11-02&sig=abc"


@define(eq=False, slots=False)
class State:
    """The workspace of the recordings and its storage account."""

    url: str = ""
    workspace: WorkspaceId = WORKSPACE
    location: str = "westeurope"
    seen: list[Seen] = field(factory=list)
    """Every request, in the order in which their heads arrived."""
    resources: dict[str, dict[str, Any]] = field(factory=dict)
    """Place below the workspace → document, as a GET answers it."""
    blobs: dict[str, bytes] = field(factory=dict)
    """`/container/path` → content."""
    metadata: dict[str, dict[str, str]] = field(factory=dict)
    """`/container/path` → what stands behind `x-ms-meta-`."""
    blocks: dict[str, dict[str, bytes]] = field(factory=dict)
    """`/container/path` → block id → content, of blocks that no list has committed yet."""
    committed: dict[str, dict[str, int]] = field(factory=dict)
    """`/container/path` → block id → size, of a blob that was made from blocks."""
    sizes: dict[str, int] = field(factory=dict)
    """`/container/path` → size of the content, which a stub that does not keep contents forgets."""
    keys: dict[str, dict[str, str]] = field(factory=dict)
    """Endpoint → `{"primaryKey", "secondaryKey"}`; `p0` and `s0` at first."""
    faults: list[Callable[[Seen], Fault | None]] = field(factory=list)
    """Asked about each request, when its head has come, before its body and before it has an effect."""
    polls: float = 1
    """How many looks find an operation in progress; `math.inf`: it never ends."""
    way: Literal["operation", "resource", "done"] = "operation"
    """How a PUT of an endpoint or a deployment is followed: by its operation, by the resource's state, not at all."""
    also_operation: bool = False
    """Whether a POST that takes a while answers with `Azure-AsyncOperation` beside `Location`."""
    failing: dict[str, dict[str, Any]] = field(factory=dict)
    """Place → the error with which the operations on it end."""
    retry_after_ms: int = 10
    """How soon clients are told to look again."""
    page_size: float = math.inf
    """How many items a list has before its `nextLink`; of a list of blobs, 5,000 at most."""
    tokens: set[str] | None = None
    """The bearer tokens that are good; None: all are."""
    signatures: set[str] = field(factory=lambda: {"abc"})
    """The `sig` of good SAS queries. Those given out have `abc`."""
    check_keys: bool = False
    """Whether `/score` wants a key or a token that was given out."""
    storage_credentials: Literal["Sas", "None"] = "Sas"
    """What the datastore offers: a SAS, or nothing but the caller's own token."""
    keep: bool = True
    """Whether contents are kept; without them, a stub takes any amount."""
    lock: threading.RLock = field(factory=threading.RLock, repr=False)
    operations: dict[str, Any] = field(factory=dict, repr=False)
    registries: dict[str, "State"] = field(factory=dict)
    """Name → what a registry has; `AzureStub.registry` makes one."""

    @property
    def host(self) -> str:
        return self.url.partition("//")[2]

    def of(self, method: str, part: str = "") -> list[Seen]:
        """The requests with this method whose path has this part."""
        return [each for each in list(self.seen) if each.method == method and part in each.path]
