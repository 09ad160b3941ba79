"""A service: `service.py [--old-style]`. It tells its port in a line and ends with its input.

In the old style it says about itself what services of 2012 say, which is not even their names.
"""

import asyncio
import sys

from wire import Service, ServiceError

released = asyncio.Event()


async def upcase(_info: dict, parameter: dict) -> dict:
    return {"data": parameter.get("data", "").upper()}


async def fail(_info: dict, _parameter: dict) -> dict:
    raise ServiceError("it failed half way", {"partial": "yes"})


async def wait(_info: dict, parameter: dict) -> dict:
    await released.wait()
    return {"data": parameter["data"]}


async def release(_info: dict, _parameter: dict) -> dict:
    released.set()
    return {"data": ""}


async def info(info: dict, _parameter: dict) -> dict:
    return {"requestid": info["requestid"], "deadlinems": info.get("deadlinems", -1)}


async def main(old_style: bool) -> None:
    methods = {"Upcase": upcase, "Fail": fail, "Wait": wait, "Release": release, "Info": info}
    identity = {
        "name": "Polyglot",
        "version": "7",
        "uuid": "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee",
    }
    service = Service("Polyglot", methods, {} if old_style else identity)
    server = await service.serve("127.0.0.1", 0)
    print("port", server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main("--old-style" in sys.argv[1:]))
