"""What is sent is let go of at once: an upload of any size needs the memory of the blocks that are under way."""

import gc
import sys

from modelport.arm.messages import Request


def test_nothing_holds_on_to_what_was_sent(azure_stub, azure_client):
    transport = azure_client()._service.transport
    content = bytes(1 << 20)
    put = Request(
        "PUT",
        f"{azure_stub.url}/c/large?sig=abc",
        query={"comp": "block", "blockid": "MQ=="},
        content=content,
        credential="none",
    )
    known = sys.getrefcount(content)
    gc.collect()
    gc.disable()  # what is let go of needs no collector
    try:
        for _ in range(3):
            assert transport.send(put).status == 201
    finally:
        gc.enable()
    azure_stub.blocks.clear()
    assert sys.getrefcount(content) == known
