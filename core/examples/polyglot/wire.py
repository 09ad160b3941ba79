"""Skynet's BSON RPC in Python, written from the description of the wire and from nothing else.

A message is a bare BSON document; a request is a header and a body, and so is an answer. Parameters
and results are documents inside of a binary field.
"""

import asyncio
import itertools
import struct
import uuid

import bson
from bson.int64 import Int64

MAX_FRAME = 16 * 1024 * 1024


class Ended(Exception):
    """The peer closed the connection."""


async def read_document(reader: asyncio.StreamReader) -> dict:
    """The next document, its length judged before the rest is waited for."""
    try:
        prefix = await reader.readexactly(4)
        (length,) = struct.unpack("<I", prefix)
        if not 5 <= length <= MAX_FRAME:
            raise ValueError(f"a document announces {length} bytes")
        return bson.decode(prefix + await reader.readexactly(length - 4))
    except (asyncio.IncompleteReadError, ConnectionResetError) as error:
        raise Ended("the peer closed the connection") from error


class RpcError(Exception):
    """The method was not reached: the text for people, and the word for programs."""

    def __init__(self, text: str, code: str):
        super().__init__(text)
        self.code = code


class ServiceError(Exception):
    """The method failed; beside its error it may have a result, as far as it was filled in."""

    def __init__(self, text: str, out: dict | None = None):
        super().__init__(text)
        self.out = out or {}


class Client:
    """One connection to one instance; calls run at the same time and end in any order."""

    def __init__(self, reader, writer, handshake: dict):
        self.reader, self.writer, self.handshake = reader, writer, handshake
        self.waiting: dict[int, asyncio.Future] = {}
        self.numbers = itertools.count()
        self.notices: list[dict] = []
        self.order: list[int] = []
        self.task = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, host: str, port: int, notices: bool = False) -> "Client":
        reader, writer = await asyncio.open_connection(host, port)
        handshake = await read_document(reader)
        writer.write(bson.encode({"notices": True} if notices else {}))
        if not handshake.get("registered", False):
            writer.close()
            raise RpcError("the service is not registered", "unregistered")
        return cls(reader, writer, handshake)

    def send(self, method: str, parameter: dict, service: str = "", **info) -> asyncio.Future:
        """Sends a request; the future is its result."""
        seq = next(self.numbers)
        service = service or self.handshake["name"]
        answer = asyncio.get_running_loop().create_future()
        self.waiting[seq] = answer
        header = {"servicemethod": f"{service}.Forward", "seq": Int64(seq)}
        request_info = {
            "originaddress": "",
            "connectionaddress": "",
            "requestid": str(uuid.uuid4()),
            "retrycount": 0,
        }
        body = {
            "clientid": self.handshake["clientid"],
            "method": method,
            "requestinfo": request_info | info,
            "in": bson.encode(parameter),
        }
        self.writer.write(bson.encode(header) + bson.encode(body))
        return answer

    async def call(self, method: str, parameter: dict, **options) -> dict:
        return await self.send(method, parameter, **options)

    async def until_closed(self) -> None:
        """Reads on until the service closes."""
        await self.task

    async def _read(self) -> None:
        try:
            while True:
                header = await read_document(self.reader)
                body = await read_document(self.reader)
                self._answer(header, body)
        except Ended as ended:
            for answer in self.waiting.values():
                answer.set_exception(ended)
            self.waiting.clear()
            self.writer.close()

    def _answer(self, header: dict, body: dict) -> None:
        answer = self.waiting.pop(header["seq"], None)
        if answer is None:
            # Nobody waits for it: a notice, if we asked for notices.
            self.notices.append(header | body)
            return
        self.order.append(header["seq"])
        if header.get("error"):
            answer.set_exception(RpcError(header["error"], header.get("code", "")))
        elif body.get("errstring"):
            answer.set_exception(ServiceError(body["errstring"], bson.decode(body["out"])))
        else:
            answer.set_result(bson.decode(body["out"]))


class Service:
    """Methods by name, answered on as many connections as come, each request in its own task."""

    def __init__(self, name: str, methods: dict, identity: dict | None = None):
        self.name, self.methods = name, methods
        # What services of 2012 do not say about themselves.
        self.identity = identity or {}

    async def serve(self, host: str, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._connection, host, port)

    async def _connection(self, reader, writer) -> None:
        client_id = str(uuid.uuid4())
        handshake = {"registered": True, "clientid": client_id} | self.identity
        writer.write(bson.encode(handshake))
        tasks = set()
        try:
            await read_document(reader)
            while True:
                header = await read_document(reader)
                body = await read_document(reader)
                task = asyncio.create_task(self._request(writer, client_id, header, body))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        except Ended:
            await asyncio.gather(*tasks)
        finally:
            writer.close()

    async def _request(self, writer, client_id: str, header: dict, body: dict) -> None:
        answer = {
            "servicemethod": header.get("servicemethod", ""),
            "seq": Int64(header.get("seq", 0)),
            "error": "",
        }
        try:
            outcome = await self._run(answer["servicemethod"], client_id, body)
        except RpcError as error:
            answer |= {"error": str(error)} | ({"code": error.code} if self.identity else {})
            outcome = {}
        # Both in one piece, so that no other answer comes between them.
        writer.write(bson.encode(answer) + bson.encode(outcome))

    async def _run(self, service_method: str, client_id: str, body: dict) -> dict:
        if service_method == "Skynet.Ping":
            return {}
        service, dot, forward = service_method.rpartition(".")
        if not dot:
            text = f"rpc: service/method request ill-formed: {service_method}"
            raise RpcError(text, "bad_request")
        if service != self.name:
            raise RpcError(f"rpc: can't find service {service_method}", "no_method")
        if forward != "Forward":
            raise RpcError(f"rpc: can't find method {service_method}", "no_method")
        if body.get("clientid") != client_id:
            raise RpcError("did not provide the ClientID", "bad_request")
        method = self.methods.get(body.get("method"))
        if method is None:
            raise RpcError(f'No such method "{body.get("method")}"', "no_method")
        try:
            parameter = bson.decode(body.get("in") or b"")
        except bson.errors.InvalidBSON:
            raise RpcError("Document is corrupted", "bad_request") from None
        try:
            result = await method(body.get("requestinfo") or {}, parameter)
        except ServiceError as error:
            return {"out": bson.encode(error.out), "errstring": str(error)}
        return {"out": bson.encode(result), "errstring": ""}
