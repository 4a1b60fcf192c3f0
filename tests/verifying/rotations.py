"""Verifiers of strangers while the keys are replaced: rotations.py FOLDER JOSE, the path of jose.mjs. PyJWT and jose have the settings that they come with.

Runs below faketime, with a clock that is SPEED times as fast for the server and for the verifiers: a new key is published for ten
minutes before it signs, and that is two seconds. Deadlines of connections are not what this is about, and are far away or real.
"""

import base64
import json
import os
import random
import sys
import threading
import time

import jwt
from server import Server, Verifier

ROTATIONS, SPEED = 20, 300
ALGORITHMS = ["ES256", "EdDSA", "RS256"]
server = Server(f"{sys.argv[1]}/rotations")
began = time.time()
# Only the wall clock of these two is fast: keys, tokens and jose's cache go by it, deadlines by the other one.
wall_clock = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
server.start("--token-lifetime", "1h", "--purge-interval", "200ms", **wall_clock)
server.token("ann@example.com", "register")
server.token("boss@example.com", "register")
server.cli("user", "promote", "boss@example.com")
jose = Verifier("jose", ["node", sys.argv[2]], ISSUER=server.url, AUDIENCE="billing", **wall_clock)
pyjwt = jwt.PyJWKClient(f"{server.url}/.well-known/jwks.json", timeout=30 * SPEED)
cache = jwt.PyJWKClient(f"{server.url}/.well-known/jwks.json", timeout=30 * SPEED)
cache_lock = threading.Lock()


def decoded(part):
    return json.loads(base64.urlsafe_b64decode(part + "=="))


def by_pyjwt(token, key=None):
    key = key or pyjwt.get_signing_key_from_jwt(token)
    jwt.decode(token, key, algorithms=ALGORITHMS, issuer=server.url, audience="billing")


def by_cache_alone(token):
    """Asks for the keys every five minutes, and never for an unknown one, as some gateways do."""
    with cache_lock:
        keys = cache.get_signing_keys()
    key = cache.match_kid(keys, jwt.get_unverified_header(token)["kid"])
    assert key, "the key is not in the cache"
    by_pyjwt(token, key)


def by_jose(token):
    assert (said := jose(token)) == "ok", said


def by_latchkey(token):
    status, body = server.call("GET", "/api/v1/auth/user", token)
    assert status == 200, body


VERIFIERS = [by_pyjwt, by_cache_alone, by_jose, by_latchkey]
issued, checks, refused, kids, over = [], [0], [], set(), threading.Event()


def check(token):
    expires_at = decoded(token.split(".")[1])["exp"]
    if expires_at <= time.time():
        return
    for verify in VERIFIERS:
        try:
            verify(token)
        except Exception as error:
            if time.time() < expires_at:
                refused.append(f"{verify.__name__}: {type(error).__name__}: {error}")
    checks[0] += 1


def load():
    """Makes tokens until the end, and verifies each, and again one of those that were made before."""
    while not over.is_set():
        try:
            token = server.token("ann@example.com")
            kids.add(decoded(token.split(".")[0])["kid"])
            issued.append(token)
            check(token)
            check(random.choice(issued[-2000:]))
        except Exception as error:
            refused.append(f"the load ended: {error!r}")
            return


threads = [threading.Thread(target=load) for _ in range(2)]
for thread in threads:
    thread.start()
try:
    for number in range(ROTATIONS):
        boss = server.token("boss@example.com")
        status, key = server.call("POST", "/api/v1/keys/rotate", boss, algorithm=ALGORITHMS[number % 3])
        assert status == 201, key
        published_at = time.time()
        while key["kid"] not in kids and not refused:
            assert time.time() - published_at < 3600, "the new key does not sign"
            time.sleep(10)
        waited = time.time() - published_at
        if refused:
            break
        assert waited > 590, f"the key signed after {waited} s"
    over.set()
    for thread in threads:
        thread.join()
    alive = [token for token in issued if decoded(token.split(".")[1])["exp"] > time.time() + 600]
    for token in random.sample(alive, min(500, len(alive))):
        check(token)
finally:
    over.set()
    jose.stop()
    server.stop()
assert not refused, f"{len(refused)} refused: {refused[:5]}"
print(f"{ROTATIONS} rotations with {len(kids)} keys in {(time.time() - began) / 3600:.1f} h of a fast clock: none of {len(issued)} tokens was "
      f"refused, in {checks[0]} checks each by PyJWT, by jose, by a cache alone and by latchkey")
