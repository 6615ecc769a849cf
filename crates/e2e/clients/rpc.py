"""A gRPC server and a client with calls of all four kinds, on bytes.

rpc.py server CERTIFICATES KEY
rpc.py client PORT PROXY AUTHORITY
"""

import os
import queue
import random
import sys
from concurrent.futures import ThreadPoolExecutor

EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR" + b"-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
SIZES = [0, 1, 1000, 70_000, 1_500_000]


def noise(seed, size):
    return random.Random(seed).randbytes(size)


def serve(certificates, key):
    import grpc

    def stream(request, context):
        for number in range(int(request)):
            yield noise(number, 10_000 * number)

    def collect(requests, context):
        return b"".join(requests)

    def chat(requests, context):
        for request in requests:
            yield request[::-1]

    def unary(request, context):
        context.set_trailing_metadata([("x-length", str(len(request)))])
        return EICAR if request == b"eicar" else request[::-1]

    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Stream": grpc.unary_stream_rpc_method_handler(stream),
        "Collect": grpc.stream_unary_rpc_method_handler(collect),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
    }
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Bytes", handlers)])
    pair = (open(key, "rb").read(), open(certificates, "rb").read())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    print(f"port {port}", flush=True)
    server.wait_for_termination()


def ask(port, proxy, authority):
    os.environ["grpc_proxy"] = proxy
    import grpc

    roots = grpc.ssl_channel_credentials(open(authority, "rb").read())
    with grpc.secure_channel(f"localhost:{port}", roots) as channel:
        unary = channel.unary_unary("/test.Bytes/Unary")
        for size in SIZES:
            body = noise(size, size)
            answer, call = unary.with_call(body, timeout=100)
            assert answer == body[::-1], size
            assert dict(call.trailing_metadata())["x-length"] == str(size)

        answers = list(channel.unary_stream("/test.Bytes/Stream")(b"20", timeout=100))
        assert answers == [noise(number, 10_000 * number) for number in range(20)]

        parts = [noise(number, 30_000) for number in range(20)]
        assert channel.stream_unary("/test.Bytes/Collect")(iter(parts), timeout=100) == b"".join(parts)

        # Each question is asked once the answer to the one before is there.
        answered = queue.Queue()

        def questions():
            for number in range(20):
                yield noise(number, 1000)
                assert answered.get(timeout=90) == noise(number, 1000)[::-1]

        for answer in channel.stream_stream("/test.Bytes/Chat")(questions(), timeout=100):
            answered.put(answer)

        many = [unary.future(noise(number, 5000), timeout=100) for number in range(50)]
        for number, call in enumerate(many):
            assert call.result() == noise(number, 5000)[::-1]

        for body in [b"eicar", EICAR]:
            try:
                unary(body, timeout=100)
            except grpc.RpcError as error:
                print(f"blocked: {error.code()}")
            else:
                sys.exit("EICAR passed")
    print("all four kinds")


if sys.argv[1] == "server":
    serve(*sys.argv[2:])
else:
    ask(*sys.argv[2:])
