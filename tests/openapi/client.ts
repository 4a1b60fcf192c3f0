// A client of openapi-fetch with the types of openapi-typescript calls the server at BASE; ADMIN is an administrator there.

import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

const baseUrl = process.env.BASE!;
const admins = process.env.ADMIN!;
const email = "typescript@example.com";
const password = "correct horse battery staple";
const names = [...Array(6).keys()].map((number) => `typescript-${number}`);

const stranger = createClient<paths>({ baseUrl });

async function loggedIn(email: string) {
    const { data, error } = await stranger.POST("/auth/login", { body: { email, password } });
    assert(data, error?.message);
    return createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${data.access_token}` } });
}

const registered = await stranger.POST("/auth/register", { body: { email, password } });
assert.equal(registered.data?.token_type, "bearer");
const [user, admin] = [await loggedIn(email), await loggedIn(admins)];

for (const name of names) {
    const body = { name, info_url: "https://example.com", deadline: "2999-01-01" };
    const { data, error } = await admin.POST("/widgets", { body });
    assert(data, error?.message);
}

const widgets: components["schemas"]["Widget"][] = [];
let page = 1;
for (; ; page++) {
    const { data, error } = await user.GET("/widgets", { params: { query: { page, per_page: 5 } } });
    assert(data, error?.message);
    widgets.push(...data.items);
    if (!data.has_next) break;
}
assert.equal(page, 2);
assert.deepEqual(widgets.map((widget) => [widget.name, widget.owner?.email]), names.map((name) => [name, admins]));

for (const name of names) {
    const { response } = await admin.DELETE("/widgets/{name}", { params: { path: { name } } });
    assert.equal(response.status, 204);
}
const gone = await user.GET("/widgets/{name}", { params: { path: { name: names[0]! } } });
assert.equal(gone.error?.status, "fail");
const removed = await user.DELETE("/auth/user", { body: { password } });
assert.equal(removed.response.status, 204);
const refused = await stranger.POST("/auth/login", { body: { email, password } });
assert.equal(refused.response.status, 401);
