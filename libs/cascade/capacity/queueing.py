"""M/M/c: c servers, one queue, first come first served; arrivals Poisson, service times exponential.

Erlang 1917; Kleinrock 1975, "Queueing Systems I", chapter 3; the distribution of the response time, Gross and Harris,
"Fundamentals of Queueing Theory", section 2.3. Rates are a second, times seconds, `a` = rate × service the offered
load in servers.
"""

from __future__ import annotations

import math

P99 = 0.99
_ROUNDS = 200


def erlang_b(load: float, servers: int) -> float:
    """Probability that all of `servers` are busy where nothing may wait; by the recursion that does not overflow."""
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked


def erlang_c(load: float, servers: int) -> float:
    """Probability that an arrival waits; 1 where the servers do not keep up (`load` ≥ `servers`)."""
    if load >= servers:
        return 1.0
    blocked = erlang_b(load, servers)
    return servers * blocked / (servers - load * (1 - blocked))


def mean_wait(rate: float, service: float, servers: int) -> float:
    """Mean seconds in the queue; infinite where the servers do not keep up."""
    load = rate * service
    if load >= servers:
        return math.inf
    return erlang_c(load, servers) * service / (servers - load)


def wait_quantile(rate: float, service: float, servers: int, share: float = P99) -> float:
    """Seconds that so many of the arrivals wait at most: P(wait > t) = C e^(−(c − a) t / service)."""
    load = rate * service
    if load >= servers:
        return math.inf
    waits = erlang_c(load, servers)
    return max(0.0, math.log(waits / (1 - share)) * service / (servers - load)) if waits > 0 else 0.0


def late(rate: float, service: float, servers: int, seconds: float) -> float:
    """Probability that wait and service together take longer than `seconds`."""
    load = rate * service
    if load >= servers:
        return 1.0
    at, waits = seconds / service, erlang_c(load, servers)
    spare = servers - load - 1
    if abs(spare * at) < 1:  # where the difference below would lose its digits
        grown = at if abs(spare * at) < 1e-9 else -math.expm1(-spare * at) / spare
        return math.exp(-at) * (1 + waits * grown)
    return math.exp(-at) + waits * (math.exp(-at) - math.exp(-(servers - load) * at)) / spare


def response_quantile(rate: float, service: float, servers: int, share: float = P99) -> float:
    """Seconds that wait and service of so many of the arrivals take at most; infinite without enough servers."""
    if rate * service >= servers:
        return math.inf
    low, high = 0.0, service
    while late(rate, service, servers, high) > 1 - share:
        low, high = high, 2 * high
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if late(rate, service, servers, middle) > 1 - share else (low, middle)
    return high


def service_quantile(service: float, share: float = P99) -> float:
    """What `response_quantile` comes down to, however many servers there are."""
    return -math.log(1 - share) * service
