// Verifies access tokens of latchkey without a call for each token, and knows which of them were logged out.
//
// npm install
// ISSUER=https://login.example.com AUDIENCE=billing SECRET=lks_… node verifier.js <tokens
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { createRemoteJWKSet, jwtVerify } from "jose";

const { ISSUER, AUDIENCE, SECRET } = process.env;
const algorithms = ["ES256", "EdDSA", "RS256"]; // never what the token asks for, and no HS256: its key is secret
let known = null; // public keys, dead tokens by jti, changed users by sub; null until everything that is dead has been read

// Returns the claims of a valid token. Answer 401 if it throws an error with a code ERR_JW…, such as ERR_JWT_EXPIRED, and else 503.
export async function verify(token) {
  if (!known) throw new Error("it is not known yet which tokens are dead");
  const { keys, tokens, users } = known;
  const checks = { algorithms, issuer: ISSUER, audience: AUDIENCE, requiredClaims: ["exp"] };
  const { payload } = await jwtVerify(token, keys, checks);
  const user = users.get(payload.sub) ?? { min_epoch: 0, admin: true };
  if (tokens.has(payload.jti) || payload.epoch < user.min_epoch)
    throw Object.assign(new Error("the token is dead"), { code: "ERR_JWT_REVOKED" });
  return { ...payload, admin: payload.admin && user.admin }; // the user may have been demoted since
}

// Keeps `known` up to date. It must never end: the list would grow old unnoticed.
async function follow() {
  const headers = { Authorization: `Bearer ${SECRET}` };
  const jwks = new URL("/.well-known/jwks.json", ISSUER);
  let found, cursor, forgetAt = 0;
  for (;;) {
    try {
      // Begin, or begin anew: new keys too, because a restore has replaced them.
      found = cursor ? found : { keys: createRemoteJWKSet(jwks, { cacheMaxAge: 300_000 }), tokens: new Map(), users: new Map() };
      const query = cursor ? `?after=${cursor}&wait=30` : "";
      const signal = AbortSignal.timeout(40_000);
      const answer = await fetch(`${ISSUER}/api/v1/token/revocations${query}`, { headers, signal });
      const page = await answer.json(); // read it always, so that the connection can be used again
      if (answer.status === 410) cursor = known = null; // the server has other data: a backup was restored
      if (answer.status !== 200) throw new Error(`latchkey answered ${answer.status}`);
      for (const token of page.tokens) found.tokens.set(token.jti, token);
      for (const user of page.users) found.users.set(user.sub, user);
      cursor = page.cursor;
      if (!page.more) known = found;
      if (Date.now() < forgetAt) continue;
      for (const entries of [found.tokens, found.users]) // what has expired is refused anyway
        for (const [name, { exp }] of entries) if (exp <= Date.now() / 1000) entries.delete(name);
      forgetAt = Date.now() + 60_000;
    } catch {
      await sleep(1000); // and go on with what is known, until the keys are five minutes old
    }
  }
}

follow();
const print = (claims) => console.log("ok", JSON.stringify(claims));
for await (const line of createInterface({ input: process.stdin })) // your service calls verify() for each request instead
  await verify(line.trim()).then(print, (error) => console.log("refused:", error.message));
process.exit();
