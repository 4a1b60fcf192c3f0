"""The verifiers of examples/ against a server: examples.py FOLDER [NAME COMMAND]…, where a command is a JSON list."""

import base64
import hashlib
import hmac
import json
import sys
import time

from server import PASSWORD, Server, Verifier

folder, *named = sys.argv[1:]
server = Server(f"{folder}/server")
others = Server(f"{folder}/others", public_url=server.url)
verifiers = []
began = time.monotonic()


def claim(text):
    print(f"{time.monotonic() - began:3.0f} s  {text}", flush=True)


def await_all(token, outcome, within_s):
    """Asserts that every verifier gives the outcome, `ok` or `refused`, within that time. Returns the seconds that it took."""
    start = time.monotonic()
    for verifier in verifiers:
        while not (said := verifier(token)).startswith(outcome):
            assert time.monotonic() - start < within_s, f"{verifier.name}, {within_s} s later: {said}, and not {outcome}"
            time.sleep(0.01)
        assert time.monotonic() - start < within_s, f"{verifier.name}: {time.monotonic() - start} s"
    return time.monotonic() - start


def all_say(token, outcome):
    for verifier in verifiers:
        said = verifier(token)
        assert said.startswith(outcome), f"{verifier.name}: {said}, and not {outcome}"


def admin_by_all(token):
    return [json.loads(verifier(token).removeprefix("ok "))["admin"] for verifier in verifiers]


def encoded(data):
    return base64.urlsafe_b64encode(data if isinstance(data, bytes) else json.dumps(data).encode()).rstrip(b"=").decode()


def forged(token):
    """Returns tokens with the claims of a good one that nobody signed with a key of the server."""
    header, claims, signature = token.split(".")
    header = json.loads(base64.urlsafe_b64decode(header + "=="))
    key = server.call("GET", "/.well-known/jwks.json")[1]["keys"][0]
    yield f"{encoded({**header, 'alg': 'none'})}.{claims}."
    for secret in key["x"].encode(), json.dumps(key).encode():
        start = f"{encoded({**header, 'alg': 'HS256'})}.{claims}"
        yield f"{start}.{encoded(hmac.digest(secret, start.encode(), hashlib.sha256))}"
    more = json.loads(base64.urlsafe_b64decode(claims + "==")) | {"admin": True}
    yield f"{encoded(header)}.{encoded(more)}.{signature}"
    yield from ("", "nonsense", "a.b.c", token[:-4], f"{encoded({'alg': 'ES256'})}.{claims}.{signature}")


def run():
    server.start()
    service = json.loads(server.cli("service", "add", "billing", "--json"))
    ann = server.token("ann@example.com", "register")
    gone = server.token("gone@example.com", "register")
    assert server.call("POST", "/api/v1/auth/logout", gone)[0] == 200
    server.stop()
    for name, command in zip(named[::2], named[1::2]):
        verifiers.append(Verifier(name, json.loads(command), ISSUER=server.url, AUDIENCE="billing", SECRET=service["secret"]))
    for _ in range(30):
        all_say(ann, "refused")
        time.sleep(0.01)
    claim("nothing is accepted before all that is dead is known")
    server.start()
    await_all(ann, "ok", 5)
    all_say(gone, "refused")
    claim("a good token is accepted; one that was logged out before the verifier began is not")

    slowest = 0
    for number in range(10):
        token = server.token("ann@example.com")
        await_all(token, "ok", 1)
        assert server.call("POST", "/api/v1/auth/logout", token)[0] == 200
        slowest = max(slowest, await_all(token, "refused", 1))
    all_say(ann, "ok")
    claim(f"refused within 1 s of the logout: all of them after {slowest * 1000:.0f} ms at most; other tokens go on")

    def dies(email, end):
        token = server.token(email, "register")
        await_all(token, "ok", 1)
        end(token)
        await_all(token, "refused", 1)

    dies("all@example.com", lambda token: server.call("POST", "/api/v1/auth/logout-all", token))
    all_again = server.token("all@example.com")
    await_all(all_again, "ok", 1)
    dies("pw@example.com", lambda token: server.call("POST", "/api/v1/auth/password", token, current_password=PASSWORD,
                                                    new_password=PASSWORD * 2))
    dies("off@example.com", lambda token: server.cli("user", "disable", "off@example.com"))
    dies("del@example.com", lambda token: server.cli("user", "remove", "del@example.com"))
    claim("refused within 1 s of logging out everywhere, a new password, disabling and removing; a later token is accepted")
    server.token("boss@example.com", "register")
    server.cli("user", "promote", "boss@example.com")
    server.cli("user", "promote", "ann@example.com")  # because the last administrator cannot be demoted
    boss = server.token("boss@example.com")
    assert all(admin_by_all(boss)), "is an administrator"
    server.cli("user", "demote", "boss@example.com")
    end = time.monotonic() + 1
    while any(verifier(boss).startswith("ok") and json.loads(verifier(boss).removeprefix("ok "))["admin"] for verifier in verifiers):
        assert time.monotonic() < end, "is an administrator a second after the demotion"
    claim("no administrator any more within 1 s of the demotion")

    lines = len(open(server.log).readlines())
    for _ in range(300):
        all_say(ann, "ok")
    more = len(open(server.log).readlines()) - lines
    assert more < 20, f"{more} requests"
    claim(f"{300 * len(verifiers)} tokens verified with {more} requests to the server")

    for token in forged(ann):
        all_say(token, "refused")
    others.start()
    all_say(others.token("ann@example.com", "register"), "refused")
    others.stop()
    claim("refused: forged, altered and foreign tokens, no alg, HS256 with the public key")

    server.cli("key", "rotate", "--now")
    rotated = server.token("ann@example.com")
    waited = await_all(rotated, "ok", 45)
    all_say(ann, "ok")
    claim(f"after `key rotate --now` the new token is accepted, {waited:.0f} s later; the old one stays")

    server.stop()
    all_say(ann, "ok")
    all_say(gone, "refused")
    server.start()
    assert server.call("POST", "/api/v1/auth/logout", rotated)[0] == 200
    await_all(rotated, "refused", 3)
    token = server.token("ann@example.com")
    assert server.call("POST", "/api/v1/auth/logout", token)[0] == 200
    await_all(token, "refused", 1)
    all_say(ann, "ok")
    all_say(gone, "refused")
    claim("goes on while the server is away, and learns of logouts again after its restart")

    for wrong in {"audience": "shop"}, {"public_url": "http://localhost:1"}:
        server.stop()
        server.start(**wrong)
        token = server.token("ann@example.com")
        assert server.call("GET", "/api/v1/auth/user", token)[0] == 200
        all_say(token, "refused")
    server.stop()
    server.start("--token-lifetime", "3s")
    brief = server.token("ann@example.com")
    await_all(brief, "ok", 2)
    await_all(brief, "refused", 4)
    claim("refused: for another audience, of another issuer, expired")

    backup = f"{folder}/backup"
    server.cli("backup", backup)
    server.stop()
    server.cli("restore", backup)
    server.start()
    await_all(ann, "refused", 5)
    await_all(server.token("ann@example.com"), "ok", 5)
    all_say(ann, "refused")
    claim("after a restore of a backup, tokens of before are refused and new ones accepted, within seconds")


try:
    run()
finally:
    for process in [server, others, *verifiers]:
        process.stop()
