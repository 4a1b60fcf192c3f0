// A stranger's verifier: jose, as its documentation has it, with its own settings of the cache.
import { createInterface } from "node:readline";
import { createRemoteJWKSet, jwtVerify } from "jose";

const { ISSUER: issuer, AUDIENCE: audience } = process.env;
const keys = createRemoteJWKSet(new URL(`${issuer}/.well-known/jwks.json`));
for await (const line of createInterface({ input: process.stdin }))
  await jwtVerify(line, keys, { issuer, audience }).then(() => console.log("ok"), (error) => console.log(error.message));
