"""Room for bodies: what is over the limit is sent away, what has ended gives its room back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from serving.admission import Admission
from serving.headers import ModelHeaders
from serving.problems import Problem
from serving.routes import create_app
from serving.served import Served
from tests.serving.pictures import digit, png


def test_room_is_given_back_when_a_request_ends_whether_well_or_not() -> None:
    admission = Admission(100)
    with admission.held(60):
        with pytest.raises(Problem, match="send the request again later") as refusal, admission.held(41):
            pass
        assert refusal.value.status == 503 and refusal.value.headers == {"Retry-After": "1"}
        with admission.held(40):
            pass
    with pytest.raises(RuntimeError), admission.held(100):
        raise RuntimeError("the request failed")
    with admission.held(100):
        pass


def test_a_request_alone_is_let_in_however_large() -> None:
    admission = Admission(10)
    with admission.held(1000), pytest.raises(Problem), admission.held(1):
        pass


def test_the_service_sends_away_what_it_has_no_room_for(served: Served) -> None:
    """A large body under way takes the room; a small one that comes meanwhile is told when to come again."""
    app = create_app()
    app.state.served = replace(served, admission=Admission(1000))
    with TestClient(ModelHeaders(app, app.state)) as client:
        files = {"image": png(digit())}
        with app.state.served.admission.held(900):
            refused = client.post("/predict", files=files)
        assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
        assert refused.json()["type"] == "urn:hallmark:problem:busy"
        assert client.post("/predict", files=files).status_code == 200
