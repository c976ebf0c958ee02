"""Room for bodies: what is over the limit is sent away, what has ended gives its room back."""

from __future__ import annotations

import pytest

from serving.admission import Admission
from serving.problems import Problem


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
