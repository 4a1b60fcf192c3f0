# Verifies access tokens of latchkey without a call for each token, and knows which of them were logged out.
#
# pip install 'PyJWT[crypto]'
# ISSUER=https://login.example.com AUDIENCE=billing SECRET=lks_… python verifier.py <tokens
import json, os, sys, threading, time, urllib.request
import jwt

ISSUER, AUDIENCE, SECRET = os.environ["ISSUER"], os.environ["AUDIENCE"], os.environ["SECRET"]
ALGORITHMS = ["ES256", "EdDSA", "RS256"]  # never what the token asks for, and no HS256: its key is secret
known = None  # public keys, dead tokens by jti, changed users by sub; None until everything that is dead has been read

def verify(token):
    """Returns the claims of a valid token. Answer 401 to jwt.PyJWTError, and 503 to ConnectionError and PyJWKClientConnectionError."""
    if known is None:
        raise ConnectionError("it is not known yet which tokens are dead")
    keys, tokens, users = known
    key = keys.get_signing_key_from_jwt(token)  # from the cache, which asks for the keys again after five minutes
    options = {"require": ["exp", "iss", "aud"], "verify_iat": False}  # iat is not for refusing: clocks differ by seconds
    claims = jwt.decode(token, key, algorithms=ALGORITHMS, issuer=ISSUER, audience=AUDIENCE, options=options)
    user = users.get(claims["sub"], {"min_epoch": 0, "admin": True})
    if claims["jti"] in tokens or claims["epoch"] < user["min_epoch"]:
        raise jwt.InvalidTokenError("the token is dead")
    claims["admin"] = claims["admin"] and user["admin"]  # the user may have been demoted since
    return claims

def follow():
    """Keeps `known` up to date. Runs in a thread that must never end: the list would grow old unnoticed."""
    global known
    cursor, forget_at = None, 0
    while True:
        try:
            if cursor is None:  # begin, or begin anew: new keys too, because a restore has replaced them
                keys, tokens, users = jwt.PyJWKClient(f"{ISSUER}/.well-known/jwks.json"), {}, {}
            url = f"{ISSUER}/api/v1/token/revocations" + (f"?after={cursor}&wait=30" if cursor else "")
            request = urllib.request.Request(url, headers={"Authorization": f"Bearer {SECRET}"})
            with urllib.request.urlopen(request, timeout=40) as answer:
                page = json.load(answer)
            tokens.update((token["jti"], token) for token in page["tokens"])
            users.update((user["sub"], user) for user in page["users"])
            cursor = page["cursor"]
            if not page["more"]:
                known = keys, tokens, users
            if time.time() >= forget_at:  # what has expired is refused anyway
                for entries in tokens, users:
                    [entries.pop(name) for name, entry in list(entries.items()) if entry["exp"] <= time.time()]
                forget_at = time.time() + 60
        except Exception as error:  # go on with what is known, until the keys are five minutes old
            if getattr(error, "code", None) == 410:  # the server has other data: a backup was restored
                cursor = known = None
            time.sleep(1)

threading.Thread(target=follow, daemon=True).start()
for line in sys.stdin:  # your service calls verify() for each request instead
    try:
        print("ok", json.dumps(verify(line.strip())), flush=True)
    except Exception as error:
        print("refused:", error, flush=True)
