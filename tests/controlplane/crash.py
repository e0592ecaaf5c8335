"""
A server that dies by SIGKILL at a chosen point of an operation.

`python crash.py PLAN`, a JSON file: `home`, `environments`, `point`, `verb`, and the `first` and `second` documents of
a deployment. It makes `tides` and the first, writes where it is called beside the plan, and dies within the second.
"""

import json
import os
import signal
import sys
from pathlib import Path

from modelport.controlplane.jobs import Jobs
from modelport.entities import ManagedOnlineEndpoint
from modelport.operations.loading import load_online_deployment
from modelport.testing import workspace


def main(plan_file):
    plan = json.loads(plan_file.read_text())
    with workspace(Path(plan["home"]), environments=Path(plan["environments"])) as client:
        endpoint = ManagedOnlineEndpoint(name="tides")
        client.online_endpoints.begin_create_or_update(endpoint).result(60)
        if plan["first"]:
            client.online_deployments.begin_create_or_update(load_online_deployment(plan["first"])).result(60)
            if plan["verb"] != "delete":
                endpoint.traffic = {"blue": 100}
                client.online_endpoints.begin_create_or_update(endpoint).result(60)
        uri = client.online_endpoints.get("tides").scoring_uri
        key = client.online_endpoints.get_keys("tides").primary_key
        plan_file.with_suffix(".called").write_text(json.dumps({"uri": uri, "key": key}))
        arm(plan["point"], client._service.transport.opened.app._parts)
        if plan["verb"] == "put":
            client.online_deployments.begin_create_or_update(load_online_deployment(plan["second"])).result(60)
        elif plan["verb"] == "delete":
            client.online_deployments.begin_delete("blue", "tides").result(60)
        elif plan["verb"] == "delete endpoint":
            client.online_endpoints.begin_delete("tides").result(60)
        die()


def arm(point, parts):
    """Die where `point` says: `accepted`, `building`, `removing`, `removed`, `before Serve`, `after Run`, …"""
    begin, take, remove = Jobs.begin, Jobs._take, parts.backend.remove

    def die_at(place):
        if point == place:
            die()

    def begin_or_die(jobs, operation):
        die_at("accepted")
        begin(jobs, operation)

    def take_or_die(jobs, step, operation):
        die_at(f"before {type(step).__name__}")
        take(jobs, step, operation)
        die_at(f"after {type(step).__name__}")

    def build_or_die(conda, report):
        die()

    def remove_or_die(revision_id):
        die_at("removing")
        remove(revision_id)
        die_at("removed")

    Jobs.begin, Jobs._take, parts.backend.remove = begin_or_die, take_or_die, remove_or_die
    if point == "building":
        parts.jobs._builder.build = build_or_die


def die():
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
