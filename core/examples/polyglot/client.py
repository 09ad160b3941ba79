"""Calls a service in every way that the wire knows: `client.py HOST PORT`.

The service is that of the test beside it; whatever is not as it should be ends this with a word.
"""

import asyncio
import sys

from wire import Client, RpcError, ServiceError


async def fails(call, kind: type, text: str):
    """The error of a call that must fail, and say so in these words."""
    try:
        result = await call
    except kind as error:
        assert str(error) == text, f"{error} is not {text}"
        return error
    raise AssertionError(f"{result} instead of: {text}")


async def main(host: str, port: int) -> None:
    client = await Client.open(host, port)
    name, version = client.handshake["name"], client.handshake["version"]
    assert (name, version) == ("Polyglot", "7"), client.handshake
    assert len(client.handshake["uuid"]) == 36, client.handshake

    assert await client.call("Upcase", {"data": "häuser"}) == {"data": "HÄUSER"}
    # A name that the method does not know is skipped, one that is absent is at its zero.
    assert await client.call("Upcase", {"more": [1, {}]}) == {"data": ""}

    failed = await fails(client.call("Fail", {}), ServiceError, "it failed half way")
    assert failed.out == {"partial": "yes"}, failed.out
    unknown = await fails(client.call("Nope", {}), RpcError, 'No such method "Nope"')
    assert unknown.code == "no_method"
    text = "rpc: can't find service Wrong.Forward"
    await fails(client.call("Upcase", {}, service="Wrong"), RpcError, text)

    # Three at once on one connection: the first waits until the last lets it go.
    n_before = len(client.order)
    waits = client.send("Wait", {"data": "first"})
    assert await client.call("Upcase", {"data": "x"}) == {"data": "X"}
    assert not waits.done()
    assert await client.call("Release", {}) == {"data": ""}
    assert await waits == {"data": "first"}
    first = client.order[n_before:]
    assert first[0] == min(first) + 1, f"answered in the order {first}"

    # How long we wait goes along; what nobody waits for any more is not begun.
    left = (await client.call("Left", {}, deadlinems=60_000))["ms"]
    assert 0 < left <= 60_000, left
    assert (await client.call("Left", {}))["ms"] == -1
    text = "the deadline had passed before the method began"
    expired = await fails(client.call("Left", {}, deadlinems=-1), RpcError, text)
    assert expired.code == "expired"

    # The request's id and the address are told; the latter is the connection's, whatever we say.
    said = await client.call("Who", {}, requestid="the-id", originaddress="192.0.2.1:1")
    own = "%s:%s" % client.writer.get_extra_info("sockname")
    assert said == {"data": f"the-id {own}"}, said

    # A service that drains says so to whoever asked for notices, and to nobody else.
    told = await Client.open(host, port, notices=True)
    assert await told.call("Upcase", {"data": "y"}) == {"data": "Y"}
    assert await client.call("Drain", {}) == {"data": ""}
    await told.until_closed()
    assert [notice["servicemethod"] for notice in told.notices] == ["Skynet.Drain"], told.notices
    assert told.notices[0]["seq"] == -1 and told.notices[0]["gracems"] > 0, told.notices
    await client.until_closed()
    assert client.notices == [], client.notices
    print("everything was as it should be")


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(main(sys.argv[1], int(sys.argv[2])), 60))
