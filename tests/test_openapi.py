"""What the OpenAPI document promises, under generated requests: statuses, shapes and content types; never a 5xx.

`CATALOGRAPH_CASES=15000 python -m pytest tests/test_openapi.py` asks more than 10,000: endpoints share the cases, and
those without parameters need few of theirs.
"""

import contextlib
import os
from collections import Counter

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_schema_conformance,
    status_code_conformance,
)
from serving import copy_of, process

from catalograph.service.keys import SCOPES, add_key

CASES, ENDPOINTS = int(os.environ.get("CATALOGRAPH_CASES", "120")), 11
IDS_OF_ITEMS = ("item", "items", "history")
PROMISES = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    ignored_auth,
]


@pytest.fixture(scope="module")
def service(built, tmp_path_factory):
    """The address of a service with keys that does not mind how often it is asked, and what to send along."""
    folder = tmp_path_factory.mktemp("openapi")
    toml = folder / "shop.toml"
    toml.write_text(built[0].read_text("utf-8") + "[serve]\nrate_per_s = 1e6\n", "utf-8")
    secret = add_key(folder / "keys", "all", SCOPES)
    build = copy_of(built[1], folder / "build")
    with process(toml, "--out", build, "--keys", folder / "keys") as (_, address, _):
        yield address, {"Authorization": f"Bearer {secret}"}


@pytest.fixture(scope="module")
def document(service):
    address, headers = service
    found = schemathesis.openapi.from_url(f"{address}/openapi.json")
    found.config.update(headers=headers)
    return found


def with_known_ids(body):
    """The same question about users and items of this shop, so that it gets as far as the model."""
    users, items = ({key: body[key] for key in keys if key in body} for keys in (("user", "users"), IDS_OF_ITEMS))
    return body | {k: _known(v, "u", 60) for k, v in users.items()} | {k: _known(v, "i", 40) for k, v in items.items()}


def _known(value, letter, n):
    if isinstance(value, list):
        return [_known(one, letter, n) for one in value]
    if isinstance(value, dict):  # a new item
        return value
    return f"{letter}{sum(map(ord, value)) % n:02}"


@pytest.mark.slow
@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
def test_generated_requests_meet_the_promises(document, mode):
    """positive: what the document allows; negative: what it does not."""
    met = Counter()
    for operation in (found.ok() for found in document.get_all_operations()):

        @settings(max_examples=max(CASES // ENDPOINTS // 2, 1), suppress_health_check=list(HealthCheck), database=None)
        @given(operation.as_strategy(mode), st.booleans())
        def ask(case, known):
            if known and mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
                case.body = with_known_ids(case.body)
            met[case.call_and_validate(checks=PROMISES).status_code] += 1

        with contextlib.suppress(Unsatisfiable):  # nothing can be wrong about a request that has no parameters
            ask()
    print(dict(met))
    assert {GenerationMode.POSITIVE: 200, GenerationMode.NEGATIVE: 422}[mode] in met
    assert not [status for status in met if status >= 500]


def test_the_examples_are_answered(service):
    """An example of the document, with the ids of this shop in it, is a question the service answers."""
    address, headers = service
    document = httpx.get(f"{address}/openapi.json").json()
    stand_in = {"17850": "u01", "RED RETROSPOT MUG": "i01", "RED RETROSPOT PLATE": "i02"}

    def here(value):
        if isinstance(value, dict):
            return {key: here(part) for key, part in value.items()}
        if isinstance(value, list):
            return [here(part) for part in value]
        return stand_in.get(value, value) if isinstance(value, str) else value

    asked = 0
    for path, operations in document["paths"].items():
        if "post" not in operations:
            continue
        schema = operations["post"]["requestBody"]["content"]["application/json"]["schema"]
        for reference in [part["$ref"] for part in schema.get("anyOf", [schema])]:
            example = document["components"]["schemas"][reference.rpartition("/")[2]]["example"]
            answer = httpx.post(address + path, json=here(example), headers=headers)
            assert answer.status_code == 200, (path, example)
            asked += 1
    assert asked == 11


def test_what_needs_a_key_says_so(service):
    document = httpx.get(f"{service[0]}/openapi.json").json()
    open_to_all = {
        path for path, methods in document["paths"].items() if not any(m.get("security") for m in methods.values())
    }
    assert open_to_all == {"/health", "/ready"}
