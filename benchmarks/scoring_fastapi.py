"""FastAPI as its fast users have it: an async handler that reads the body itself and answers with bytes."""

from fastapi import FastAPI, Request, Response
from scoring_apps import SCORE

app = FastAPI()


@app.post("/score")
async def answer(request: Request) -> Response:
    return Response(SCORE(await request.body()), media_type="application/json")
