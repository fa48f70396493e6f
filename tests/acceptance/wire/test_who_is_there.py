"""The server that all tests of the wire share answers its tenants, and nobody else."""

import httpx
import openai
import pytest
from wire_server import Wire


def test_a_tenant_chats_with_its_key(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="default", messages=[{"role": "user", "content": "Hello"}])

    assert reply.choices[0].message.content


def test_a_stranger_is_refused(wire: Wire) -> None:
    with (
        openai.OpenAI(base_url=f"{wire.url}/v1", api_key="foobar", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()


def test_both_tenants_are_known(cats: httpx.Client, dogs: httpx.Client) -> None:
    assert {client.get("/v1/models").status_code for client in (cats, dogs)} == {200}
