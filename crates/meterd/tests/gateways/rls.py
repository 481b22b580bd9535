"""Asks meterd by the published messages of Envoy's rate limit service: rls.py PORT PORT"""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from envoy.extensions.common.ratelimit.v3 import ratelimit_pb2
from envoy.service.ratelimit.v3 import rls_pb2, rls_pb2_grpc
from google.protobuf import wrappers_pb2

OK = rls_pb2.RateLimitResponse.OK
OVER_LIMIT = rls_pb2.RateLimitResponse.OVER_LIMIT
DAY = rls_pb2.RateLimitResponse.RateLimit.DAY

channels = [grpc.insecure_channel(f"127.0.0.1:{port}") for port in sys.argv[1:]]
services = [rls_pb2_grpc.RateLimitServiceStub(channel) for channel in channels]


def descriptor(*entries, **more):
    pairs = [ratelimit_pb2.RateLimitDescriptor.Entry(key=key, value=value) for key, value in entries]
    return ratelimit_pb2.RateLimitDescriptor(entries=pairs, **more)


def ask(*descriptors, hits=0, domain="shop", service=0, timeout=10):
    request = rls_pb2.RateLimitRequest(domain=domain, descriptors=descriptors, hits_addend=hits)
    return services[service].ShouldRateLimit(request, timeout=timeout)


def expect(got, wanted):
    assert got == wanted, f"{got!r}, not {wanted!r}"


# What a status says.
answer = ask(descriptor(("gcra", "a")), descriptor(("unknown", "b")), descriptor(("free", "c")))
expect(answer.overall_code, OK)
first, second, third = answer.statuses
expect((first.code, first.limit_remaining, first.duration_until_reset.seconds), (OK, 99, 864))
expect((first.current_limit.requests_per_unit, first.current_limit.unit), (100, DAY))
expect((second.code, second.HasField("current_limit")), (OK, False))
expect((third.code, third.limit_remaining), (OK, 2**32 - 1))
headers = {header.key: header.value for header in answer.response_headers_to_add}
expect(headers["ratelimit-policy"], '"gcra";q=100;w=86400')

# Several hits, of the request and of a descriptor, which may be none.
expect(ask(descriptor(("gcra", "a")), hits=10).statuses[0].limit_remaining, 89)
nine = wrappers_pb2.UInt64Value(value=9)
expect(ask(descriptor(("gcra", "a"), hits_addend=nine), hits=50).statuses[0].limit_remaining, 80)
none = wrappers_pb2.UInt64Value(value=0)
expect(ask(descriptor(("gcra", "a"), hits_addend=none)).statuses[0].limit_remaining, 80)
expect(ask(descriptor(("gcra", "a")), hits=81).overall_code, OVER_LIMIT)

# Nested, refused, with a wait, and nothing charged beside.
user = descriptor(("country", "de"), ("user", "u"))
expect([ask(user).overall_code for _ in range(3)], [OK, OK, OVER_LIMIT])
answer = ask(user, descriptor(("log", "a")))
expect([status.code for status in answer.statuses], [OVER_LIMIT, OK])
expect(answer.statuses[1].limit_remaining, 100)
headers = {header.key: header.value for header in answer.response_headers_to_add}
assert 43_000 < int(headers["retry-after"]) <= 43_200, headers

# A limit that the request brings along.
limit = ratelimit_pb2.RateLimitDescriptor.RateLimitOverride(requests_per_unit=3, unit=4)
own = descriptor(("gcra", "own"), limit=limit)
expect([ask(own).overall_code for _ in range(4)], [OK, OK, OK, OVER_LIMIT])
expect(ask(descriptor(("gcra", "own"))).statuses[0].limit_remaining, 99)

# A domain that is not known limits nothing; what is wrong is told.
expect(ask(descriptor(("a", "b")), domain="nothing").overall_code, OK)
for wrong in ({"domain": ""}, {"descriptors": ()}):
    try:
        ask(*wrong.get("descriptors", (descriptor(("a", "b")),)), domain=wrong.get("domain", "shop"))
        raise AssertionError("it was answered")
    except grpc.RpcError as error:
        expect(error.code(), grpc.StatusCode.INVALID_ARGUMENT)

# Two services and 64 clients admit the limit exactly.
for rule in ("gcra", "window", "log", "slide", "quota", "in_flight"):
    hot = descriptor((rule, "hot over gRPC"))
    with ThreadPoolExecutor(64) as clients:
        codes = list(clients.map(lambda n, hot=hot: ask(hot, service=n % 2, timeout=60).overall_code, range(256)))
    expect((codes.count(OK), codes.count(OVER_LIMIT)), (100, 156))
