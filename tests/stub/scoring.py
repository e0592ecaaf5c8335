"""`/score` echoes what it was asked, and which deployment was asked for; `/tenant` gives tokens."""

import json

from .messages import Answer, Seen, fault
from .state import State

TOKEN = "/oauth2/v2.0/token"
SWAGGER = {"openapi": "3.0.3", "info": {"title": "tides", "version": "1"}, "paths": {"/score": {"post": {}}}}


def score(state: State, seen: Seen) -> Answer:
    """JSON is echoed as JSON, anything else as text."""
    key = seen.headers.get("authorization", "").removeprefix("Bearer ")
    good = {value for keys in state.keys.values() for value in keys.values()} | {"tok"} | (state.tokens or set())
    if state.check_keys and key not in good:
        return Answer(401, "key_auth_access_denied", {"Content-Type": "text/plain"})
    try:
        said = json.loads(seen.body)
    except ValueError:
        said = seen.body.decode(errors="replace")
    deployment = seen.headers.get("azureml-model-deployment")
    headers = {"x-ms-run-function-failed": "False", "x-request-id": seen.headers.get("x-request-id", "r-1")}
    return Answer(200, {"echo": said, "deployment": deployment}, headers)


def login(state: State, seen: Seen) -> Answer:
    """What an authority says: where its doors are, and tokens for whoever asks."""
    authority = f"{state.url}/{seen.path.strip('/').split('/')[0]}"
    if seen.path.endswith(TOKEN) and seen.method == "POST":
        return Answer(200, {"token_type": "Bearer", "expires_in": 3600, "access_token": "faketoken"})
    if seen.path.endswith("/.well-known/openid-configuration"):
        doors = {name: f"{authority}/oauth2/v2.0/{name}" for name in ("authorize", "devicecode")}
        return Answer(
            200,
            {
                "token_endpoint": authority + TOKEN,
                "authorization_endpoint": doors["authorize"],
                "device_authorization_endpoint": doors["devicecode"],
                "issuer": f"{authority}/v2.0",
            },
        )
    return fault(404, "NotFound", f"{seen.path} not found")
