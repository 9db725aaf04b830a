"""The OpenAPI document that is served: complete, and about the paths that there are."""

import re
from typing import Any

from dhtmeta.daemon.openapi import document
from dhtmeta.daemon.responses import _STATUS
from dhtmeta.daemon.schemas import SCHEMAS
from dhtmeta.node import Node
from dhtmeta.values.signed_file import _FIELDS
from tests.daemon.http_server import serving

OPERATIONS = {
    (method, path): operation
    for path, item in document()["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
}


def references(node: Any) -> set[str]:
    """Return every $ref within."""
    if isinstance(node, list):
        return set().union(*map(references, node)) if node else set()
    if isinstance(node, dict):
        own = {node["$ref"]} if "$ref" in node else set()
        return own.union(*map(references, node.values()))
    return set()


async def test_it_is_what_is_served(writer: Node) -> None:
    async with serving(writer) as served:
        assert (await served.get("/openapi.json")).json == document()


async def test_every_path_of_the_server_is_in_it_and_no_other(writer: Node) -> None:
    async with serving(writer) as served:
        resources = served.server._listener._runner.app.router.resources()
        routes = {
            (route.method.lower(), resource.canonical)
            for resource in resources
            for route in resource
            if route.method != "HEAD"  # whatever has GET has that, too
        }
    assert routes == set(OPERATIONS)


def test_every_status_that_an_error_becomes_is_in_it() -> None:
    put = OPERATIONS["put", "/v1/records/{public_key}"]["responses"]
    got = OPERATIONS["get", "/v1/records/{public_key}"]["responses"]
    assert {str(status) for status in _STATUS.values()} <= put.keys() | got.keys()


def test_every_reference_leads_somewhere() -> None:
    names = {ref.removeprefix("#/components/schemas/") for ref in references(document())}
    assert names == set(SCHEMAS)


def test_every_parameter_of_a_path_is_described() -> None:
    for path, item in document()["paths"].items():
        given = {one["name"] for one in item.get("parameters", []) if one["in"] == "path"}
        assert given == set(re.findall("{(.*?)}", path))


def test_a_signed_file_has_the_fields_that_it_has() -> None:
    assert set(SCHEMAS["SignedFile"]["properties"]) == set(_FIELDS)
